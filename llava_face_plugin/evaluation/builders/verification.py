"""One person or two? Pairs of the verification protocols, asked yes or no, and for a similarity from 0 to 100.

A pair's cluster in the bootstrap is the person of its first picture as the list names it: a person's pairs, of either
label, stand or fall together. The dependence through the second person is not covered (a pair of two people belongs to
both), so the intervals are a little too narrow. Where names are unknown (InsightFace's packed sets) each pair is its
own cluster, which a note in the file says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ...data.files import Listing, find_file, source
from ...data.losses import Losses
from ...errors import FaceDataError
from ..questions import Question
from ._packed_pairs import unpack
from ._pairs import Pair, block_pairs, cfp_pairs, flat_pairs, line_pairs, named_pairs
from .base import Benchmark, Source

SAME_PERSON = "Do these two images show the same person?"
SIMILARITY = "How similar are the faces in these two images, from 0 (surely two people) to 100 (surely one person)?"
"""Both our wording: papers differ, and FaceRecBench's could not be seen."""

RACES = ("African", "Asian", "Caucasian", "Indian")

Reader = Callable[[Source, Losses], list[Pair]]
"""Pairs with their images below the root; raises ``FaceDataError``."""


@dataclass(frozen=True)
class Protocol:
    """A set of pairs."""

    name: str
    title: str
    read: Reader
    published: int
    """Pairs of the whole protocol."""
    licence: str
    layout: str


def listed(
    file: str,
    read: Callable[[Path, Losses], list[Pair]],
    folders: Sequence[str],
    packed: str,
    src: Source,
    losses: Losses,
) -> list[Pair]:
    """The pairs of the list ``file``, or of InsightFace's ``packed`` file. Raises ``FaceDataError``.

    ``folders``: those of images below the root; the first that has images of a pair counts (``--set images=`` another).
    """
    wanted = src.options["images"]
    if (path := find_file(src.root, file)) is not None:
        pairs = read(path, losses)
        src.sources.append(source(path, len(pairs)))
        return _placed(src, pairs, (wanted,) if wanted else folders)
    path = src.root / packed
    if not path.is_file():
        raise FaceDataError(f"{src.root}: neither {file} nor {packed} is here{_mat(src.root)}", "missing")
    pairs = block_pairs(path, *unpack(path))
    src.sources.append(source(path, len(pairs)))
    src.notes.append(f"{packed} names nobody: intervals take the pairs as independent, and are too narrow")
    return [replace(pair, person="") for pair in pairs]


def _mat(root: Path) -> str:
    name = "04_FINAL_protocol_30_years.mat"
    path = next((p for p in (root / name, root / "AgeDB_FINAL_protocol" / name) if p.is_file()), None)
    return f" ({path} must be turned into a list first: see the README of face_agedb30)" if path else ""


def cfp(src: Source, losses: Losses) -> list[Pair]:
    """CFP's frontal-profile pairs: its own folder, or InsightFace's files. Raises ``FaceDataError``."""
    for folder in (src.root, src.root / "cfp-dataset"):
        protocol = folder / "Protocol"
        if protocol.is_dir():
            pairs = cfp_pairs(protocol, losses)
            files = [*protocol.glob("Pair_list_[FP].txt"), *protocol.glob("Split/FP/*/*.txt")]
            names = sorted(path.relative_to(protocol).as_posix() for path in files)
            src.sources += [source(protocol / name, len(pairs)) | {"name": name} for name in names]
            return _placed(src, pairs, ("." if folder == src.root else folder.name,))
    return listed("cfp_fp_pair.txt", _flat, ("CFP_FP_aligned_112", "."), "cfp_fp.bin", src, losses)


def rfw(src: Source, losses: Losses) -> list[Pair]:
    """RFW's pairs of all four races. Raises ``FaceDataError``, also where a race is missing."""
    wanted = src.options["images"]
    pairs: list[Pair] = []
    for race in RACES:
        path = find_file(src.root, f"{race}_pairs.txt", (f"txts/{race}", f"test/txts/{race}"))
        if path is None:
            raise FaceDataError(f"{src.root}: no txts/{race}/{race}_pairs.txt, here or in test/", "missing")
        found = named_pairs(path, losses, header=False)
        src.sources.append(source(path, len(found)))
        folders = [f"{folder}/{race}" for folder in ((wanted,) if wanted else ("data", "test/data"))]
        pairs += [replace(p, person=f"{race} {p.person}", group=race) for p in _placed(src, found, folders)]
    return pairs


def _flat(path: Path, losses: Losses) -> list[Pair]:
    return flat_pairs(path)


def _placed(src: Source, pairs: Sequence[Pair], folders: Sequence[str]) -> list[Pair]:
    """The pairs whose images are there, with paths below the root; the others are counted."""
    there = Listing(src.root)
    for folder in folders:
        prefix = "" if folder == "." else f"{folder.rstrip('/')}/"
        kept = [pair for pair in pairs if all(prefix + name in there for name in pair.images)]
        if kept:
            if len(kept) < len(pairs):
                src.skipped["pair without both image files"] += len(pairs) - len(kept)
            return [replace(p, images=(prefix + p.images[0], prefix + p.images[1])) for p in kept]
    example = f" (looked for {pairs[0].images[0]} and so on)" if pairs else ""
    raise FaceDataError(f"{src.root}: no pair has both images in {' or '.join(folders)}{example}", "missing")


def pair_questions(protocol: Protocol, similarity: bool, src: Source) -> Iterator[Question]:
    """One question a pair; ``similarity``: for a number, gold 100 or 0, else yes or no."""
    losses = Losses()
    pairs = protocol.read(src, losses)
    src.skipped.update(losses.skipped)
    src.notes.extend(losses.problems)
    if len(pairs) != protocol.published:
        src.notes.append(f"{len(pairs):,} pairs with images; the whole protocol has {protocol.published:,}")
    grouped = any(pair.group for pair in pairs)
    for pair in pairs:
        key = f"{pair.group or protocol.name}:{pair.number:05d}"
        answer = ("100" if pair.same else "0") if similarity else ("yes" if pair.same else "no")
        yield Question(
            key, key, pair.images, "number" if similarity else "yes_no", SIMILARITY if similarity else SAME_PERSON,
            (answer,), "similarity" if similarity else "same_person", value="same" if pair.same else "different",
            cluster=pair.person, fold=pair.fold, groups={"race": pair.group} if grouped else {},
        )  # fmt: skip


PROTOCOLS = (
    Protocol(
        "lfw", "LFW: View 2, 6,000 pairs",
        partial(
            listed, "pairs.txt", partial(named_pairs, header=True), ("lfw", "lfw_funneled", "lfw-deepfunneled", "."),
            "lfw.bin",
        ),
        6000, "no licence found; research use",
        "pairs.txt\nlfw/Abel_Pacheco/Abel_Pacheco_0001.jpg (or lfw_funneled/, lfw-deepfunneled/, or here)\n"
        "or lfw.bin (InsightFace)",
    ),
    Protocol(
        "calfw", "CALFW: LFW's people years apart, 6,000 pairs",
        partial(
            listed, "pairs_CALFW.txt", line_pairs,
            ("aligned images", "images&landmarks/images&landmarks/images", "images"), "calfw.bin",
        ),
        6000, "terms of the authors' page (not seen); research use",
        "pairs_CALFW.txt\naligned images/Aaron_Eckhart_0001.jpg (or images/)\nor calfw.bin (InsightFace)",
    ),
    Protocol(
        "cplfw", "CPLFW: LFW's people in different poses, 6,000 pairs",
        partial(listed, "pairs_CPLFW.txt", line_pairs, ("aligned images", "images"), "cplfw.bin"),
        6000, "terms of the authors' page (not seen); research use",
        "pairs_CPLFW.txt\naligned images/Aaron_Eckhart_1.jpg (or images/)\nor cplfw.bin (InsightFace)",
    ),
    Protocol(
        "agedb30", "AgeDB-30: 30 years apart, 6,000 pairs",
        partial(
            listed, "agedb_30_pair.txt", _flat, ("agedb30_align_112", "03_Protocol_Images", "."), "agedb_30.bin"
        ),
        6000, "non-commercial research only",
        "agedb_30.bin (InsightFace)\nor agedb_30_pair.txt and agedb30_align_112/00001.jpg (or 03_Protocol_Images/)",
    ),
    Protocol(
        "cfp_fp", "CFP-FP: a frontal and a profile picture, 7,000 pairs", cfp, 7000,
        "terms of the authors' page (not seen); research use",
        "Protocol/Pair_list_F.txt, Protocol/Pair_list_P.txt, Protocol/Split/FP/01/same.txt to 10/diff.txt\n"
        "Data/Images/001/frontal/01.jpg, Data/Images/001/profile/01.jpg (all that also in cfp-dataset/)\n"
        "or cfp_fp.bin (InsightFace), or cfp_fp_pair.txt and CFP_FP_aligned_112/00001.jpg",
    ),
    Protocol(
        "rfw", "RFW: four races, 6,000 pairs each", rfw, 24_000, "non-commercial research only, on request",
        "txts/African/African_pairs.txt, and so Asian, Caucasian, Indian\n"
        "data/African/m.0xyz/m.0xyz_0001.jpg (all that also in test/)",
    ),
)  # fmt: skip

BENCHMARKS = tuple(
    Benchmark(
        f"face_{p.name}{'_score' if similarity else ''}", p.title + (" (similarity)" if similarity else ""),
        partial(pair_questions, p, similarity), licence=p.licence, layout=p.layout,
        settings={"images": ""},
    )
    for p in PROTOCOLS
    for similarity in (False, True)
)  # fmt: skip
