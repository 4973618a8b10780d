"""What other parsers call the parts of a face, and how their ids become canonical ones.

Each table is indexed by the source's id; its value is the canonical id of ``labels.FACE_PARTS``. Left and right in
the names below are the source's own words; the tables follow the one convention of ``labels``: the image side.
"""

from __future__ import annotations

import numpy as np

from ..errors import FaceDataError
from ..labels import COARSE_OF, FACE_PARTS, NO_MAP, NUM_PARTS, SIDES
from ..registry import unknown_name

NAMES: dict[str, tuple[str, ...]] = {
    "celebamask-hq": FACE_PARTS,
    # facer 0.0.5, farl/celebm/448: its "r" parts lie on the right side of the picture.
    "celebm": (
        "background", "neck", "face", "cloth", "rr", "lr", "rb", "lb", "re", "le", "nose", "imouth", "llip", "ulip",
        "hair", "eyeg", "hat", "earr", "neck_l",
    ),
    # facer 0.0.5, farl/lapa/448; FaRL's own scorer calls ids 2 to 5 lb rb le re.
    "lapa": ("background", "face", "rb", "lb", "re", "le", "nose", "ulip", "imouth", "llip", "hair"),
    # zllrunning/face-parsing.PyTorch and its forks
    "bisenet": (
        "background", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear", "ear_r", "nose",
        "mouth", "u_lip", "l_lip", "neck", "neck_l", "cloth", "hair", "hat",
    ),
}  # fmt: skip
"""Class names in the order of their ids, as each source writes them."""

TO_CANONICAL: dict[str, tuple[int, ...]] = {
    "celebamask-hq": tuple(range(NUM_PARTS)),
    "celebm": (0, 17, 1, 18, 8, 9, 6, 7, 4, 5, 2, 10, 12, 11, 13, 3, 14, 15, 16),
    "lapa": (0, 1, 6, 7, 4, 5, 2, 11, 10, 12, 13),
    # zllrunning trained on CelebAMask-HQ masks: its l_ and r_ are theirs.
    "bisenet": (0, 1, 6, 7, 4, 5, 3, 8, 9, 15, 2, 10, 11, 12, 17, 16, 18, 13, 14),
}
"""Canonical id of each source id."""

ALIASES: dict[str, str] = {
    "face": "skin", "eyeglass": "eye_g", "eyeglasses": "eye_g", "glasses": "eye_g", "eyeg": "eye_g",
    "left_eye": "l_eye", "right_eye": "r_eye", "left_brow": "l_brow", "right_brow": "r_brow",
    "left_eyebrow": "l_brow", "right_eyebrow": "r_brow", "left_ear": "l_ear", "right_ear": "r_ear",
    "inner_mouth": "mouth", "imouth": "mouth", "upper_lip": "u_lip", "ulip": "u_lip", "lower_lip": "l_lip",
    "llip": "l_lip", "earring": "ear_r", "earr": "ear_r", "necklace": "neck_l", "clothes": "cloth",
    "clothing": "cloth",
}  # fmt: skip
"""Other spellings of canonical names, as checkpoints' ``id2label`` has them."""


def to_canonical(labels: np.ndarray, vocabulary: str, where: str) -> np.ndarray:
    """(H, W) uint8 ids of a source -> canonical ids; 255 stays 255.

    Raises ``FaceDataError`` for an unknown vocabulary, or naming ``where`` and the ids that it does not have.
    """
    if vocabulary not in TO_CANONICAL:
        raise FaceDataError(unknown_name("vocabulary", vocabulary, TO_CANONICAL))
    ids = TO_CANONICAL[vocabulary]
    if labels.size and labels.max() >= len(ids):  # the maximum first: looking every pixel up costs more than reading
        bad = sorted({int(v) for v in np.unique(labels) if v >= len(ids) and v != NO_MAP})
        if bad:
            raise FaceDataError(f"{where}: ids {bad} are not in the vocabulary {vocabulary!r}")
    return labels if vocabulary == "celebamask-hq" else lookup(ids)[labels]


def lookup(ids: tuple[int, ...]) -> np.ndarray:
    """(256,) uint8 table from a source's ids to canonical ``ids``; everything else becomes 255, no map."""
    out = np.full(256, NO_MAP, dtype=np.uint8)
    out[: len(ids)] = ids
    return out


def from_names(names: dict[int, str], where: str) -> tuple[int, ...]:
    """Canonical ids of a checkpoint's ``id2label``, for example {0: "background", 1: "skin", ...}.

    Raises ``FaceDataError`` if its ids are not 0..n-1, or naming every name that is no face part.
    """
    if sorted(names) != list(range(len(names))) or not names:
        raise FaceDataError(f"{where}: id2label has ids {sorted(names)}, expected 0..{len(names) - 1}")
    plain = {i: n.strip().lower().replace(" ", "_").replace("-", "_") for i, n in names.items()}
    known = {i: ALIASES.get(n, n) for i, n in plain.items()}
    bad = [names[i] for i, n in sorted(known.items()) if n not in FACE_PARTS]
    if bad:
        raise FaceDataError(f"{where}: id2label has names that are no face part: {bad}; known: {list(FACE_PARTS)}")
    return tuple(FACE_PARTS.index(known[i]) for i in range(len(known)))


def by_image_side(labels: np.ndarray) -> np.ndarray:
    """One face's (H, W) canonical map with each pair of sides in the convention of ``labels``.

    Where both parts of a pair are there and the ``l_`` one lies to the left of the ``r_`` one (by mean column), the
    two are exchanged. A part without its partner is left as it is. Returns the input where nothing changes.
    """
    swap = np.arange(256, dtype=np.uint8)
    for left, right in SIDES:
        here, there = mean_column(labels, left), mean_column(labels, right)
        if here is not None and there is not None and here < there:
            swap[[left, right]] = right, left
    return labels if (swap == np.arange(256)).all() else swap[labels]


def mean_column(labels: np.ndarray, part: int) -> float | None:
    """Mean column of a part's pixels; None if it has none."""
    columns = (labels == part).sum(axis=0)
    total = columns.sum()
    return float(columns @ np.arange(labels.shape[1]) / total) if total else None


def mirrored(labels: np.ndarray) -> np.ndarray:
    """The map of the horizontally flipped image: columns reversed, sides exchanged."""
    return exchanged(labels[:, ::-1])


def exchanged(labels: np.ndarray) -> np.ndarray:
    """The map with the two ids of each pair of sides exchanged."""
    swap = np.arange(256, dtype=np.uint8)
    for left, right in SIDES:
        swap[[left, right]] = right, left
    return swap[labels]


def coarse(labels: np.ndarray) -> np.ndarray:
    """(H, W) canonical ids -> ids of ``labels.COARSE_PARTS``; 255 stays 255."""
    return lookup(COARSE_OF)[labels]
