"""Yes/no questions about every known attribute of a picture or clip: CelebA and its kin."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ...data.wording import bare_question
from ..questions import Question
from ._shown import MEDIA, Rows, Shown, clips, pictures
from .base import Benchmark, Source


def attribute_questions(rows: Rows = pictures) -> Callable[[Source], Iterator[Question]]:
    """A builder: one question a row and known attribute, in the vocabulary's order."""

    def questions(source: Source) -> Iterator[Question]:
        for shown in rows(source):
            yield from about(source, shown)

    return questions


def about(source: Source, shown: Shown, only: frozenset[str] | None = None) -> Iterator[Question]:
    """The questions about one row. ``only``: these attributes, None = all."""
    m = source.the_manifest()
    for name, known in zip(m.vocabulary, m.attributes[shown.row].tolist(), strict=True):
        if known >= 0 and (only is None or name in only):
            yield shown.yes_no(name, bare_question(name), bool(known))


BENCHMARKS = (
    Benchmark("face_celeba", "CelebA: 40 attributes", attribute_questions(), ("celeba",)),
    Benchmark("face_maadface", "MAAD-Face: 47 attributes of VGGFace2's images", attribute_questions(), ("maadface",)),
    Benchmark("face_lfwa", "LFWA: CelebA's 40 attributes on LFW", attribute_questions(), ("lfwa",)),
    Benchmark(
        "face_celebvhq", "CelebV-HQ: 83 attributes of clips", attribute_questions(clips), ("celebvhq",), settings=MEDIA
    ),
    Benchmark("face_made", "Drawn faces: 20 attributes, no real person", attribute_questions(), ("made",), split="val"),
)
