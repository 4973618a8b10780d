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
    "c": ("p2", {"Goatee": "Yes", "Male": "perhaps", "Bald": "yes", "Bangs": "yes"}),  # one; the other is unchecked
    "d": ("p3", {"Goatee": "hm", "Male": "No", "Bald": "", "Bangs": "Yes"}),  # nothing can be checked: left out
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
    assert consistency_scoring.face_violations(scored["face_violations"]) == pytest.approx((2 + 0 + 1) / 3)
    assert consistency_scoring.face_violating_images(scored["face_violating_images"]) == pytest.approx(2 / 3)
    # p1 has 2 and 0, p2 has 1: means of draws of two persons are all 1.
    low, high = (
        getattr(consistency_scoring, f"face_violations_{end}")(scored["face_violations"]) for end in ("low", "high")
    )
    assert (low, high) == (1.0, 1.0)
    assert sum(scored["face_unparsed"]) == 3
    records = scored["face_acc_score"]
    assert sum(r["score"] for r in records) == sum(r["pred"] == "yes" for r in records) == 8


def test_the_order_of_items_and_a_way_through_json_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = items(tmp_path, monkeypatch)["face_violations"]
    expected = consistency_scoring.face_violations(found)
    monkeypatch.delenv("FACE_EVAL_DATA")  # the items say all
    shuffled = json.loads(json.dumps(found))
    for seed in range(5):
        random.Random(seed).shuffle(shuffled)
        assert consistency_scoring.face_violations(shuffled) == expected
        assert consistency_scoring.face_violations_high(shuffled) == 1.0


def test_nothing_to_check_is_no_figure() -> None:
    assert np.isnan(consistency_scoring.face_violations([("a", "p", "Bald", None, ())]))
    assert np.isnan(consistency_scoring.face_violations_low([("a", "p", "Bald", "yes", ())]))
