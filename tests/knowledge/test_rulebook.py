from __future__ import annotations

import json
from pathlib import Path

import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.knowledge import Rule, check_rules, load_rules
from llava_face_plugin.labels import CELEBA_ATTRIBUTES

MADE = (
    "Male", "Young", "Bald", "Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Eyeglasses",
    "Mustache", "Goatee", "No_Beard", "Smiling", "Mouth_Slightly_Open", "Wearing_Hat", "Wearing_Earrings",
    "Wearing_Necklace", "Wearing_Lipstick", "Heavy_Makeup", "Rosy_Cheeks",
)  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "text", "attributes"),
    [
        (Rule("implication", if_=("Goatee",), then=("Male",)), "Goatee => Male", ("Goatee", "Male")),
        (Rule("implication", ("A", "!B"), ("! C", "D")), "A and not B => not C or D", ("A", "B", "C", "D")),
        (Rule("exclusion", of=("A", "B")), "not both A and B", ("A", "B")),
        (Rule("at_most_one", of=("A", "B", "C")), "at most one of {A, B, C}", ("A", "B", "C")),
        (Rule("at_least_one", of=("A", "not B")), "at least one of {A, not B}", ("A", "B")),
    ],
)
def test_text_attributes_and_json_round_trip(rule: Rule, text: str, attributes: tuple[str, ...]) -> None:
    assert rule.text() == text and rule.attributes() == attributes
    assert Rule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule


def test_dict_keys() -> None:
    rule = Rule("implication", ("A",), ("B",), group="gender", weight=0.5, source="me")
    assert rule.to_dict() == {
        "kind": "implication", "if": ["A"], "then": ["B"], "group": "gender", "weight": 0.5, "source": "me",
    }  # fmt: skip
    everything = {
        "kind": "exclusion",
        "if": [],
        "then": [],
        "of": ["A", "B"],
        "group": "",
        "weight": 1.0,
        "source": "",
    }
    assert Rule.from_dict(everything) == Rule("exclusion", of=("A", "B"))
    assert Rule.from_dict({"if": "A", "then": "not B"}) == Rule("implication", ("A",), ("not B",))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("{if: A, then: B, wieght: 1}", "unknown key 'wieght'; did you mean 'weight'"),
        ("{kind: at_most_on, of: [A, B]}", "unknown kind of rule 'at_most_on'; did you mean 'at_most_one'"),
        ("{of: [A, B]}", "'kind' is missing"),
        ("{if: A}", "needs 'if' and 'then'"),
        ("{if: A, then: B, of: [C]}", "and no 'of'"),
        ("{kind: exclusion, of: [A]}", "at least two attributes"),
        ("{kind: at_least_one, of: []}", "at least one attribute"),
        ("{kind: at_least_one, if: A, of: [B]}", "no 'if' or 'then'"),
        ("{if: A, then: not A}", "occurs twice in 'A => not A'"),
        ("{if: A, then: not not B}", "single 'not'"),
        ("{if: A, then: [1]}", "1 is not an attribute name"),
        ("{if: A, then: {B: 1}}", "expected an attribute name or a list"),
        ("{if: A, then: B, weight: heavy}", "weight is 'heavy'"),
        ("{if: A, then: B, weight: -1}", "weight is -1; expected a number from 0 to 1"),
        ("{if: A, then: B, weight: .nan}", "weight is nan"),
        ("{if: A, then: B, group: 7}", "group is 7; expected text"),
        ("Goatee => Male", "'Goatee => Male' is not a rule"),
    ],
)
def test_wrong_rules_name_file_and_number(item: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"rules:\n  - {{if: A, then: B}}\n  - {item}\n")
    with pytest.raises(FaceDataError, match=message) as error:
        load_rules(path)
    assert str(error.value).startswith(f"{path}: rule 2: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules: [", "not valid YAML"),
        ("rules:\n  - {if: A, then: !B }\n", "quote"),
        ("- {if: A, then: B}", "expected a mapping with the key 'rules'"),
        ("rules: {if: A, then: B}", "a list under it"),
        ("rules: []\nrule: []", "unknown key 'rule'; did you mean 'rules'"),
        ("", "expected a mapping"),
    ],
)
def test_wrong_files_are_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(FaceDataError, match=message) as error:
        load_rules(path)
    assert str(error.value).startswith(f"{path}: ")


def test_missing_file_suggests_a_builtin() -> None:
    with pytest.raises(FaceDataError, match="unknown rule file 'celebaa'; did you mean 'celeba'"):
        load_rules("celebaa")


def test_a_file_of_one_rule(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text('description: mine\nrules:\n  - {if: [A, "!B"], then: C, group: x, weight: 1}\n')
    assert load_rules(str(path)) == [Rule("implication", ("A", "not B"), ("C",), group="x")]


def test_check_rules_suggests() -> None:
    with pytest.raises(FaceDataError, match="rule 'Goatee => Mael': unknown attribute 'Mael'; did you mean 'Male'"):
        check_rules([Rule("implication", ("Goatee",), ("Mael",))], CELEBA_ATTRIBUTES)


@pytest.mark.parametrize(("name", "vocabulary"), [("celeba", CELEBA_ATTRIBUTES), ("made", MADE)])
def test_builtin_rules(name: str, vocabulary: tuple[str, ...]) -> None:
    rules = load_rules(name)
    check_rules(rules, vocabulary)
    assert len({rule.text() for rule in rules}) == len(rules) > 10
    for rule in rules:
        assert (rule.group == "gender") == ("Male" in rule.attributes()), rule.text()
        assert rule.group and rule.weight == 1.0


def test_made_rules_are_those_of_the_generator() -> None:
    assert {rule.text() for rule in load_rules("made")} == {
        "at most one of {Black_Hair, Blond_Hair, Brown_Hair, Gray_Hair}",
        "Bald => not Bangs", "Bald => not Black_Hair", "Bald => not Blond_Hair", "Bald => not Brown_Hair",
        "Bald => not Gray_Hair", "not both Wearing_Hat and Bangs", "Mustache => not No_Beard",
        "Goatee => not No_Beard", "at least one of {No_Beard, Mustache, Goatee}",
        "Heavy_Makeup => Wearing_Lipstick", "Wearing_Lipstick => No_Beard", "Mustache => Male",
        "Goatee => Male", "Wearing_Lipstick => not Male",
    }  # fmt: skip
