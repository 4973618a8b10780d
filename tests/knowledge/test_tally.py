from __future__ import annotations

import json

import numpy as np
import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.knowledge import Rule, violations, weigh

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
        (
            Rule("exclusion", of=("b", "c")),
            (3, 3),
        ),  # rows 0, 3, 4, 6 of the known ones have b; 3, 4, 6 have c, the rarer, and both
        (
            Rule("at_most_one", of=("a", "b", "c")),
            (3, 4),
        ),  # rows 0, 1, 4, 6 have one; rows 0, 4, 6 have two or more
        (Rule("at_least_one", of=("a", "b", "c")), (1, 5)),  # row 5 has none
        (Rule("exactly_one", of=("a", "b", "c")), (4, 5)),  # of those only row 1 has exactly one
        (Rule("implication", ("a", "b"), ("c",), if_joint="any"), (2, 4)),  # rows 0, 1, 4, 6; rows 0, 1 lack c
        (Rule("implication", ("a",), ("b", "c"), then_joint="all"), (2, 3)),  # rows 0, 1, 6; 0 lacks c, 1 both
        (Rule("at_least_one", of=("not a",)), (4, 7)),  # rows 0, 1, 2, 6 have a; row 3 is not known
    ],
)
def test_violations_by_hand(rule: Rule, expected: tuple[int, int]) -> None:
    assert violations(rule, LABELS, NAMES) == expected
    assert all(type(number) is int for number in violations(rule, LABELS, NAMES))


def test_equal_clauses_meet_the_same_fate() -> None:
    """Bald is rare: an exclusion must not look good for all the rows without it."""
    labels = np.zeros((10_000, 2), dtype=np.int8)
    labels[:200, 0] = labels[150:600, 1] = 1  # 50 of 200 bald ones have gray hair
    names = ("Bald", "Gray_Hair")
    pair = [
        Rule("exclusion", of=names), Rule("at_most_one", of=names[::-1]),
        Rule("implication", ("Bald",), ("not Gray_Hair",)),
        Rule("at_least_one", of=("not Bald", "not Gray_Hair")),
    ]  # fmt: skip
    kept, report = weigh(pair, np.array_split(labels, 3), names)  # the rarer one of all batches, not of each
    assert [(entry["violated"], entry["applicable"]) for entry in report] == [(50, 200)] * 4 and kept == []


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
    short = [{key: entry[key] for key in ("violated", "applicable", "rate", "kept", "weight")} for entry in report]
    assert short == [
        {"violated": 1, "applicable": 50, "rate": 0.02, "kept": True, "weight": 0.98},
        {"violated": 50, "applicable": 50, "rate": 1.0, "kept": False, "weight": 0.0},
        {"violated": 0, "applicable": 0, "rate": None, "kept": True, "weight": 0.5},
    ]
    assert [(entry["rule"], entry["group"]) for entry in report] == [("a => b", ""), ("a => c", "g"), ("c => b", "")]
    assert report[0]["interval"] == pytest.approx([0.003539, 0.104957], abs=1e-6) and report[2]["interval"] is None
    assert [Rule.from_dict(entry["definition"]) for entry in report] == rules
    assert json.loads(json.dumps(report)) == report


def test_unknown_attributes_and_wrong_labels_are_refused() -> None:
    with pytest.raises(FaceDataError, match="unknown attribute 'z'"):
        weigh([Rule("implication", ("z",), ("a",))], [LABELS], NAMES)
    with pytest.raises(FaceDataError, match="expected -1"):
        violations(Rule("implication", ("a",), ("b",)), LABELS + 1, NAMES)
