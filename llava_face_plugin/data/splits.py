"""Who is trained on and who is asked about: official splits, or samples held out of train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import FaceDataError
from .conversations import Plan
from .manifest import SPLITS, Manifest
from .prepared import Prepared

DEFAULT_HOLDOUT = 0.1
"""Share of the train images that is held out where no val image is there (our default)."""


@dataclass(frozen=True)
class SplitOptions:
    """What is written. ``holdout``: None = the val images, or, if there are none, ``DEFAULT_HOLDOUT`` of
    train; 0 = none; below 1 = a share of the train images; from 1 on = that many. ``limit`` and
    ``val_limit``: at most that many images, drawn by ``seed``. ``k`` questions an image in training,
    ``val_k`` (None: one about every known attribute) in the question file. ``styles``: of conversations, see
    ``conversations.STYLES`` (empty: ``closed``, or ``choice`` where there are no attributes). ``balance``: choose
    attributes by rarity, see ``conversations.rarity``."""

    split: str = "train"
    limit: int | None = None
    val_limit: int | None = None
    holdout: float | None = None
    k: int = 4
    val_k: int | None = None
    seed: int = 0
    text_only: int = 0
    styles: tuple[str, ...] = ()
    balance: bool = False

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise FaceDataError(f"split: expected one of {', '.join(SPLITS)}, got {self.split!r}")
        for name in ("limit", "val_limit", "k", "val_k"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise FaceDataError(f"{name}: must be at least 1, got {value}")
        for name in ("holdout", "text_only"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise FaceDataError(f"{name}: must not be negative, got {value}")
        if self.styles:
            Plan(styles=self.styles)  # refuses unknown names


class Choice(NamedTuple):
    """Row numbers of a manifest, in order."""

    train: np.ndarray
    """For conversations."""
    val: np.ndarray
    """For questions."""
    held: np.ndarray
    """Train rows of whoever is held out, with or without an image: no longer train rows."""


def choose(prepared: Prepared, manifest: Manifest, options: SplitOptions) -> Choice:
    """Who is trained on, and who is asked about.

    Only images that are there, and without ``strangers``, which are counted: no known person is in two splits. For
    ``split="train"`` no image is both trained on and asked about; for another split both are that split.
    """
    rng = np.random.default_rng([options.seed, 6])
    held = np.zeros(0, dtype=np.int64)
    if options.split == "train":
        train, val, held = _train_and_val(prepared, manifest, options)
    else:
        train = val = _known(prepared, manifest, options.split)
    train, val = _at_most(train, options.limit, rng), _at_most(val, options.val_limit, rng)
    if not len(train):
        raise FaceDataError(f"no image of the {options.split} split is there", "missing")
    return Choice(train, val, held)


def strangers(manifest: Manifest) -> np.ndarray:
    """(N,) bool: train rows of a person who is also in val or test, and val rows of one who is also in test."""
    found = np.zeros(len(manifest), dtype=bool)
    if manifest.identity is None:
        return found
    for number in (0, 1):
        later = manifest.identity[(manifest.split > number) & (manifest.identity >= 0)]
        found |= (manifest.split == number) & np.isin(manifest.identity, later)
    return found


def hold_out(groups: np.ndarray, n: int, seed: int) -> np.ndarray:
    """A mask (N,) of samples held out: whole groups (``groups`` (N,), e.g. identities), shuffled by ``seed``.

    Holds out at least ``n`` samples, and no more groups than that needs; never all groups.
    """
    names, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng([seed, 3]).permutation(len(names))
    reached = np.cumsum(counts[order])
    taken = int(np.searchsorted(reached, n)) + 1 if n > 0 else 0
    chosen = np.zeros(len(names), dtype=bool)
    chosen[order[: min(taken, len(names) - 1)]] = True
    return chosen[index]


def _present(manifest: Manifest, split: str) -> np.ndarray:
    there = True if manifest.present is None else manifest.present
    return np.flatnonzero((manifest.split == SPLITS.index(split)) & there)


def _train_and_val(prepared: Prepared, manifest: Manifest, options: SplitOptions) -> Choice:
    train, val = _known(prepared, manifest, "train"), _known(prepared, manifest, "val")
    if options.holdout is None and len(val):
        return Choice(train, val, val[:0])
    wanted = DEFAULT_HOLDOUT if options.holdout is None else options.holdout
    n = round(wanted * len(train)) if wanted < 1 else int(wanted)
    if n == 0:
        return Choice(train, val[:0], val[:0])
    if n >= len(train):
        raise FaceDataError(f"holdout: {n} images, but there are only {len(train)} train images")
    held = hold_out(_groups(manifest, train), n, options.seed)
    why = "no val image is there: " if not len(val) else ""
    people = "identities may be in both" if manifest.identity is None else "no identity is in both"
    rows = _all_of(manifest, train[held])
    prepared.notes.append(
        f"{why}{int(held.sum())} images were held out of train for questions ({people}); the {len(rows)} rows of who "
        "is held out are val in the manifest, and knowledge is not counted from them"
    )
    return Choice(train[~held], train[held], rows)


def _all_of(manifest: Manifest, rows: np.ndarray) -> np.ndarray:
    """``rows`` of train, and all other train rows of the persons who are on them."""
    if manifest.identity is None:
        return rows
    people = manifest.identity[rows]
    same = np.isin(manifest.identity, people[people >= 0]) & (manifest.split == 0)
    return np.union1d(rows, np.flatnonzero(same))


def _known(prepared: Prepared, manifest: Manifest, split: str) -> np.ndarray:
    """The images of the split that are there, without strangers, which are counted."""
    rows = _present(manifest, split)
    strange = strangers(manifest)[rows]
    others = " or ".join(SPLITS[SPLITS.index(split) + 1 :])
    prepared.skip(f"person is also in {others} ({split})", int(strange.sum()))
    return rows[~strange]


def _groups(manifest: Manifest, rows: np.ndarray) -> np.ndarray:
    """(N,) who is on each image; an image of nobody known is a group of its own."""
    if manifest.identity is None:
        return rows
    people = manifest.identity[rows]
    return np.where(people >= 0, people, -1 - rows)


def _at_most(indices: np.ndarray, limit: int | None, rng: np.random.Generator) -> np.ndarray:
    if limit is None or len(indices) <= limit:
        return indices
    return np.sort(rng.choice(indices, limit, replace=False))
