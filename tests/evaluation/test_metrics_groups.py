"""Scores by group: which groups count, what the worst and the gap are."""

from __future__ import annotations

import numpy as np
import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation import metrics

GROUPS = ["b"] * 4 + ["a"] * 2 + [""] * 3 + ["c"]
SCORES = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]


def test_by_hand() -> None:
    found = metrics.group_scores(GROUPS, SCORES, least=2)
    assert found.scores == {"a": 0.5, "b": 0.75}
    assert found.sizes == {"a": 2, "b": 4, "c": 1}
    assert (found.too_small, found.undefined) == (("c",), ())
    assert metrics.worst_group(found) == ("a", 0.5)
    assert metrics.worst_group(found, higher_is_better=False) == ("b", 0.75)
    assert metrics.group_gap(found) == 0.25


def test_small_groups_are_left_out_by_default() -> None:
    found = metrics.group_scores(["x"] * 20 + ["y"] * 19, [1] * 39)
    assert (found.scores, found.too_small) == ({"x": 1.0}, ("y",))
    assert metrics.group_gap(found) is None  # one group: nothing to compare
    nothing = metrics.group_scores(GROUPS, SCORES)
    assert nothing.too_small == ("a", "b", "c")
    assert metrics.worst_group(nothing) is None
    assert metrics.group_gap(nothing) is None


def test_many_questions_about_few_people_are_a_small_group() -> None:
    clusters = ["p1", "p1", "p1", "p2", "p3", "p4", "", "", "", "p5"]
    found = metrics.group_scores(GROUPS, SCORES, clusters=clusters, least=2)
    assert found.sizes == {"a": 2, "b": 2, "c": 1}
    assert metrics.group_scores(GROUPS, SCORES, clusters=["p"] * 10, least=2).scores == {}


def test_any_statistic_of_the_rows() -> None:
    random = np.random.default_rng(0)
    groups = random.choice(["x", "y", "z"], 300)
    gold, pred = random.choice(["joy", "fear"], (2, 300))
    found = metrics.group_scores(groups, lambda rows: metrics.uar(gold[rows], pred[rows]))
    for name in "xyz":
        mine = [(a, b) for a, b, group in zip(gold, pred, groups, strict=True) if group == name]
        assert found.scores[name] == pytest.approx(metrics.uar(*zip(*mine, strict=True)))


def test_a_statistic_that_is_undefined_for_a_group() -> None:
    same = np.array([True, False, True, True])
    found = metrics.group_scores(["x", "x", "y", "y"], lambda rows: metrics.auc(rows, same[rows]), least=2)
    assert (found.scores, found.undefined) == ({"x": 0.0}, ("y",))


def test_groups_are_a_partition() -> None:
    random = np.random.default_rng(1)
    groups, scores = random.choice(["x", "y", "z"], 500), random.random(500)
    found = metrics.group_scores(groups, scores)
    assert sum(found.sizes.values()) == 500
    weighted = sum(found.scores[name] * found.sizes[name] for name in found.scores) / 500
    assert weighted == pytest.approx(scores.mean())
    order = random.permutation(500)
    assert metrics.group_scores(groups[order], scores[order]) == found


def test_bad_input() -> None:
    with pytest.raises(FaceDataError, match="nothing to score"):
        metrics.group_scores([], [])
    with pytest.raises(FaceDataError, match="'scores': 1"):
        metrics.group_scores(["a", "b"], [1])
    with pytest.raises(FaceDataError, match="'clusters': 1"):
        metrics.group_scores(["a", "b"], [1, 1], clusters=["p"])
