"""Scores against counts made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation.closed import (
    Answer,
    group_accuracy,
    parse_yes_no,
    read_answers,
    rule_breaking_share,
    score,
)
from llava_face_plugin.rulebook import Rule


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes", True),
        (" no.", False),
        ("Yes, she is", True),
        ("NO", False),
        ("", None),
        ("yesterday", None),
        ("I think yes", None),
    ],
)
def test_only_a_first_word_counts(text: str, expected: bool | None) -> None:
    assert parse_yes_no(text) is expected


ANSWERS = [
    Answer("1", "Bald", True, True),
    Answer("2", "Bald", False, True),
    Answer("3", "Bald", False, False),
    Answer("4", "Bald", False, None),
    Answer("1", "Smiling", True, False),
    Answer("2", "Smiling", True, True),
]


def test_scores() -> None:
    found = score(ANSWERS)
    assert found["questions"] == 6
    assert found["accuracy"] == pytest.approx(3 / 6)
    # Bald: yes 1/1, no 1/3; Smiling occurs one way only and does not count.
    assert found["balanced_accuracy"] == pytest.approx((1 + 1 / 3) / 2)
    assert found["majority"] == pytest.approx((3 + 2) / 6)
    assert found["unparsed"] == pytest.approx(1 / 6)
    assert found["attributes"] == {"Bald": 0.5, "Smiling": 0.5}
    with pytest.raises(FaceDataError, match="no answers"):
        score([])


def test_groups_follow_the_labels() -> None:
    # Bald by label: sample 1; not Bald: 2 (3 and 4 were asked nothing else).
    assert group_accuracy(ANSWERS, "Bald") == {"Bald": 0.0, "not Bald": 1.0}


def test_broken_rules_are_counted_on_whole_samples() -> None:
    rules = [Rule("exclusion", of=("Bald", "Bangs"))]
    answers = [
        Answer("1", "Bald", True, True),
        Answer("1", "Bangs", False, True),
        Answer("2", "Bald", True, True),
        Answer("2", "Bangs", False, False),
        Answer("3", "Bald", True, True),
        Answer("3", "Bangs", True, None),
    ]
    assert rule_breaking_share(answers, rules, ("Bald", "Bangs", "Young")) == pytest.approx(1 / 2)
    assert rule_breaking_share(answers, [], ("Bald", "Bangs")) is None
    assert rule_breaking_share(answers[4:], rules, ("Bald", "Bangs")) is None


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_questions_and_answers_are_joined(tmp_path: Path) -> None:
    asked = [
        {"question_id": i, "attribute": "Bald", "answer": a, "sample": str(i)} for i, a in enumerate(("yes", "no"))
    ]
    questions = write(tmp_path / "q.jsonl", asked)
    answers = write(tmp_path / "a.jsonl", [{"question_id": 1, "text": "No"}, {"question_id": 0, "text": "no"}])
    assert read_answers(questions, answers) == [Answer("0", "Bald", True, False), Answer("1", "Bald", False, False)]
    write(answers, [{"question_id": 0, "text": "no"}])
    with pytest.raises(FaceDataError, match="no answer to question 1"):
        read_answers(questions, answers)
    answers.write_text('{"question_id": 0, "text": "no"}\n{"question_id"')
    with pytest.raises(FaceDataError, match=r"a\.jsonl, line 2: not valid JSON"):
        read_answers(questions, answers)
    write(answers, [{"question_id": 0}])
    with pytest.raises(FaceDataError, match="line 1: no text"):
        read_answers(questions, answers)
