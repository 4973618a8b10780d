"""Rows by cluster (identity or image), and bootstrap draws of clusters. Nothing depends on the order of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .inputs import checked_length

_CELLS = 2**22  # drawn numbers held at a time: bounds the memory for many clusters


class Clusters:
    """N rows in C clusters, numbered in the sorted order of their names. Raises ``FaceDataError`` for no rows."""

    def __init__(self, names: Sequence[str]) -> None:
        checked_length(clusters=names)
        self.names, self.codes = np.unique(np.asarray(names, dtype=str), return_inverse=True)
        self._order = np.argsort(self.codes, kind="stable")
        self._sizes = np.bincount(self.codes)
        self._starts = self._sizes.cumsum() - self._sizes

    def __len__(self) -> int:
        return len(self.names)

    def totals(self, values: np.ndarray) -> np.ndarray:
        """(N,) numbers -> (C,) float64 sums over each cluster, the same bits in any order of rows."""
        order = np.lexsort((values, self.codes))
        return np.bincount(self.codes[order], weights=values[order])

    def cell_totals(self, cells: np.ndarray, size: int) -> np.ndarray:
        """(N,) int64 in 0..size-1 -> (C, size) float64: how often each occurs in each cluster."""
        return np.bincount(self.codes * size + cells, minlength=len(self) * size).reshape(-1, size).astype(np.float64)

    def draws(self, resamples: int, seed: int) -> Iterator[np.ndarray]:
        """``resamples`` draws of C clusters with replacement, as (n, C) int64 batches of their numbers."""
        random = np.random.default_rng(seed)
        step = max(1, _CELLS // len(self))
        for start in range(0, resamples, step):
            yield random.integers(0, len(self), size=(min(step, resamples - start), len(self)))

    def weights(self, resamples: int, seed: int) -> Iterator[np.ndarray]:
        """The same draws as (n, C) float64 batches of how often each cluster was drawn: multinomial weights."""
        for draw in self.draws(resamples, seed):
            numbered = draw + len(self) * np.arange(len(draw))[:, None]
            yield np.bincount(numbered.ravel(), minlength=draw.size).reshape(draw.shape).astype(np.float64)

    def rows(self, draw: np.ndarray) -> np.ndarray:
        """(C,) numbers of drawn clusters -> the numbers of their rows, int64, as often as drawn."""
        sizes = self._sizes[draw]
        shift = np.repeat(self._starts[draw] - (sizes.cumsum() - sizes), sizes)
        return self._order[shift + np.arange(len(shift))]
