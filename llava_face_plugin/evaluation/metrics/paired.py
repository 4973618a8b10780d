"""Is one model better than another on the same questions?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .clusters import Clusters
from .inputs import checked_length
from .intervals import MEAN_RESAMPLES, cluster_bootstrap, finite_scores

_ROUNDING = 1e-12  # sums of floats that are equal on paper differ by less than this share of their size


class Paired(NamedTuple):
    """``difference`` is mean(a) - mean(b); ``low`` and ``high`` bound its central 95 % (None for a single cluster)."""

    difference: float
    low: float | None
    high: float | None
    p: float
    """Two-sided, in (0, 1]."""


def paired_bootstrap(
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    clusters: Sequence[str],
    *,
    resamples: int = MEAN_RESAMPLES,
    seed: int = 0,
) -> Paired:
    """Compare the scores of two models, row i of both being their answers to the same question.

    The interval is the paired bootstrap's (Koehn, EMNLP 2004), over clusters: each resample holds both models' answers
    to the same questions. The p-value is that of a permutation test (Efron & Tibshirani 1993, chapter 15): if the
    models do not differ, then swapping their answers on a whole cluster, which flips the sign of its difference,
    changes nothing. We take it rather than the bootstrap's share of resamples on the other side of 0, because that one
    is drawn around the difference found, not around none, and is too small with few clusters. Swaps are drawn at
    random, and the data count as one of them, so that p is never 0 (Phipson & Smyth 2010): at least
    1 / (resamples + 1). Interval and p can disagree at the margin. No correction for several comparisons.

    Raises ``FaceDataError`` for no rows, lengths that differ and scores that are not finite.
    """
    checked_length(a=a, b=b, clusters=clusters)
    differences = finite_scores(clusters, a) - finite_scores(clusters, b)
    interval = cluster_bootstrap(clusters, differences, resamples=resamples, seed=seed)
    totals = Clusters(clusters).totals(differences)
    low, high = (interval.low, interval.high) if interval else (None, None)
    return Paired(float(totals.sum() / len(differences)), low, high, _sign_flip(totals, resamples, seed))


def _sign_flip(totals: np.ndarray, resamples: int, seed: int) -> float:
    """Share of sign flips of the (C,) differences whose sum is at least as far from 0 as the one found."""
    totals = totals[totals != 0]  # a flip of nothing
    random = np.random.default_rng(seed)
    found = abs(float(totals.sum())) - _ROUNDING * float(np.abs(totals).sum())
    step = max(1, 2**22 // max(len(totals), 1))
    as_far = 0
    for start in range(0, resamples, step):
        signs = random.integers(0, 2, size=(min(step, resamples - start), len(totals))) * 2 - 1
        as_far += int((np.abs(signs @ totals) >= found).sum())
    return (as_far + 1) / (resamples + 1)
