"""Errors of ages: by hand, against scikit-learn, and the price of refusing."""

from __future__ import annotations

import numpy as np
import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation import metrics

GOLD = [20.0, 30.0, 40.0, 70.0]


def test_by_hand() -> None:
    assert metrics.mae(GOLD, [21, 25, 40, 60]) == 4.0
    assert metrics.cumulative_score(GOLD, [21, 25, 40, 60]) == 0.75  # exactly five years off is within
    assert metrics.cumulative_score(GOLD, [21, 25, 40, 60], within=0) == 0.25


def test_an_unparsed_age_costs_the_largest_error_possible() -> None:
    pred = [20, None, float("nan"), 500]
    # 0, 90 (30 -> 120), 80 (40 -> 120), 70 (70 -> 0; out of range is no answer)
    assert metrics.mae(GOLD, pred) == 60.0
    assert metrics.mae(GOLD, pred, low=0, high=100) == (0 + 70 + 60 + 70) / 4
    assert metrics.mae_parsed(GOLD, pred) == (0.0, 1)
    assert metrics.mae_parsed(GOLD, [None] * 4) == (None, 0)
    assert metrics.cumulative_score(GOLD, pred, within=1000) == 0.25


def test_refusing_never_beats_any_answer() -> None:
    gold = list(range(0, 121, 5))
    for guess in (0, 33.5, 120):
        given, _ = metrics.absolute_errors(gold, [guess] * len(gold))
        refused, parsed = metrics.absolute_errors(gold, [None] * len(gold))
        assert (refused >= given).all() and not parsed.any()


def test_as_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed: nothing to compare with")
    random = np.random.default_rng(0)
    gold, pred = random.uniform(0, 120, (2, 500))
    assert metrics.mae(gold, pred) == pytest.approx(sklearn.mean_absolute_error(gold, pred))
    assert metrics.mae_parsed(gold, pred) == (pytest.approx(sklearn.mean_absolute_error(gold, pred)), 500)


def test_the_order_of_questions_does_not_matter() -> None:
    random = np.random.default_rng(1)
    gold, pred = random.uniform(0, 120, (2, 500))
    for _ in range(5):
        order = random.permutation(500)
        for metric in (metrics.mae, metrics.mae_parsed, metrics.cumulative_score):
            assert metric(gold[order], pred[order]) == metric(gold, pred)


@pytest.mark.parametrize("metric", [metrics.mae, metrics.mae_parsed, metrics.cumulative_score])
def test_bad_input(metric) -> None:
    with pytest.raises(FaceDataError, match="nothing to score"):
        metric([], [])
    with pytest.raises(FaceDataError, match="'gold': 2, 'pred': 1"):
        metric([1, 2], [1])
    for wrong in (130, -1, None, float("nan")):
        with pytest.raises(FaceDataError, match="question 1 has the gold value"):
            metric([20, wrong], [20, 20])
