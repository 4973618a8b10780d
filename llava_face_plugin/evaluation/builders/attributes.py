"""Yes/no questions about every known attribute of a picture or clip: CelebA and its kin."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from ...data.datasets.celebvhq import ACTION
from ...data.made_motion import TEMPORAL
from ...data.wording import bare_question
from ..questions import Question
from ._shown import MEDIA, Rows, Shown, clips, pictures
from .base import Benchmark, Source


def attribute_questions(rows: Rows = pictures, actions: Collection[str] = ()) -> Callable[[Source], Iterator[Question]]:
    """A builder: one question a row and known attribute, in the vocabulary's order. ``actions`` are asked about where
    the clip is shown: a middle frame does not show what happens before and after it."""

    def questions(source: Source) -> Iterator[Question]:
        asked = frozenset(source.the_manifest().vocabulary)
        if actions and source.options["media"] == "frame":
            asked -= frozenset(actions)
            source.notes.append(f"left out: {len(actions)} actions, which one frame does not show (--set media=video)")
        for shown in rows(source):
            yield from about(source, shown, asked)

    return questions


def about(source: Source, shown: Shown, asked: frozenset[str]) -> Iterator[Question]:
    """The questions about one row, of the attributes ``asked``."""
    m = source.the_manifest()
    for name, known in zip(m.vocabulary, m.attributes[shown.row].tolist(), strict=True):
        if known >= 0 and name in asked:
            yield shown.yes_no(name, bare_question(name), bool(known))


BENCHMARKS = (
    Benchmark("face_celeba", "CelebA: 40 attributes", attribute_questions(), ("celeba",)),
    Benchmark("face_maadface", "MAAD-Face: 47 attributes of VGGFace2's images", attribute_questions(), ("maadface",)),
    Benchmark("face_lfwa", "LFWA: CelebA's 40 attributes on LFW", attribute_questions(), ("lfwa",)),
    Benchmark(
        "face_celebvhq", "CelebV-HQ: 83 attributes of clips (48 of a frame)", attribute_questions(clips, ACTION),
        ("celebvhq",), settings=MEDIA,
    ),
    Benchmark(
        "face_made_video", "Drawn clips: 28 attributes, 8 of them events (20 of a frame)",
        attribute_questions(clips, TEMPORAL), ("made-video",), split="val", settings=MEDIA,
    ),
    Benchmark("face_made", "Drawn faces: 20 attributes, no real person", attribute_questions(), ("made",), split="val"),
)  # fmt: skip
