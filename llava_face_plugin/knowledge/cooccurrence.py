"""How often attributes occur together in the training labels: FaceInsight's matrix P."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FaceDataError

_CHUNK = 65_536  # rows turned into float32 at a time: bounds the memory that a large batch needs, and is below 2^24


@dataclass(frozen=True, eq=False)
class Cooccurrence:
    """Counts over the rows of a label matrix with values -1 (unknown), 0 and 1. A = number of attributes."""

    vocabulary: tuple[str, ...]
    joint: np.ndarray
    """(A, A) int64: m_ij, rows with y_i = 1 and y_j = 1. The diagonal is n_i."""
    support: np.ndarray
    """(A, A) int64: rows with y_i = 1 and y_j known, which is n_i where nothing is unknown."""
    both: np.ndarray
    """(A, A) int64: rows in which y_i and y_j are known. The diagonal is ``known``."""
    rows: int

    @property
    def known(self) -> np.ndarray:
        """(A,) int64: rows in which y_i is known."""
        return self.both.diagonal()

    def conditional(self) -> np.ndarray:
        """P, (A, A) float64 in [0, 1]: p_ij = m_ij / n_i = p(y_j = 1 | y_i = 1) (FaceInsight).

        Rows with unknown y_j are left out of n_i (our default). Entries with n_i = 0 are 0, on the diagonal
        too, where they are 1 otherwise.
        """
        return np.where(self.support > 0, self.joint / np.maximum(self.support, 1), 0.0)

    def interval(self, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
        """Wilson's interval of each p_ij: two (A, A) float64; 0 to 1 where n_i = 0."""
        return wilson(self.joint, self.support, z)

    def prior(self) -> np.ndarray:
        """(A,) float64 in [0, 1]: p(y_i = 1) among the rows where y_i is known, 0 where it never is."""
        return np.where(self.known > 0, self.joint.diagonal() / np.maximum(self.known, 1), 0.0)

    def check(self) -> None:
        """Raise ``FaceDataError`` unless these can be counts of one label matrix."""
        square = (len(self.vocabulary),) * 2
        for part in ("joint", "support", "both"):
            array = getattr(self, part)
            if array.shape != square or array.dtype != np.int64:
                raise FaceDataError(f"{part} is {array.dtype} {array.shape}; expected int64 {square}")
        if not is_count(self.rows):
            raise FaceDataError(f"rows is {self.rows!r:.60}; expected a number of rows")
        joint, support, both = self.joint, self.support, self.both
        for what, wrong in (
            ("joint is below 0 or not symmetric", (joint < 0) | (joint != joint.T)),
            ("support is below joint", support < joint),
            ("support is above the rows with y_i = 1", support > joint.diagonal()[:, None]),
            ("both is not symmetric", both != both.T),
            ("both is below the rows with y_i or y_j", both < support + support.T - joint),
            ("both is above the rows", both > np.minimum(np.minimum.outer(self.known, self.known), self.rows)),
        ):
            if wrong.any():
                i, j = (self.vocabulary[at] for at in np.argwhere(wrong)[0])
                raise FaceDataError(f"these are no counts of one data set: {what} ({i!r}, {j!r})")


def is_count(value: Any) -> bool:
    """Whether it is a whole number that an int64 array can be compared with, from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def wilson(hits: Any, trials: Any, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's (1927) score interval of a share, 95 % by default: bounds in [0, 1], of the arguments' shape.

    0 to 1 for 0 trials. Unlike p +- z sqrt(p (1 - p) / n) it is no point at 0 hits.
    """
    n = np.asarray(trials, dtype=np.float64)
    p = np.asarray(hits, dtype=np.float64) / np.maximum(n, 1.0)
    square = z * z / np.maximum(n, 1.0)
    centre = (p + square / 2) / (1 + square)
    half = np.sqrt(square * (p * (1 - p) + square / 4)) / (1 + square)
    low = np.where((n > 0) & (p > 0), np.maximum(centre - half, 0.0), 0.0)
    return low, np.where((n > 0) & (p < 1), np.minimum(centre + half, 1.0), 1.0)


def count(vocabulary: Sequence[str], batches: Iterable[np.ndarray]) -> Cooccurrence:
    """Count (N, A) int8 batches with values -1 (unknown), 0 and 1, in O(A^2) memory besides one batch.

    Raises ``FaceDataError`` for a batch of another width or with other values.
    """
    width = len(vocabulary)
    joint, support, both = np.zeros((3, width, width), dtype=np.int64)
    rows = 0
    for batch in batches:
        labels = checked_labels(batch, vocabulary)
        rows += len(labels)
        for start in range(0, len(labels), _CHUNK):
            part = labels[start : start + _CHUNK]
            # Products of floats run in BLAS; those of a chunk are exact in float32.
            positive, is_known = (part == 1).astype(np.float32), (part >= 0).astype(np.float32)
            joint += (positive.T @ positive).astype(np.int64)
            support += (positive.T @ is_known).astype(np.int64)
            both += (is_known.T @ is_known).astype(np.int64)
    return Cooccurrence(tuple(vocabulary), joint, support, both, rows)


def merge(a: Cooccurrence, b: Cooccurrence) -> Cooccurrence:
    """The counts of both. Raises ``FaceDataError`` unless the vocabularies are equal, in order too.

    ``vocabularies.mapped`` brings counts to another vocabulary.
    """
    if a.vocabulary != b.vocabulary:
        difference = _difference(a.vocabulary, b.vocabulary)
        raise FaceDataError(f"cannot merge co-occurrence counts: the vocabularies differ ({difference})")
    return Cooccurrence(a.vocabulary, a.joint + b.joint, a.support + b.support, a.both + b.both, a.rows + b.rows)


def checked_labels(batch: np.ndarray, vocabulary: Sequence[str]) -> np.ndarray:
    """The batch as an (N, A) array, if it is one with values in {-1, 0, 1}; else ``FaceDataError``."""
    labels = np.asarray(batch)
    if labels.ndim != 2 or labels.shape[1] != len(vocabulary):
        raise FaceDataError(f"labels have shape {labels.shape}; expected (rows, {len(vocabulary)} attributes)")
    wrong = (labels != -1) & (labels != 0) & (labels != 1)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise FaceDataError(
            f"label of {vocabulary[column]!r} in row {row} of its batch is {labels[row, column]!s}; "
            "expected -1 (unknown), 0 or 1"
        )
    return labels


def _difference(a: tuple[str, ...], b: tuple[str, ...]) -> str:
    if set(a) == set(b):
        return "same names in another order"
    only_a, only_b = sorted(set(a) - set(b)), sorted(set(b) - set(a))
    return f"only in the first: {', '.join(only_a) or 'none'}; only in the second: {', '.join(only_b) or 'none'}"
