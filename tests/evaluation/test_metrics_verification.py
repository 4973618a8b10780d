"""Verification: folds, AUC, EER and TAR at FAR by hand, against scikit-learn, with ties and without answers."""

from __future__ import annotations

import numpy as np
import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation import metrics

INF = float("inf")


def draw(seed: int, number: int = 300, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Scores that tell the pairs apart in part; whole numbers of ``levels`` for many ties."""
    random = np.random.default_rng(seed)
    same = random.random(number) < 0.4
    scores = random.normal(size=number) + same
    return (scores if levels is None else np.round(scores * levels)), same


def test_folds_by_hand() -> None:
    folds, correct = [0, 0, 1, 1, 2, 2], [True, True, True, False, True, False]
    mean, sd = metrics.fold_accuracy(folds, correct)
    assert mean == pytest.approx(2 / 3)
    assert sd == pytest.approx(((1 / 3) ** 2 + 2 * (1 / 6) ** 2) ** 0.5 / 2**0.5)  # of 1, 1/2, 1/2
    order = [5, 0, 3, 1, 4, 2]
    assert metrics.fold_accuracy([folds[i] for i in order], [correct[i] for i in order]) == (mean, sd)


def test_folds_of_unequal_size_count_alike() -> None:
    assert metrics.fold_accuracy([3, 7, 7, 7], [True, False, False, False])[0] == 0.5


def test_folds_that_are_no_folds() -> None:
    assert metrics.fold_accuracy([0, 0], [True, False]) == (0.5, None)
    with pytest.raises(FaceDataError, match="1 of 2 pairs have no fold"):
        metrics.fold_accuracy([0, -1], [True, False])
    with pytest.raises(FaceDataError, match="nothing to score"):
        metrics.fold_accuracy([], [])


@pytest.mark.parametrize(
    ("scores", "same", "auc", "eer"),
    [
        ([4, 3, 2, 1], [1, 1, 0, 0], 1.0, 0.0),
        ([4, 3, 2, 1], [0, 0, 1, 1], 0.0, 1.0),
        ([5, 5, 5, 5], [1, 0, 1, 0], 0.5, 0.5),  # one threshold: a straight line from (0, 0) to (1, 1)
        ([4, 3, 2, 1], [1, 0, 1, 0], 0.75, 0.5),  # ROC (0, .5) (.5, .5): there FAR = FRR = 1/2
        ([3, 2, 2, 1], [1, 1, 0, 0], 7 / 8, 1 / 4),  # from (0, .5) to (.5, 1) TAR = 1/2 + FAR, which is 1 - FAR at 1/4
        ([1e9, 3e-9, -1e9], [1, 1, 0], 1.0, 0.0),  # any range
    ],
)
def test_curves_by_hand(scores: list[float], same: list[int], auc: float, eer: float) -> None:
    gold = [bool(value) for value in same]
    assert metrics.auc(scores, gold) == pytest.approx(auc)
    assert metrics.eer(scores, gold) == pytest.approx(eer)


def test_an_unparsed_score_is_wrong_at_every_threshold() -> None:
    scores, same = [4.0, 3.0, 2.0, 1.0], [True, True, False, False]
    assert metrics.auc([None, *scores[1:]], same) == 0.5  # below both
    assert metrics.auc([*scores[:3], float("nan")], same) == 0.5  # above both
    assert metrics.eer([None] * 4, same) == 1.0
    assert metrics.auc([INF, *scores[1:3], -INF], same) == 1.0  # a score may be infinite


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [None, 1, 4])
def test_as_scikit_learn(seed: int, levels: int | None) -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed: nothing to compare with")
    scores, same = draw(seed, levels=levels)
    far, tar, _ = sklearn.roc_curve(same, scores, drop_intermediate=False)
    assert metrics.auc(scores, same) == pytest.approx(sklearn.roc_auc_score(same, scores))
    # where the piecewise straight curve meets FAR + TAR = 1, by a fine walk along it
    steps = np.linspace(0, 1, 200_001) * (len(far) - 1)
    x, y = (np.interp(steps, np.arange(len(far)), axis) for axis in (far, tar))
    assert metrics.eer(scores, same) == pytest.approx(x[np.argmin(np.abs(x + y - 1))], abs=1e-3)


def test_only_the_order_of_scores_matters() -> None:
    scores, same = draw(9)
    order = np.random.default_rng(0).permutation(len(scores))
    for metric in (metrics.auc, metrics.eer):
        assert metric(np.exp(scores), same) == pytest.approx(metric(scores, same))
        assert metric(scores[order], same[order]) == metric(scores, same)
        assert metric(-scores, ~same) == pytest.approx(metric(scores, same))  # the other way round


def test_one_kind_of_pair_has_no_curve() -> None:
    for same in ([True, True], [False, False]):
        assert metrics.auc([1, 2], same) is None
        assert metrics.eer([1, 2], same) is None
    with pytest.raises(FaceDataError, match="nothing to score"):
        metrics.eer([], [])
    with pytest.raises(FaceDataError, match="'same': 1"):
        metrics.auc([1, 2], [True])
