"""Questions that a mask of CelebAMask-HQ answers: which parts are seen, which is larger, how much one covers.

Left and right are those of the picture, by the convention of ``labels``: ``l_`` parts lie on the picture's right. The
masks follow the person instead: in 36 of 578 public ones with both eyes ``l_eye`` lies on the picture's left, for the
picture was mirrored. So the side is told by where the parts lie, not by the name of their class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...data.datasets.celebamask_hq import MIN_SHARE
from ...errors import FaceDataError
from ...labels import FACE_PARTS, SIDES
from ...maps.files import read_map
from ..questions import Question
from ._shown import Shown, pictures
from .base import Benchmark, Source

PRESENCE: dict[str, str] = {
    "eye_g": "Are eyeglasses visible in the picture?",
    "hat": "Is a hat visible in the picture?",
    "ear_r": "Is an earring visible in the picture?",
    "neck_l": "Is a necklace visible in the picture?",
    "cloth": "Is clothing visible in the picture?",
    "hair": "Is hair visible in the picture?",
    "neck": "Is the person's neck visible in the picture?",
    "mouth": "Is the inside of the person's mouth visible in the picture?",
    "r_ear": "Is the ear on the left side of the picture visible?",
    "l_ear": "Is the ear on the right side of the picture visible?",
    "r_eye": "Is the eye on the left side of the picture visible?",
    "l_eye": "Is the eye on the right side of the picture visible?",
    "r_brow": "Is the eyebrow on the left side of the picture visible?",
    "l_brow": "Is the eyebrow on the right side of the picture visible?",
}
"""Parts that are seen in some pictures and not in others. Skin, nose and lips are in nearly all of them."""

OTHER_SIDE: dict[str, str] = {
    FACE_PARTS[part]: FACE_PARTS[other] for pair in SIDES for part, other in (pair, pair[::-1])
}
"""Part of a side -> the same part of the other."""

REGIONS: dict[str, tuple[str, ...]] = {
    "the background": ("background",), "hair": ("hair",), "the skin of the face": ("skin",), "the neck": ("neck",),
    "clothing": ("cloth",), "the eyes": ("l_eye", "r_eye"), "the eyebrows": ("l_brow", "r_brow"),
    "the lips": ("u_lip", "l_lip"),
}  # fmt: skip
"""What is measured, by name."""

PAIRS = (
    ("hair", "the skin of the face"), ("the background", "hair"), ("the background", "the skin of the face"),
    ("the neck", "clothing"), ("hair", "clothing"), ("the eyebrows", "the lips"), ("the eyes", "the eyebrows"),
)  # fmt: skip
"""What is compared: in 600 public masks each is the larger in at least 5 % of the pictures asked about. Others (the
nose and the eyes) can be answered without the picture."""

AREA_QUESTION = "Which of these covers more of the picture?"
LEAST_RATIO = 1.5
"""The larger of two is asked for where it is so many times the other (our default)."""

SHARE_QUESTION = "How much of the picture does {name} cover?"
SHARE_PARTS = ("the background", "hair", "the skin of the face")
SHARE_BINS = ("less than 15 percent", "15 to 30 percent", "30 to 45 percent", "more than 45 percent")
BORDERS, BORDER_MARGIN = (0.15, 0.30, 0.45), 0.02
"""Shares of the picture; within the margin of a border nothing is asked (our defaults)."""


@dataclass(frozen=True)
class Face:
    """One picture and what its mask shows."""

    shown: Shown
    shares: np.ndarray
    """(19,) float64: the share of the picture that each of ``FACE_PARTS`` covers."""
    mirrored: bool | None
    """Whether ``l_`` parts lie on the picture's left. None: it cannot be told, for no pair of eyes, brows or ears is
    whole, or two pairs say different things."""


def presence_questions(source: Source) -> Iterator[Question]:
    """Is a part there? From ``MIN_SHARE`` of the picture on it is; below, but not 0, it is not asked about.

    Nor are parts of a side, where the mask does not tell its sides (``Face.mirrored``).
    """
    for face in _faces(source):
        for part, text in PRESENCE.items():
            seen = OTHER_SIDE.get(part, part) if face.mirrored else part
            share = float(face.shares[FACE_PARTS.index(seen)])
            if part in OTHER_SIDE and face.mirrored is None:
                source.skipped["question about a side of a mask that does not tell its sides"] += 1
            elif 0 < share < MIN_SHARE:
                source.skipped["question about a part of too few pixels to tell"] += 1
            else:
                yield face.shown.yes_no(part, text, share > 0, value=f"{share:.6f}")


def area_questions(source: Source) -> Iterator[Question]:
    """Which of two parts is larger? Both are there, and one is ``LEAST_RATIO`` times the other."""
    for face in _faces(source):
        for pair in PAIRS:
            sizes = [_share(face.shares, name) for name in pair]
            if min(sizes) >= MIN_SHARE and max(sizes) >= LEAST_RATIO * min(sizes):
                yield face.shown.choice(" / ".join(pair), AREA_QUESTION, pair, int(np.argmax(sizes)), source.seed)


def share_questions(source: Source) -> Iterator[Question]:
    """Which bin does a part's share of the picture fall into?"""
    for face in _faces(source):
        for name in SHARE_PARTS:
            share = _share(face.shares, name)
            if min(abs(share - border) for border in BORDERS) >= BORDER_MARGIN:
                right = int(np.searchsorted(BORDERS, share))
                yield face.shown.choice(name, SHARE_QUESTION.format(name=name), SHARE_BINS, right, source.seed)


def _faces(source: Source) -> Iterator[Face]:
    """Every row's. Rows whose mask is missing or damaged are left out and counted."""
    m = source.the_manifest()
    if m.maps is None:
        raise FaceDataError("the manifest has no masks: run `llava-face prepare celebamask_hq` without --labels-only")
    for shown in pictures(source):
        if not str(m.maps[shown.row]):
            source.skipped["no mask"] += 1
            continue
        try:
            labels = read_map(source.root / str(m.maps[shown.row]), sample=shown.image_id)
        except FaceDataError as error:
            source.skipped[f"mask {error.reason}"] += 1
            continue
        shares = np.bincount(labels.reshape(-1), minlength=256)[: len(FACE_PARTS)] / labels.size
        yield Face(shown, shares, _mirrored(labels))


def _mirrored(labels: np.ndarray) -> bool | None:
    """Of (H, W) part ids, by the mean column of the two of a pair; see ``Face.mirrored``."""
    found = set()
    for pair in SIDES:
        left, right = (np.nonzero(labels == part)[1] for part in pair)  # columns of the l_ and of the r_ part
        if min(len(left), len(right)) >= MIN_SHARE * labels.size and left.mean() != right.mean():
            found.add(bool(left.mean() < right.mean()))
    return found.pop() if len(found) == 1 else None


def _share(shares: np.ndarray, region: str) -> float:
    return float(sum(shares[FACE_PARTS.index(part)] for part in REGIONS[region]))


BENCHMARKS = (
    Benchmark("face_celebamask_hq_presence", "CelebAMask-HQ: which parts are seen", presence_questions,
              ("celebamask_hq",)),
    Benchmark("face_celebamask_hq_area", "CelebAMask-HQ: which of two parts is larger", area_questions,
              ("celebamask_hq",)),
    Benchmark("face_celebamask_hq_share", "CelebAMask-HQ: how much a part covers", share_questions,
              ("celebamask_hq",)),
)  # fmt: skip
