"""Intervals: against enumeration and formulas, the coverage they promise, and that row order does not matter."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation import metrics
from llava_face_plugin.evaluation.metrics.clusters import Clusters


def draw(seed: int, clusters: int = 40, spread: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Names of clusters of 2 to 12 rows, and right or wrong answers with a rate that is each cluster's own."""
    random = np.random.default_rng(seed)
    names = np.repeat([f"person {i}" for i in range(clusters)], random.integers(2, 13, clusters))
    rate = np.clip(0.6 + spread * random.normal(size=clusters), 0, 1)
    number = np.unique(names, return_inverse=True)[1]
    return names, (random.random(len(names)) < rate[number]).astype(float)


def test_three_clusters_against_all_27_draws() -> None:
    names, scores = ["a", "a", "b", "c", "c", "c"], np.array([1.0, 0.0, 1.0, 0.0, 0.0, 1.0])
    sums, sizes = np.array([1, 1, 1]), np.array([2, 1, 3])
    means = [sums[list(d)].sum() / sizes[list(d)].sum() for d in itertools.product(range(3), repeat=3)]
    found = metrics.cluster_bootstrap(names, scores, resamples=20_000)
    assert found is not None
    assert (found.low, found.high) == (min(means), max(means)) == (1 / 3, 1.0)  # aaa..ccc: 1/27 each, over 2.5 %


def test_many_clusters_against_the_normal_approximation() -> None:
    names, scores = draw(0, clusters=400)
    number = np.unique(names, return_inverse=True)[1]
    residual = np.bincount(number, weights=scores - scores.mean())
    error = np.sqrt((residual**2).sum()) / len(scores)  # of a ratio of sums (linearised)
    found = metrics.cluster_bootstrap(names, scores, resamples=4000)
    assert found is not None
    assert found.low == pytest.approx(scores.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(scores.mean() + 1.96 * error, abs=0.15 * error)


def coverage(clustered: bool) -> float:
    """Share of 300 simulated data sets, 60 clusters of 8 correlated answers, whose interval holds the true mean."""
    random = np.random.default_rng(7)
    held = 0
    for trial in range(300):
        rate = random.beta(2, 1, size=60)  # mean 2/3, an intraclass correlation of 1 / (2 + 1 + 1)
        scores = (random.random((60, 8)) < rate[:, None]).ravel()
        names = np.repeat(np.arange(60), 8) if clustered else np.arange(480)
        found = metrics.cluster_bootstrap(names, scores, resamples=500, seed=trial)
        assert found is not None
        held += found.low <= 2 / 3 <= found.high
    return held / 300


def test_coverage_is_what_it_says() -> None:
    assert 0.90 <= coverage(clustered=True) <= 0.98


def test_without_clusters_the_interval_would_be_too_narrow() -> None:
    assert coverage(clustered=False) < 0.85


def test_both_paths_draw_the_same_resamples() -> None:
    names, scores = draw(1)
    fast = metrics.cluster_bootstrap(names, scores, resamples=300, seed=5)
    general = metrics.cluster_bootstrap(names, lambda rows: float(scores[rows].mean()), resamples=300, seed=5)
    assert fast is not None and general is not None
    assert (fast.low, fast.high) == pytest.approx((general.low, general.high))
    assert fast != metrics.cluster_bootstrap(names, scores, resamples=300, seed=6)


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_rows_give_the_same_bits(seed: int) -> None:
    names, _ = draw(2)
    scores = np.random.default_rng(seed).normal(size=len(names))  # sums of these depend on their order
    order = np.random.default_rng(seed + 10).permutation(len(names))
    assert metrics.cluster_bootstrap(names[order], scores[order]) == metrics.cluster_bootstrap(names, scores)
    a, b = scores, np.roll(scores, 1)
    assert metrics.paired_bootstrap(a[order], b[order], names[order]) == metrics.paired_bootstrap(a, b, names)
    gold, pred = (np.where(values > 0, "yes", "no") for values in (a, b))
    mixed = metrics.confusion_bootstrap(names[order], gold[order], pred[order], metrics.mean_recall)
    assert mixed == metrics.confusion_bootstrap(names, gold, pred, metrics.mean_recall)

    def mean(values: np.ndarray) -> metrics.Interval | None:
        return metrics.cluster_bootstrap(names, metrics.mean_of(values), resamples=50)

    def mean_shuffled(values: np.ndarray) -> metrics.Interval | None:
        return metrics.cluster_bootstrap(names[order], metrics.mean_of(values[order]), resamples=50)

    assert mean(scores) == mean_shuffled(scores)


def test_the_fast_path_of_class_metrics_equals_the_general_one() -> None:
    names, _ = draw(3)
    random = np.random.default_rng(0)
    gold = random.choice(["fear", "joy", "sad"], len(names))
    pred = np.where(random.random(len(names)) < 0.5, gold, random.choice(["fear", "joy", "odd"], len(names)))
    topics = random.choice(["Bald", "Hat"], len(names))
    pairs = [
        (metrics.mean_recall, lambda r: metrics.uar(gold[r], pred[r]), {}),
        (metrics.mean_f1, lambda r: metrics.macro_f1(gold[r], pred[r], ["fear", "joy", "sad"]), {}),
        (
            metrics.topic_mean,
            lambda r: metrics.topic_balanced_accuracy(topics[r], gold[r], pred[r]),
            {"topics": topics},
        ),
    ]
    for statistic, of_rows, extra in pairs:
        fast = metrics.confusion_bootstrap(names, gold, pred, statistic, resamples=100, **extra)
        general = metrics.cluster_bootstrap(names, of_rows, resamples=100)
        assert fast is not None and general is not None
        assert (fast.low, fast.high) == pytest.approx((general.low, general.high))


def test_batches_of_draws_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    names, scores = draw(4)
    whole = metrics.cluster_bootstrap(names, scores, resamples=101)
    monkeypatch.setattr("llava_face_plugin.evaluation.metrics.clusters._CELLS", 3 * 40)
    assert metrics.cluster_bootstrap(names, scores, resamples=101) == whole


def test_draws_hold_whole_clusters() -> None:
    names = ["b", "a", "b", "c"]
    grouped = Clusters(names)
    assert grouped.rows(np.array([1, 1, 2])).tolist() == [0, 2, 0, 2, 3]
    (draws,), (weights,) = list(grouped.draws(50, 0)), list(grouped.weights(50, 0))
    assert draws.shape == weights.shape == (50, 3)
    assert (weights.sum(axis=1) == 3).all()
    assert [np.bincount(d, minlength=3).tolist() for d in draws] == weights.tolist()


def test_one_cluster_has_no_interval() -> None:
    assert metrics.cluster_bootstrap(["a"] * 3, [0, 1, 1]) is None
    assert metrics.cluster_bootstrap(["a"] * 3, lambda rows: float(rows.mean())) is None
    assert metrics.confusion_bootstrap(["a"] * 2, ["x", "y"], ["x", "x"], metrics.mean_recall) is None


def test_equal_clusters_have_no_width() -> None:
    assert metrics.cluster_bootstrap(["a", "b"], [1, 1]) == metrics.Interval(1.0, 1.0)


def test_an_undefined_statistic_has_no_interval() -> None:
    names = [str(i) for i in range(100)]
    assert metrics.cluster_bootstrap(names, lambda rows: None, resamples=50) is None
    # one cluster carries the only pair of one person: it is missing from (1 - 1/100)^100 = 37 % of resamples
    scores, same = np.arange(100.0), np.arange(100) == 99
    assert metrics.cluster_bootstrap(names, lambda r: metrics.eer(scores[r], same[r]), resamples=200) is None
    # five carry one: missing from 0.6 %, which are left out
    same = np.arange(100) >= 95
    found = metrics.cluster_bootstrap(names, lambda r: metrics.auc(scores[r], same[r]), resamples=200)
    assert found == metrics.Interval(1.0, 1.0)


def test_bad_input() -> None:
    with pytest.raises(FaceDataError, match="nothing to score"):
        metrics.cluster_bootstrap([], [])
    with pytest.raises(FaceDataError, match="nothing to score"):
        metrics.cluster_bootstrap([], lambda rows: 0.0)
    with pytest.raises(FaceDataError, match="'clusters': 2"):
        metrics.cluster_bootstrap(["a", "b"], [1])
    with pytest.raises(FaceDataError, match="finite"):
        metrics.cluster_bootstrap(["a", "b"], [1, float("nan")])
    with pytest.raises(FaceDataError, match="'clusters': 1"):
        metrics.confusion_bootstrap(["a"], ["x", "y"], ["x", "x"], metrics.mean_recall)
