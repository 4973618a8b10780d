from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from llava_face_plugin.data.datasets import celebvhq, fairface, maadface, rafdb
from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.knowledge import Rule, check_rules, load_rules
from llava_face_plugin.labels import CELEBA_ATTRIBUTES
from llava_face_plugin.rulebook import builtin_rules, dump_rules

MADE = (
    "Male", "Young", "Bald", "Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Eyeglasses",
    "Mustache", "Goatee", "No_Beard", "Smiling", "Mouth_Slightly_Open", "Wearing_Hat", "Wearing_Earrings",
    "Wearing_Necklace", "Wearing_Lipstick", "Heavy_Makeup", "Rosy_Cheeks",
)  # fmt: skip

EXPRESSIONS = tuple(f"expression:{value}" for value in rafdb.EXPRESSIONS)
FAIRFACE = tuple(f"{column}:{value}" for column, values in fairface.CLASSES.items() for value in values)


@pytest.mark.parametrize(
    ("rule", "text", "attributes"),
    [
        (Rule("implication", if_=("Goatee",), then=("Male",)), "Goatee => Male", ("Goatee", "Male")),
        (Rule("implication", ("A", "!B"), ("! C", "D")), "A and not B => not C or D", ("A", "B", "C", "D")),
        (Rule("exclusion", of=("A", "B")), "not both A and B", ("A", "B")),
        (Rule("at_most_one", of=("A", "B", "C")), "at most one of {A, B, C}", ("A", "B", "C")),
        (Rule("at_least_one", of=("A", "not B")), "at least one of {A, not B}", ("A", "B")),
        (Rule("exactly_one", of=("A", "not B")), "exactly one of {A, not B}", ("A", "B")),
        (Rule("implication", ("A", "B"), ("C",), if_joint="any"), "A or B => C", ("A", "B", "C")),
        (
            Rule("implication", ("A", "!B"), ("C", "D"), if_joint="any", then_joint="all", description="why"),
            "A or not B => C and D",
            ("A", "B", "C", "D"),
        ),
    ],
)
def test_text_attributes_and_json_round_trip(rule: Rule, text: str, attributes: tuple[str, ...]) -> None:
    assert rule.text() == text and rule.attributes() == attributes
    assert Rule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule


@pytest.mark.parametrize(
    ("text", "clauses", "antecedent"),
    [
        ("{if: A, then: B}", ["not A|B"], ["A"]),
        ("{if: [A, B], then: [C, not D]}", ["not A|not B|C|not D"], ["A", "B"]),
        ("{if: {any: [A, B]}, then: C}", ["not A|C", "not B|C"], ["A|B"]),
        ("{if: {all: [A, B]}, then: {any: [C, D]}}", ["not A|not B|C|D"], ["A", "B"]),
        ("{if: A, then: {all: [C, not D]}}", ["not A|C", "not A|not D"], ["A"]),
        (
            "{if: {any: [A, B]}, then: {all: [C, D]}}",
            ["not A|C", "not A|D", "not B|C", "not B|D"],
            ["A|B"],
        ),
        ("{kind: exclusion, of: [A, B]}", ["not A|not B"], ["A", "or", "B"]),
        ("{kind: at_most_one, of: [A, not B, C]}", ["not A|B", "not A|not C", "B|not C"], ["A|not B|C"]),
        ("{kind: at_most_one, of: [A, not B]}", ["not A|B"], ["A", "or", "not B"]),
        ("{kind: at_least_one, of: [A, not B]}", ["A|not B"], ["not A", "or", "B"]),
        ("{kind: at_least_one, of: [A, B, C]}", ["A|B|C"], []),
        ("{kind: exactly_one, of: [A, B, C]}", ["A|B|C", "not A|not B", "not A|not C", "not B|not C"], []),
    ],
)
def test_clauses_by_hand(text: str, clauses: list[str], antecedent: list[str]) -> None:
    rule = Rule.from_dict(yaml.safe_load(text))

    def written(found: tuple[tuple[tuple[str, bool], ...], ...]) -> list[str]:
        return ["|".join(name if positive else f"not {name}" for name, positive in clause) for clause in found]

    assert written(rule.clauses()) == clauses and antecedent == [
        word for at, clauses in enumerate(rule.antecedents()) for word in [*["or"] * at, *written(clauses)]
    ]
    assert Rule.from_dict(rule.to_dict()) == rule


def test_one_literal_joins_in_one_way() -> None:
    assert Rule.from_dict({"if": {"any": "A"}, "then": {"all": ["B"]}}) == Rule("implication", ("A",), ("B",))
    both = Rule.from_dict({"if": {"all": ["A", "B"]}, "then": {"any": ["C", "D"]}})
    assert both == Rule("implication", ("A", "B"), ("C", "D")) and both.to_dict()["if"] == ["A", "B"]
    with pytest.raises(FaceDataError, match="join by all or any, not 'some'"):
        Rule("implication", ("A", "B"), ("C",), if_joint="some")  # type: ignore[arg-type]
    with pytest.raises(FaceDataError, match="is not an attribute name"):
        Rule("at_least_one", of=("A" * 201,))


def test_dumped_rules_are_read_back(tmp_path: Path) -> None:
    odd = Rule("at_least_one", of=("not No: x", "yes", "race:East Asian", "5_o", "1_000"), source="a, b: 'c' {d}")
    rules = [odd, *(rule for name in builtin_rules() for rule in load_rules(name))]
    path = tmp_path / "r.yaml"
    path.write_text(dump_rules(rules, "all: of them"))
    assert load_rules(path) == rules
    assert len(path.read_text().splitlines()) == 2 + len(rules)


def test_a_source_for_all_rules_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("source: here\nrules:\n  - {if: A, then: B}\n  - {if: A, then: C, source: there}\n")
    assert [rule.source for rule in load_rules(path)] == ["here", "there"]
    path.write_text("source: 3\nrules:\n  - {if: A, then: B}\n")
    with pytest.raises(FaceDataError, match="rule 1: source is 3; expected text"):
        load_rules(path)


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
        ("{if: A, then: {B: 1}}", r"expected {all: \[...\]} or {any: \[...\]}"),
        ("{if: A, then: {any: 7}}", "'then: any' is 7; expected an attribute name or a list"),
        ("{if: {any: [A], all: [B]}, then: C}", "expected {all"),
        ("{kind: exactly_one, of: [A]}", "at least two attributes"),
        ("{kind: implication, if: A, then: B, description: 3}", "description is 3; expected text"),
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


@pytest.mark.parametrize(
    ("name", "vocabulary"),
    [("celeba", CELEBA_ATTRIBUTES), ("made", MADE), ("maadface", maadface.ATTRIBUTES),
     ("celebvhq", celebvhq.VOCABULARY),
     ("fairface", FAIRFACE), ("expressions", EXPRESSIONS)],
)  # fmt: skip
def test_builtin_rules(name: str, vocabulary: tuple[str, ...]) -> None:
    rules = load_rules(name)
    check_rules(rules, vocabulary)
    assert len({rule.text() for rule in rules}) == len(rules) >= 1
    for rule in rules:
        male = any(a.lower().endswith("male") for a in rule.attributes())
        assert (rule.group == "gender") == male, rule.text()
        assert rule.group and rule.weight == 1.0 and rule.source


def test_every_builtin_set_is_tested() -> None:
    assert set(builtin_rules()) == {"celeba", "made", "maadface", "celebvhq", "fairface", "expressions"}


def test_made_rules_are_those_of_the_generator() -> None:
    assert {rule.text() for rule in load_rules("made")} == {
        "at most one of {Black_Hair, Blond_Hair, Brown_Hair, Gray_Hair}",
        "Bald => not Bangs", "Bald => not Black_Hair", "Bald => not Blond_Hair", "Bald => not Brown_Hair",
        "Bald => not Gray_Hair", "not both Wearing_Hat and Bangs", "Mustache => not No_Beard",
        "Goatee => not No_Beard", "at least one of {No_Beard, Mustache, Goatee}",
        "Heavy_Makeup => Wearing_Lipstick", "Wearing_Lipstick => No_Beard", "Mustache => Male",
        "Goatee => Male", "Wearing_Lipstick => not Male",
    }  # fmt: skip
