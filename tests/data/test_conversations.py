"""Conversations and question files."""

from __future__ import annotations

import json

import pytest

from llava_face_plugin.data.conversations import (
    QUESTIONS,
    Sample,
    closed_questions,
    question,
    question_rows,
    text_only_rows,
)
from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.labels import CELEBA_ATTRIBUTES

SAMPLE = Sample("7", "images/7.jpg", {"Smiling": 1, "Bald": 0, "Male": 1}, "maps/7.png")


def test_every_celeba_attribute_has_its_own_question() -> None:
    assert sorted(QUESTIONS) == sorted(CELEBA_ATTRIBUTES)
    assert len(set(QUESTIONS.values())) == 40 and all(q.endswith("?") for q in QUESTIONS.values())
    assert question("Smiling") == "Is the person smiling? Answer yes or no."
    with pytest.raises(FaceDataError, match="did you mean 'Smiling'"):
        question("Smilling")


def test_a_training_row_is_what_llava_reads() -> None:
    row = closed_questions(SAMPLE, k=2, seed=0)
    assert row is not None
    assert {k: row[k] for k in ("id", "image", "face_map")} == {
        "id": "7", "image": "images/7.jpg", "face_map": "maps/7.png",
    }  # fmt: skip
    assert row["face_attributes"] == {"Smiling": 1, "Bald": 0, "Male": 1}
    turns = row["conversations"]
    assert [t["from"] for t in turns] == ["human", "gpt"] * 2
    assert [t["value"].count("<image>") for t in turns] == [1, 0, 0, 0]
    assert turns[0]["value"].startswith("<image>\n")
    by_question = {question(a): "Yes" if v else "No" for a, v in SAMPLE.attributes.items()}
    for asked, answer in zip(turns[::2], turns[1::2], strict=True):
        assert answer["value"] == by_question[asked["value"].removeprefix("<image>\n")]
    json.dumps(row)


def test_questions_are_not_repeated_and_depend_on_seed_and_id_alone() -> None:
    row = closed_questions(SAMPLE, k=99)
    assert row is not None and len({t["value"] for t in row["conversations"][::2]}) == 3
    many = {
        str(closed_questions(Sample(str(i), "x.jpg", dict.fromkeys(CELEBA_ATTRIBUTES, 1)), seed=s)["conversations"])  # type: ignore[index]
        for i in range(5)
        for s in range(5)
    }
    assert len(many) == 25
    assert closed_questions(SAMPLE, k=2, seed=3) == closed_questions(SAMPLE, k=2, seed=3)


def test_without_map_or_labels() -> None:
    bare = Sample("1", "1.jpg", {"Young": 0})
    row = closed_questions(bare)
    assert row is not None and "face_map" not in row
    assert closed_questions(Sample("1", "1.jpg", {})) is None


def test_question_rows() -> None:
    rows = list(question_rows([SAMPLE, Sample("8", "8.jpg", {"Bald": 1})]))
    assert [r["question_id"] for r in rows] == [0, 1, 2, 3]
    assert rows[1] == {
        "question_id": 1, "image": "images/7.jpg", "text": "Is the person bald? Answer yes or no.",
        "attribute": "Bald", "answer": "no", "sample": "7",
    }  # fmt: skip
    assert rows[3]["answer"] == "yes" and all("<image>" not in r["text"] for r in rows)
    assert len(list(question_rows([SAMPLE], k=2))) == 2


def test_text_only_rows_have_no_image() -> None:
    rows = text_only_rows(30, seed=1)
    assert rows == text_only_rows(30, seed=1) != text_only_rows(30, seed=2)
    assert len({r["id"] for r in rows}) == 30 and len({str(r["conversations"]) for r in rows}) > 5
    assert all("image" not in r and "<image>" not in r["conversations"][0]["value"] for r in rows)
