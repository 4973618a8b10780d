"""Are these two faces the same person? Scores of decisions, and of similarities in any range.

``scores`` are higher for pairs that look the same; ``same`` is (N,) bool gold. A score that could not be parsed (None
or NaN) is wrong at every threshold: it counts as the lowest of all for a pair of one person, as the highest of all for
a pair of two. A pair is accepted where its score is at least the threshold: pairs of equal score are accepted together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import FaceDataError
from .inputs import checked_length

Scores = Sequence[float | None] | np.ndarray
Same = Sequence[bool] | np.ndarray


def fold_accuracy(folds: Sequence[int], correct: Sequence[bool]) -> tuple[float, float | None]:
    """(mean, sample standard deviation) of the folds' accuracies: View 2 of LFW (Huang et al. 2007, report 07-49).

    Read off the fold of each pair, not off the order of pairs. LFW's standard error of the mean is sd / sqrt(folds).
    The sd is None with one fold. Raises ``FaceDataError`` for no pairs, and for a pair without a fold (below 0).
    """
    checked_length(folds=folds, correct=correct)
    number = np.asarray(folds, dtype=np.int64)
    if (number < 0).any():
        raise FaceDataError(f"{int((number < 0).sum())} of {len(number)} pairs have no fold")
    _, code = np.unique(number, return_inverse=True)
    each = np.bincount(code, weights=np.asarray(correct, dtype=bool)) / np.bincount(code)
    return float(each.mean()), float(each.std(ddof=1)) if len(each) > 1 else None


def auc(scores: Scores, same: Same) -> float | None:
    """Area under the ROC curve: the chance that a pair of one person scores above a pair of two, ties counting half.

    None if all pairs are the same person's, or none is. Raises ``FaceDataError`` for no pairs.
    """
    accepted = _accepted(scores, same)
    if accepted is None:
        return None
    wrongly, rightly = accepted
    area = (np.diff(wrongly) * (rightly[1:] + rightly[:-1])).sum()  # whole numbers: a perfect score is exactly 1
    return float(area / (2 * wrongly[-1] * rightly[-1]))


def eer(scores: Scores, same: Same) -> float | None:
    """Equal error rate: the false acceptance rate where it is the false rejection rate, 0..1; 0.5 is chance.

    The ROC curve is taken as straight between two neighbouring thresholds (linear interpolation). None and raises: as
    ``auc``.
    """
    accepted = _accepted(scores, same)
    if accepted is None:
        return None
    wrongly, rightly = accepted
    excess = wrongly * rightly[-1] + rightly * wrongly[-1] - wrongly[-1] * rightly[-1]  # FAR - FRR in whole numbers
    after = int(np.argmax(excess >= 0))  # from below 0 at the highest threshold to above 0 at the lowest
    share = excess[after - 1] / (excess[after - 1] - excess[after])
    return float((wrongly[after - 1] + share * (wrongly[after] - wrongly[after - 1])) / wrongly[-1])


def _accepted(scores: Scores, same: Same) -> tuple[np.ndarray, np.ndarray] | None:
    """The points of the ROC curve, after (0, 0) one for each distinct score, falling: numbers of accepted pairs, int64,
    of two people and of one. None if all pairs are the same person's, or none is."""
    checked_length(scores=scores, same=same)
    gold = np.asarray(same, dtype=bool)
    score = np.array([np.nan if value is None else value for value in scores], dtype=np.float64)
    score = np.where(np.isnan(score), np.where(gold, -np.inf, np.inf), score)
    if gold.all() or not gold.any():
        return None
    distinct, code = np.unique(-score, return_inverse=True)
    wrongly, rightly = (np.bincount(code[side] + 1, minlength=len(distinct) + 1).cumsum() for side in (~gold, gold))
    return wrongly, rightly
