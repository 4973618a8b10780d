"""Errors of answers that are a number: age, in years.

An answer that could not be parsed (None or NaN), or that lies outside ``low..high``, has no error in years. Leaving it
out would let a model gain by refusing the hard faces. So it counts with the largest error possible for that face,
max(gold - low, high - gold), which no answer exceeds; ``mae_parsed`` is over the rest, beside their number.
The range of ages is 0..120 if not given (our default).

All raise ``FaceDataError`` for no questions, for lengths that differ and for gold outside the range.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import FaceDataError
from .inputs import checked_length

LOW, HIGH = 0.0, 120.0


def mae(gold: Sequence[float], pred: Sequence[float | None], low: float = LOW, high: float = HIGH) -> float:
    """Mean absolute error in years over all questions, unparsed answers with the largest error possible."""
    return _mean(absolute_errors(gold, pred, low, high)[0])


def mae_parsed(
    gold: Sequence[float], pred: Sequence[float | None], low: float = LOW, high: float = HIGH
) -> tuple[float | None, int]:
    """(mean absolute error in years over parsed answers, their number); (None, 0) if there is none.

    Not a figure to rank models by: report ``mae``, and this with the number.
    """
    errors, parsed = absolute_errors(gold, pred, low, high)
    number = int(parsed.sum())
    return (_mean(errors[parsed]) if number else None), number


def cumulative_score(
    gold: Sequence[float], pred: Sequence[float | None], within: float = 5.0, low: float = LOW, high: float = HIGH
) -> float:
    """CS(within), in 0..1: share of questions with an error of at most that many years (Geng et al., TPAMI 2007).

    An unparsed answer is never within.
    """
    errors, parsed = absolute_errors(gold, pred, low, high)
    return float(((errors <= within) & parsed).mean())


def absolute_errors(
    gold: Sequence[float], pred: Sequence[float | None], low: float = LOW, high: float = HIGH
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) float64 errors in years, as ``mae`` counts them, and (N,) bool: which answers are parsed and in range."""
    checked_length(gold=gold, pred=pred)
    true = np.array([np.nan if value is None else value for value in gold], dtype=np.float64)
    given = np.array([np.nan if value is None else value for value in pred], dtype=np.float64)
    wrong = np.flatnonzero(~((true >= low) & (true <= high)))
    if len(wrong):
        raise FaceDataError(f"question {wrong[0]} has the gold value {true[wrong[0]]}; expected {low} to {high}")
    parsed = (given >= low) & (given <= high)
    worst = np.maximum(true - low, high - true)
    return np.where(parsed, np.abs(given - true), worst), parsed


def _mean(errors: np.ndarray) -> float:
    return float(np.sort(errors).mean())  # sorted: the same bits in any order of questions
