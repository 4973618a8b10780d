"""Facial action units: is each of them there?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...errors import FaceDataError
from .inputs import checked_length


class ActionUnitF1(NamedTuple):
    """F1 of each unit in the order of the columns (None: undefined), and their mean."""

    units: tuple[float | None, ...]
    mean: float | None


def action_unit_f1(gold: np.ndarray, pred: np.ndarray, zero_division: float | None = 0.0) -> ActionUnitF1:
    """F1 of each of A units over N images or frames, and the mean over units, in 0..1.

    Args:
        gold: (N, A) int8 with -1 unknown, 0, 1. Unknown entries are left out.
        pred: (N, A) int8 with -1 for no parsed answer, 0, 1. No answer is a false negative where the unit is there,
            and neither a false positive nor a true negative where it is not.
        zero_division: F1 of a unit that is neither gold nor answered anywhere; 0 as in
            ``sklearn.metrics.f1_score``. None leaves such units out of the mean.

    A unit without known gold is undefined and left out of the mean, which is None if no unit is left. Raises
    ``FaceDataError`` for no images, other shapes and other values.
    """
    checked_length(gold=gold, pred=pred)
    if gold.ndim != 2 or gold.shape != pred.shape:
        raise FaceDataError(f"gold is {gold.shape} and pred {pred.shape}; expected the same (images, units)")
    for name, array in (("gold", gold), ("pred", pred)):
        if not np.isin(array, (-1, 0, 1)).all():
            raise FaceDataError(f"{name} has values other than -1 (unknown), 0 and 1")
    known = gold >= 0
    is_gold, is_pred = gold == 1, known & (pred == 1)
    true = (is_gold & is_pred).sum(axis=0)
    either = is_gold.sum(axis=0) + is_pred.sum(axis=0)  # 2 TP + FN + FP
    units = [
        None if not some else 2 * hit / number if number else zero_division
        for some, hit, number in zip(known.sum(axis=0).tolist(), true.tolist(), either.tolist(), strict=True)
    ]
    defined = [value for value in units if value is not None]
    return ActionUnitF1(tuple(units), float(np.mean(defined)) if defined else None)
