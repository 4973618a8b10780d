"""Broken rules per image: questions, rules in the header, and figures that were counted by hand."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic_sources as sources

from llava_face_plugin.data.manifest_file import load_manifest
from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation import consistency_scoring
from llava_face_plugin.evaluation.builders import BENCHMARKS, BuildOptions, build
from llava_face_plugin.evaluation.questions import Header, Question, load_questions, save_questions
from llava_face_plugin.knowledge.file import Knowledge
from llava_face_plugin.rulebook import Rule, load_rules

pytest.importorskip("pyarrow", reason="manifests are parquet")
TASK = "face_celeba_consistency"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("celeba")
    sources.write(sources.manifest_of("celeba"), folder)
    return folder


def made(root: Path, out: Path, **settings: str) -> tuple[Header, list[dict[str, Any]]]:
    path, _ = build(BENCHMARKS[TASK], root, out, root / "manifest.parquet", BuildOptions(settings=settings))
    header, table = load_questions(path)
    return header, table.to_pylist()


def test_the_attributes_of_the_rules_are_asked_about(root: Path, tmp_path: Path) -> None:
    header, asked = made(root, tmp_path)
    rules = load_rules("celeba")
    assert [Rule.from_dict(r) for r in header.extra["rules"]] == rules
    names = {name for rule in rules for name in rule.attributes()}
    assert {q["topic"] for q in asked} == names
    m = load_manifest(root / "manifest.parquet")
    known = m.attributes[m.split == 2][:, [name in names for name in m.vocabulary]] >= 0
    assert len(asked) == int(known.sum())
    assert any("the labels themselves break" in note for note in header.notes)


def test_groups_of_rules_can_be_left_out(root: Path, tmp_path: Path) -> None:
    header, asked = made(root, tmp_path, without="gender")
    assert not any("Male" in json.dumps(rule) for rule in header.extra["rules"])
    assert "Male" not in {q["topic"] for q in asked} and "Mustache" not in {q["topic"] for q in asked}
    fewer, _ = made(root, tmp_path, without="gender,hair")
    assert len(fewer.extra["rules"]) < len(header.extra["rules"])
    with pytest.raises(FaceDataError, match="did you mean 'gender'"):
        made(root, tmp_path, without="gnder")
    with pytest.raises(FaceDataError, match="no rule"):
        made(root, tmp_path, without="accessories,beard,gender,hair,makeup")


def test_rules_of_a_knowledge_file(root: Path, tmp_path: Path) -> None:
    names = ("Bald", "Bangs", "Eyeglasses", "Moustached")
    rules = [Rule("exclusion", of=("Bald", "Bangs")), Rule("exclusion", of=("Moustached", "Bangs"))]
    file = tmp_path / "k.safetensors"
    Knowledge.build(names, [np.array([[0, 1, 0, 0], [1, 0, 1, 0]], dtype=np.int8)], rules, 1.0, {}).save(file)
    header, asked = made(root, tmp_path, knowledge=str(file))
    assert [Rule.from_dict(r).text() for r in header.extra["rules"]] == ["not both Bald and Bangs"]
    assert {q["topic"] for q in asked} == {"Bald", "Bangs"}
    assert "left out: 1 of 2 rules, about attributes that celeba does not have" in header.notes


ANSWERS = {
    # image: (person, answers). Rules: Goatee => Male; not both Bald and Bangs.
    "a": ("p1", {"Goatee": "Yes", "Male": "No", "Bald": "Yes", "Bangs": "Yes"}),  # both broken
    "b": ("p1", {"Goatee": "No", "Male": "No", "Bald": "Yes", "Bangs": "no"}),  # none
    "c": ("p2", {"Goatee": "Yes", "Male": "perhaps", "Bald": "yes", "Bangs": "yes"}),  # one; the other is unread
    "d": ("p3", {"Goatee": "hm", "Male": "No", "Bald": "", "Bangs": "Yes"}),  # both are unread
    "e": ("p4", {"Goatee": "No", "Male": "No", "Bald": ""}),  # none; the other was not asked
    "f": ("p4", {"Goatee": "Yes", "Bangs": "Yes"}),  # nothing was asked that a rule is about: left out
}


def items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    rules = [Rule("implication", ("Goatee",), ("Male",)), Rule("exclusion", of=("Bald", "Bangs"))]
    questions = [
        Question(f"{image}:{a}", image, (f"{image}.png",), "yes_no", f"{a}?", ("yes",), a, cluster=person)
        for image, (person, answers) in ANSWERS.items()
        for a in answers
    ]
    header = Header(TASK, "celeba", "test", 0, "/images", extra={"rules": [r.to_dict() for r in rules]})
    save_questions(tmp_path / f"{TASK}.parquet", header, questions)
    monkeypatch.setenv("FACE_EVAL_DATA", str(tmp_path))
    score = consistency_scoring.scorer(TASK)
    docs = load_questions(tmp_path / f"{TASK}.parquet")[1].to_pylist()
    scored = [score(doc, [ANSWERS[doc["image_id"]][1][doc["topic"]]]) for doc in docs]
    return {metric: [s[metric] for s in scored] for metric in scored[0]}


def test_figures_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = items(tmp_path, monkeypatch)
    figure = {m: getattr(consistency_scoring, m)(scored[m]) for m in consistency_scoring.RULE_METRICS}
    assert figure["face_violations"] == pytest.approx((2 + 0 + 2 + 2 + 0) / 5)
    assert figure["face_violating_images"] == pytest.approx(3 / 5)
    assert figure["face_rules_checked"] == pytest.approx((2 + 2 + 1 + 0 + 1) / 5)
    assert figure["face_violations_read"] == pytest.approx((2 + 0 + 1 + 0) / 4)  # d has no rule that was read
    assert figure["face_broken_share"] == pytest.approx(3 / 6)
    # Persons have 2 and 0, 2, 2, and 0: a mean of draws of four is 0 (all p4) to 2 (p2 and p3 only).
    assert 0 <= figure["face_violations_low"] < 6 / 5 < figure["face_violations_high"] <= 2
    assert sum(scored["face_unparsed"]) == 4
    records = scored["face_acc_score"]
    assert sum(r["score"] for r in records) == sum(r["pred"] == "yes" for r in records) == 10


@pytest.mark.parametrize("refused", [(), ("Male",), ("Male", "No_Beard", "Goatee", "Mustache")])
def test_refusing_never_pays(refused: tuple[str, ...]) -> None:
    """Random answers about all attributes of CelebA's rules, then the same with some refused."""
    rules = load_rules("celeba")
    names = sorted({name for rule in rules for name in rule.attributes()})
    by_name = {n: tuple(json.dumps(r.to_dict()) for r in rules if r.attributes()[0] == n) for n in names}
    rng = random.Random(0)
    given = [(str(i), f"p{i}", n, rng.choice(("yes", "no")), by_name[n]) for i in range(50) for n in names]
    before = consistency_scoring.face_violations(given)
    after = consistency_scoring.face_violations([(*i[:3], None if i[2] in refused else i[3], i[4]) for i in given])
    assert after > before if refused else after == before


def test_a_constant_answer_breaks_nothing() -> None:
    """Which is why the README sends to the accuracy."""
    rules = load_rules("celeba")
    names = sorted({name for rule in rules for name in rule.attributes()})
    texts = tuple(json.dumps(rule.to_dict()) for rule in rules)
    given = [("1", "p", name, "yes" if name == "No_Beard" else "no", texts) for name in names]
    assert consistency_scoring.face_violations(given) == 0.0
    assert consistency_scoring.face_rules_checked(given) == len(rules)


def test_the_order_of_items_and_a_way_through_json_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = items(tmp_path, monkeypatch)["face_violations"]
    expected = {m: getattr(consistency_scoring, m)(found) for m in consistency_scoring.RULE_METRICS}
    monkeypatch.delenv("FACE_EVAL_DATA")  # the items say all
    shuffled = json.loads(json.dumps(found))
    for seed in range(5):
        random.Random(seed).shuffle(shuffled)
        assert {m: getattr(consistency_scoring, m)(shuffled) for m in expected} == expected


def test_nothing_to_check_is_no_figure() -> None:
    assert np.isnan(consistency_scoring.face_violations([("a", "p", "Bald", None, ())]))
    assert np.isnan(consistency_scoring.face_violations_low([("a", "p", "Bald", "yes", ())]))
