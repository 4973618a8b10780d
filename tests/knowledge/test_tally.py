from __future__ import annotations

import numpy as np
import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.knowledge import Rule, count, violations, weigh
from llava_face_plugin.knowledge.mine import candidates

NAMES = ("a", "b", "c")
LABELS = np.array(
    [[1, 1, 0], [1, 0, 0], [1, -1, 0], [-1, 1, 1], [0, 1, 1], [0, 0, 0], [1, 1, 1], [0, 0, -1]], dtype=np.int8
)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule("implication", ("a",), ("b",)), (1, 3)),  # rows 0, 1, 6 have a and a known b; row 1 lacks b
        (Rule("implication", ("not a",), ("not b",)), (1, 3)),  # rows 4, 5, 7; row 4 has b
        (Rule("implication", ("a", "b"), ("c",)), (1, 2)),  # rows 0, 6; row 0 lacks c
        (Rule("implication", ("a",), ("b", "c")), (1, 3)),  # rows 0, 1, 6; row 1 has neither
        (Rule("exclusion", of=("b", "c")), (3, 6)),  # rows 2 and 7 are not known; rows 3, 4, 6 have both
        (
            Rule("at_most_one", of=("a", "b", "c")),
            (3, 5),
        ),  # rows 0, 1, 4, 5, 6; rows 0, 4, 6 have two or more
        (Rule("at_least_one", of=("a", "b", "c")), (1, 5)),  # row 5 has none
        (Rule("at_least_one", of=("not a",)), (4, 7)),  # rows 0, 1, 2, 6 have a; row 3 is not known
    ],
)
def test_violations_by_hand(rule: Rule, expected: tuple[int, int]) -> None:
    assert violations(rule, LABELS, NAMES) == expected
    assert all(type(number) is int for number in violations(rule, LABELS, NAMES))


def test_weights_and_report_over_a_stream() -> None:
    labels = np.zeros((100, 3), dtype=np.int8)
    labels[:50, :2] = 1
    labels[0, 1] = 0  # a => b is broken once in 50
    rules = [
        Rule("implication", ("a",), ("b",)),
        Rule("implication", ("a",), ("c",), group="g"),
        Rule("implication", ("c",), ("b",), weight=0.5),
    ]
    kept, report = weigh(rules, iter([labels[:30], labels[30:]]), NAMES, max_rate=0.02)
    assert [rule.text() for rule in kept] == ["a => b", "c => b"]
    assert [rule.weight for rule in kept] == pytest.approx([0.98, 0.5])
    assert report == [
        {"rule": "a => b", "group": "", "violated": 1, "applicable": 50, "rate": 0.02, "kept": True},
        {"rule": "a => c", "group": "g", "violated": 50, "applicable": 50, "rate": 1.0, "kept": False},
        {"rule": "c => b", "group": "", "violated": 0, "applicable": 0, "rate": None, "kept": True},
    ]


def test_unknown_attributes_and_wrong_labels_are_refused() -> None:
    with pytest.raises(FaceDataError, match="unknown attribute 'z'"):
        weigh([Rule("implication", ("z",), ("a",))], [LABELS], NAMES)
    with pytest.raises(FaceDataError, match="expected -1"):
        violations(Rule("implication", ("a",), ("b",)), LABELS + 1, NAMES)


def mined(labels: np.ndarray, **limits: float) -> dict[str, float]:
    return {rule.text(): rate for rule, rate in candidates(count(("a", "b", "c", "d"), [labels]), **limits)}


def test_candidates_are_found_and_trivial_ones_are_not() -> None:
    labels = np.zeros((1000, 4), dtype=np.int8)
    labels[:100, 0] = 1  # a
    labels[:300, 1] = 1  # b, always with a
    labels[300:600, 2] = 1  # c, never with a or b
    labels[:999, 3] = 1  # d, nearly always: "a => d" was to be expected
    # Expected violations: a => b 70, a => not c and c => not a 30, b => not c 90.
    assert mined(labels) == {"a => b": 0.0, "b => not c": 0.0}
    assert mined(labels, min_expected=20.0) == {"a => b": 0.0, "a => not c": 0.0, "b => not c": 0.0}
    labels[0, 1], labels[300, 0] = 0, 1
    found = mined(labels, min_expected=20.0, max_rate=0.05)
    assert found["a => b"] == pytest.approx(2 / 101)
    assert found["c => not a"] == pytest.approx(1 / 300)  # the lower of 1/300 and 1/101
    assert "a => not c" not in found


def test_candidates_must_beat_independence() -> None:
    labels = np.zeros((20_000, 4), dtype=np.int8)
    labels[::2, 0] = 1
    labels[:, 1] = 1
    labels[:160, 1] = 0  # b lacks in 0.8 % of the rows, with and without a
    assert mined(labels) == {}
    assert "a => b" in mined(labels, max_lift=1.01)
