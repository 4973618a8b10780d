from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.knowledge import Rule, count, violations
from llava_face_plugin.knowledge.tally import violations_in_counts
from llava_face_plugin.knowledge.vocabularies import load_mapping, mapped, mapped_labels, mapped_rule, named

THEIRS = ("Mouth_Closed", "Bald", "Senior", "Male", "Odd")
OURS = ("Male", "Mouth_Open", "Young", "Bald", "Wig")
MAPPING = {"Mouth_Closed": "not Mouth_Open", "Senior": "not Young", "Odd": None}
LABELS = np.random.default_rng(0).integers(-1, 2, (400, 5)).astype(np.int8)


def test_names() -> None:
    names = named(THEIRS, MAPPING, OURS, "theirs")
    assert names == {
        "Mouth_Closed": ("Mouth_Open", False), "Bald": ("Bald", True), "Senior": ("Young", False),
        "Male": ("Male", True),
    }  # fmt: skip
    assert "Male" not in named(THEIRS, {"Male": None}, OURS, "theirs")  # null drops an equal name too


def test_labels_by_hand() -> None:
    names = named(THEIRS, MAPPING, OURS, "theirs")
    rows = np.array([[1, 0, -1, 1, 1], [0, -1, 1, 0, 0]], dtype=np.int8)
    found = mapped_labels(rows, THEIRS, names, OURS)
    np.testing.assert_array_equal(found, [[1, 0, -1, 0, -1], [0, 1, 0, -1, -1]])


def test_mapped_counts_are_counts_of_mapped_labels() -> None:
    """Inverted attributes, ones that they lack, unknown labels: the four cells of every pair survive."""
    names = named(THEIRS, MAPPING, OURS, "theirs")
    found = mapped(count(THEIRS, [LABELS]), names, OURS)
    expected = count(OURS, [mapped_labels(LABELS, THEIRS, names, OURS)])
    for part in ("joint", "support", "both", "rows"):
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part), err_msg=part)
    found.check()
    assert found.known[OURS.index("Wig")] == 0


RULES = [
    Rule("implication", ("Mouth_Closed", "not Bald"), ("Senior",), group="g", weight=0.5),
    Rule("implication", ("Mouth_Closed", "Senior"), ("Bald", "Male"), if_joint="any", then_joint="all"),
    Rule("exactly_one", of=("Mouth_Closed", "Senior", "Male")),
    Rule("exclusion", of=("Mouth_Closed", "Male")),
    Rule("implication", ("not Senior",), ("not Male",)),
    Rule("at_least_one", of=("not Mouth_Closed",)),
]


@pytest.mark.parametrize("rule", RULES, ids=Rule.text)
def test_mapped_rules_are_broken_by_the_same_rows(rule: Rule) -> None:
    names = named(THEIRS, MAPPING, OURS, "theirs")
    ours = mapped_rule(rule, names)
    assert ours is not None and (ours.group, ours.weight) == (rule.group, rule.weight)
    labels = mapped_labels(LABELS, THEIRS, names, OURS)
    assert violations(ours, labels, OURS) == violations(rule, LABELS, THEIRS)
    if len(rule.attributes()) <= 2:
        broken, *applicable = violations_in_counts(ours, count(OURS, [labels])) or ()
        assert (broken, min(applicable)) == violations(rule, LABELS, THEIRS)
    else:
        assert violations_in_counts(ours, count(OURS, [labels])) is None


def test_a_rule_about_what_is_left_out_is_none() -> None:
    names = named(THEIRS, MAPPING, OURS, "theirs")
    assert mapped_rule(Rule("exclusion", of=("Odd", "Male")), names) is None


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"Mouth_Close": "Bald"}, "'theirs': unknown attribute 'Mouth_Close'; did you mean 'Mouth_Closed'"),
        ({"Odd": "Wigs"}, "unknown attribute 'Wigs'; did you mean 'Wig'"),
        ({"Odd": "Bald"}, "'Bald' and 'Odd' are both our 'Bald'; map one of them to null"),
        ({"Odd": "not Young", "Senior": "Young"}, "both our 'Young'"),
    ],
)
def test_impossible_mappings(mapping: dict[str, str | None], message: str) -> None:
    with pytest.raises(FaceDataError, match=message):
        named(THEIRS, mapping, OURS, "theirs")


def test_mapping_files(tmp_path: Path) -> None:
    yaml, other = tmp_path / "m.yaml", tmp_path / "m.json"
    yaml.write_text('maadface:\n  Mouth_Closed: not  Mouth_Open\n  Senior: "!Young"\n  Odd: null\n')
    other.write_text(json.dumps({"maadface": MAPPING}))
    assert load_mapping(yaml) == load_mapping(other) == {"maadface": MAPPING}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not valid YAML"),
        ("- a", "expected {data set"),
        ("maadface: 3", "'maadface': expected {their name: our name}"),
        ("maadface: {a: 1}", "maadface: 'a': 1; expected a name"),
        ("maadface: {a: not not b}", "single 'not'"),
        ("1: {a: b}", "1: expected"),
        ("a: !!timestamp x", "not valid YAML"),
    ],
)
def test_broken_mapping_files(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    with pytest.raises(FaceDataError, match=message) as error:
        load_mapping(path)
    assert str(error.value).startswith(f"{path}: ")
    with pytest.raises(FaceDataError, match="cannot read the mapping"):
        load_mapping(tmp_path / "none.yaml")
