"""F1 of action units: by hand, against scikit-learn, and with unknown and missing entries."""

from __future__ import annotations

import numpy as np
import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation import metrics

#                 AU1 AU2 AU4 AU6
GOLD = np.array([[1, 0, -1, 0], [1, 1, -1, 0], [0, 1, -1, 0], [-1, 0, -1, 0]], dtype=np.int8)
PRED = np.array([[1, 1, 1, 0], [0, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=np.int8)


def test_by_hand() -> None:
    # AU1: TP 1, FN 1, FP 1 (row 3 is unknown); AU2: TP 2, FP 1; AU4: never known; AU6: neither gold nor answered
    assert metrics.action_unit_f1(GOLD, PRED) == ((0.5, 0.8, None, 0.0), pytest.approx(1.3 / 3))
    assert metrics.action_unit_f1(GOLD, PRED, zero_division=1.0).mean == pytest.approx(2.3 / 3)
    assert metrics.action_unit_f1(GOLD, PRED, zero_division=None) == ((0.5, 0.8, None, None), pytest.approx(0.65))
    assert metrics.action_unit_f1(GOLD[:, 2:3], PRED[:, 2:3]) == ((None,), None)


def test_no_answer_is_a_false_negative_and_never_a_false_positive() -> None:
    pred = PRED.copy()
    pred[1, 1] = -1  # a hit of AU2 lost: TP 1, FN 1, FP 1
    pred[2, 0] = -1  # a false alarm of AU1 lost: TP 1, FN 1
    assert metrics.action_unit_f1(GOLD, pred).units[:2] == (pytest.approx(2 / 3), 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_as_scikit_learn(seed: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed: nothing to compare with")
    random = np.random.default_rng(seed)
    gold = random.choice([-1, 0, 1], size=(80, 6), p=[0.1, 0.7, 0.2]).astype(np.int8)
    pred = random.choice([-1, 0, 1], size=(80, 6), p=[0.1, 0.6, 0.3]).astype(np.int8)
    gold[:, 0], pred[:, 0] = 0, 0
    each = []
    for unit in range(6):
        known = gold[:, unit] >= 0
        each.append(sklearn.f1_score(gold[known, unit] == 1, pred[known, unit] == 1, zero_division=0))
    found = metrics.action_unit_f1(gold, pred)
    assert found.units == pytest.approx(tuple(each))
    assert found.mean == pytest.approx(np.mean(each))
    # without unknown entries it is scikit-learn's macro average
    full, given = np.maximum(gold, 0), np.maximum(pred, 0)
    macro = sklearn.f1_score(full, given, average="macro", zero_division=0)
    assert metrics.action_unit_f1(full, given).mean == pytest.approx(macro)
    order = random.permutation(80)
    assert metrics.action_unit_f1(gold[order], pred[order]) == found


def test_bad_input() -> None:
    with pytest.raises(FaceDataError, match="nothing to score"):
        metrics.action_unit_f1(GOLD[:0], PRED[:0])
    with pytest.raises(FaceDataError, match="'gold': 4, 'pred': 3"):
        metrics.action_unit_f1(GOLD, PRED[:3])
    with pytest.raises(FaceDataError, match=r"gold is \(4, 4\) and pred \(4, 3\)"):
        metrics.action_unit_f1(GOLD, PRED[:, :3])
    with pytest.raises(FaceDataError, match="pred has values other"):
        metrics.action_unit_f1(GOLD, PRED * 2)
