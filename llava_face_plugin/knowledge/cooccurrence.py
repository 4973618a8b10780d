"""How often attributes occur together in the training labels: FaceInsight's matrix P."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import FaceDataError

_CHUNK = 65_536  # rows turned into float64 at a time: bounds the memory that a large batch needs


@dataclass(frozen=True, eq=False)
class Cooccurrence:
    """Counts over the rows of a label matrix with values -1 (unknown), 0 and 1. A = number of attributes."""

    vocabulary: tuple[str, ...]
    joint: np.ndarray
    """(A, A) int64: m_ij, rows with y_i = 1 and y_j = 1. The diagonal is n_i."""
    support: np.ndarray
    """(A, A) int64: rows with y_i = 1 and y_j known, which is n_i where nothing is unknown."""
    known: np.ndarray
    """(A,) int64: rows in which y_i is known."""
    rows: int

    def conditional(self) -> np.ndarray:
        """P, (A, A) float64 in [0, 1]: p_ij = m_ij / n_i = p(y_j = 1 | y_i = 1) (FaceInsight).

        Rows with unknown y_j are left out of n_i (our default). Entries with n_i = 0 are 0, on the diagonal
        too, where they are 1 otherwise.
        """
        return np.where(self.support > 0, self.joint / np.maximum(self.support, 1), 0.0)

    def prior(self) -> np.ndarray:
        """(A,) float64 in [0, 1]: p(y_i = 1) among the rows where y_i is known, 0 where it never is."""
        return np.where(self.known > 0, self.joint.diagonal() / np.maximum(self.known, 1), 0.0)


def count(vocabulary: Sequence[str], batches: Iterable[np.ndarray]) -> Cooccurrence:
    """Count (N, A) int8 batches with values -1 (unknown), 0 and 1, in O(A^2) memory besides one batch.

    Raises ``FaceDataError`` for a batch of another width or with other values.
    """
    width = len(vocabulary)
    joint, support = np.zeros((2, width, width), dtype=np.int64)
    known, rows = np.zeros(width, dtype=np.int64), 0
    for batch in batches:
        labels = checked_labels(batch, vocabulary)
        rows += len(labels)
        for start in range(0, len(labels), _CHUNK):
            part = labels[start : start + _CHUNK]
            # float64 products run in BLAS and are exact for counts below 2^53.
            positive, is_known = (part == 1).astype(np.float64), (part >= 0).astype(np.float64)
            joint += (positive.T @ positive).astype(np.int64)
            support += (positive.T @ is_known).astype(np.int64)
            known += is_known.sum(axis=0).astype(np.int64)
    return Cooccurrence(tuple(vocabulary), joint, support, known, rows)


def merge(a: Cooccurrence, b: Cooccurrence) -> Cooccurrence:
    """The counts of both. Raises ``FaceDataError`` unless the vocabularies are equal, in order too."""
    if a.vocabulary != b.vocabulary:
        difference = _difference(a.vocabulary, b.vocabulary)
        raise FaceDataError(f"cannot merge co-occurrence counts: the vocabularies differ ({difference})")
    return Cooccurrence(a.vocabulary, a.joint + b.joint, a.support + b.support, a.known + b.known, a.rows + b.rows)


def checked_labels(batch: np.ndarray, vocabulary: Sequence[str]) -> np.ndarray:
    """The batch as an (N, A) array, if it is one with values in {-1, 0, 1}; else ``FaceDataError``."""
    labels = np.asarray(batch)
    if labels.ndim != 2 or labels.shape[1] != len(vocabulary):
        raise FaceDataError(f"labels have shape {labels.shape}; expected (rows, {len(vocabulary)} attributes)")
    wrong = ~np.isin(labels, (-1, 0, 1))
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
