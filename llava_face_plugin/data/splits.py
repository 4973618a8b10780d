"""Who is trained on and who is asked about: official splits, or samples held out of train."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import FaceDataError
from .conversations import Sample
from .prepared import Prepared, write_questions, write_training

SPLITS = ("train", "val", "test")
"""Names of CelebA's partitions 0, 1 and 2."""

DEFAULT_HOLDOUT = 0.1
"""Share of the train images that is held out where no val image is there (our default)."""


@dataclass(frozen=True)
class SplitOptions:
    """What is written. ``holdout``: None = the val images, or, if there are none, ``DEFAULT_HOLDOUT`` of
    train; 0 = none; below 1 = a share of the train images; from 1 on = that many. ``limit`` and
    ``val_limit``: at most that many images, drawn by ``seed``. ``k`` questions an image in training,
    ``val_k`` (None: one about every known attribute) in the question file."""

    split: str = "train"
    limit: int | None = None
    val_limit: int | None = None
    holdout: float | None = None
    k: int = 4
    val_k: int | None = None
    seed: int = 0
    text_only: int = 0

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


def write_splits(
    prepared: Prepared,
    split_of: np.ndarray,
    groups: np.ndarray | None,
    sample_at: Callable[[int], Sample],
    options: SplitOptions,
) -> tuple[np.ndarray, np.ndarray]:
    """Write the training JSON and the question file; returns the indices of the samples in each.

    Args:
        split_of: (N,) int, 0 train, 1 val, 2 test: the samples that can be used.
        groups: (N,) identities that must not be in both sets when samples are held out; None: unknown.
        sample_at: the sample of an index.
    """
    rng = np.random.default_rng([options.seed, 6])
    if options.split == "train":
        train, val = _train_and_val(prepared, split_of, groups, options)
        asked_name = "val"
    else:
        train = val = np.flatnonzero(split_of == SPLITS.index(options.split))
        asked_name = options.split
    train, val = _at_most(train, options.limit, rng), _at_most(val, options.val_limit, rng)
    if not len(train):
        raise FaceDataError(f"no image of the {options.split} split is there")
    write_training(
        prepared, _samples(train, sample_at), split=options.split, k=options.k, seed=options.seed,
        text_only=options.text_only,
    )  # fmt: skip
    if len(val):
        prepared.rows[f"{asked_name} images"] = len(val)
        write_questions(prepared, _samples(val, sample_at), split=asked_name, k=options.val_k, seed=options.seed)
    return train, val


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


def _train_and_val(
    prepared: Prepared, split_of: np.ndarray, groups: np.ndarray | None, options: SplitOptions
) -> tuple[np.ndarray, np.ndarray]:
    train, val = np.flatnonzero(split_of == 0), np.flatnonzero(split_of == 1)
    if options.holdout is None and len(val):
        return train, val
    wanted = DEFAULT_HOLDOUT if options.holdout is None else options.holdout
    n = round(wanted * len(train)) if wanted < 1 else int(wanted)
    if n == 0:
        return train, val[:0]
    if n >= len(train):
        raise FaceDataError(f"holdout: {n} images, but there are only {len(train)} train images")
    held = hold_out(train if groups is None else groups[train], n, options.seed)
    why = "no val image is there: " if not len(val) else ""
    people = "identities may be in both" if groups is None else "no identity is in both"
    prepared.notes.append(f"{why}{int(held.sum())} images were held out of train for questions ({people})")
    return train[~held], train[held]


def _at_most(indices: np.ndarray, limit: int | None, rng: np.random.Generator) -> np.ndarray:
    if limit is None or len(indices) <= limit:
        return indices
    return np.sort(rng.choice(indices, limit, replace=False))


def _samples(indices: np.ndarray, sample_at: Callable[[int], Sample]) -> Iterator[Sample]:
    return (sample_at(int(i)) for i in indices)
