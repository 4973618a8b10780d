"""Two models on the same questions: by enumeration, the promised error rate, and the edges."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation import metrics


def test_p_against_all_sign_flips() -> None:
    a, b = [1, 1, 1, 0, 1, 1, 1], [0, 0, 1, 1, 0, 0, 0]
    names = ["p", "p", "q", "q", "r", "s", "t"]
    totals = np.array([2, -1, 1, 1, 1])  # of a - b in each cluster
    flips = np.array(list(itertools.product((-1, 1), repeat=5))) @ totals
    exact = (np.abs(flips) >= 4).mean()
    found = metrics.paired_bootstrap(a, b, names, resamples=20_000)
    assert found.difference == pytest.approx(4 / 7)
    assert found.p == pytest.approx(exact, abs=0.01)


def test_the_interval_is_that_of_the_differences() -> None:
    random = np.random.default_rng(0)
    names = random.choice([f"p{i}" for i in range(30)], 200)
    a, b = random.integers(0, 2, (2, 200))
    found = metrics.paired_bootstrap(a, b, names)
    assert metrics.Interval(found.low, found.high) == metrics.cluster_bootstrap(names, a - b)
    other = metrics.paired_bootstrap(b, a, names)
    assert (other.difference, other.low, other.high) == pytest.approx((-found.difference, -found.high, -found.low))
    assert other.p == found.p


def rejected(clustered: bool) -> float:
    """Share of 300 pairs of equally good models that p < 0.05 tells apart; they differ by person, 40 of 8 rows."""
    random = np.random.default_rng(11)
    found = 0
    for trial in range(300):
        lean = random.normal(size=(40, 1))  # which of the two is better on this person
        a, b = (random.normal(size=(40, 8)) + sign * lean > 0 for sign in (1, -1))
        names = np.repeat(np.arange(40), 8) if clustered else np.arange(320)
        found += metrics.paired_bootstrap(a.ravel(), b.ravel(), names, resamples=300, seed=trial).p < 0.05
    return found / 300


def test_equal_models_are_told_apart_as_seldom_as_promised() -> None:
    assert 0.02 <= rejected(clustered=True) <= 0.08


def test_without_clusters_equal_models_would_be_told_apart_often() -> None:
    assert rejected(clustered=False) > 0.2


def test_a_clear_difference_is_found() -> None:
    names = [str(i) for i in range(50)]
    found = metrics.paired_bootstrap([1] * 50, [0] * 40 + [1] * 10, names)
    assert found.difference == 0.8
    assert found.low is not None and found.low > 0.6
    assert found.p == 1 / 2001  # never 0


def test_equal_answers() -> None:
    assert metrics.paired_bootstrap([1, 0], [1, 0], ["a", "b"]) == (0.0, 0.0, 0.0, 1.0)


def test_one_cluster_shows_nothing() -> None:
    assert metrics.paired_bootstrap([1, 1], [0, 0], ["a", "a"]) == (1.0, None, None, 1.0)


def test_sums_that_tie_on_paper_tie() -> None:
    # |-6 -6 -4 +4| = 12 tenths: as far from 0 are the six flips with both 6 on one side and 4 apart or with them,
    # of 16; in floats some of those sums come out a last digit nearer
    tenths = np.array([-6, -6, -4, 4])
    flips = np.array(list(itertools.product((-1, 1), repeat=4)))
    assert (np.abs(flips @ tenths) >= 12).mean() == 6 / 16
    assert (np.abs(flips @ (tenths / 10)) >= abs((tenths / 10).sum())).mean() < 6 / 16
    found = metrics.paired_bootstrap(tenths / 10, np.zeros(4), list("abcd"), resamples=5000)
    assert found.p == pytest.approx(6 / 16, abs=0.02)


def test_bad_input() -> None:
    with pytest.raises(FaceDataError, match="nothing to score"):
        metrics.paired_bootstrap([], [], [])
    with pytest.raises(FaceDataError, match="'b': 1"):
        metrics.paired_bootstrap([1, 0], [1], ["a", "b"])
    with pytest.raises(FaceDataError, match="finite"):
        metrics.paired_bootstrap([1, float("inf")], [1, 0], ["a", "b"])
