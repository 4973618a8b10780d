"""Question files: what is written is read, what is wrong is named, damage is found."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation.questions import (
    LETTERS,
    Header,
    Question,
    load_questions,
    question_path,
    read_header,
    rotate,
    save_questions,
)

pytest.importorskip("pyarrow", reason="question files are parquet")

YES_NO = Question("1:Smiling", "1", ("a/1.jpg",), "yes_no", "Is the person smiling?", ("yes",), "Smiling")
CHOICE = Question(
    "1:race", "1", ("a/1.jpg",), "choice", "Which?", ("B",), "race", options=("x", "y", "z"), permutation=(2, 0, 1),
    value="y", cluster="person 4", groups={"sex": "f"}, fold=3,
)  # fmt: skip


def header(task: str = "face_t") -> Header:
    return Header(task, "t", "test", 0, "/images", notes=["n"], extra={"rules": ["A => B"]})


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    second = replace(CHOICE, question_id="2:race", groups={"sex": ""})
    written = save_questions(tmp_path / "q.parquet", header(), [CHOICE, second])
    read, table = load_questions(tmp_path / "q.parquet")
    assert read == written and read.rows == 2 and read.extra == {"rules": ["A => B"]}
    first, other = table.to_pylist()
    assert first["options"] == ["x", "y", "z"] and first["permutation"] == [2, 0, 1] and first["answer"] == ["B"]
    assert (first["cluster"], first["fold"], first["groups"]) == ("person 4", 3, {"sex": "f"})
    assert other["groups"] == {"sex": ""}


def test_the_cluster_is_the_image_where_nobody_is_known(tmp_path: Path) -> None:
    save_questions(tmp_path / "q.parquet", header(), [YES_NO])
    _, table = load_questions(tmp_path / "q.parquet")
    assert table.column("cluster").to_pylist() == ["1"] and "groups" not in table.column_names


def test_the_digest_is_of_what_is_asked(tmp_path: Path) -> None:
    def digest(question: Question, **more: object) -> str:
        return save_questions(tmp_path / "q.parquet", replace(header(), **more), [question]).digest

    base = digest(YES_NO)
    assert digest(YES_NO, image_root="/elsewhere", notes=[]) == base
    assert digest(replace(YES_NO, answer=("no",))) != base
    assert digest(replace(YES_NO, question="Does the person smile?")) != base
    assert digest(replace(YES_NO, images=("b.jpg",))) != base
    # what is scored belongs to it
    assert digest(replace(YES_NO, topic="Grinning")) != base and digest(replace(YES_NO, fold=1)) != base
    assert digest(replace(YES_NO, cluster="p")) != base and digest(replace(YES_NO, groups={"sex": "f"})) != base
    assert digest(YES_NO, extra={"rules": []}) != base


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (replace(YES_NO, kind="maybe"), "kind 'maybe'"),
        (replace(YES_NO, answer=("Yes",)), "expected yes or no"),
        (replace(YES_NO, question=" "), "asks nothing"),
        (replace(YES_NO, images=()), "no image and no video"),
        (replace(CHOICE, options=("x",), permutation=(0,)), "expected 2 to 26"),
        (replace(CHOICE, options=("x", "x", "y")), "expected 2 to 26 different"),
        (replace(CHOICE, answer=("D",)), "one letter of ABC"),
        (replace(CHOICE, answer=("",)), "one letter of ABC"),
        (replace(CHOICE, permutation=(0, 0, 1)), "permutation"),
        (replace(YES_NO, kind="number", answer=("old",)), "expected one number"),
        (replace(YES_NO, kind="labels", answer=("AU9",), options=("AU1",)), "not among the options"),
    ],
)
def test_a_wrong_question_is_named(tmp_path: Path, question: Question, message: str) -> None:
    with pytest.raises(FaceDataError, match=message) as caught:
        save_questions(tmp_path / "q.parquet", header(), [question])
    assert question.question_id in str(caught.value) and not (tmp_path / "q.parquet").exists()


def test_questions_that_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(FaceDataError, match="occurs twice"):
        save_questions(tmp_path / "q.parquet", header(), [YES_NO, YES_NO])
    with pytest.raises(FaceDataError, match="groups"):
        save_questions(tmp_path / "q.parquet", header(), [YES_NO, CHOICE])
    with pytest.raises(FaceDataError, match="not one question"):
        save_questions(tmp_path / "q.parquet", header(), [])


def test_rotation_is_cyclic_even_and_repeatable() -> None:
    options = ("a", "b", "c", "d")
    places = Counter()
    for number in range(400):
        shown, permutation, letter = rotate(options, 1, seed=0, key=str(number))
        assert shown == tuple(options[p] for p in permutation) and shown[LETTERS.index(letter)] == "b"
        assert [(b - a) % 4 for a, b in itertools.pairwise(permutation)] == [1, 1, 1]
        assert rotate(options, 1, seed=0, key=str(number)) == (shown, permutation, letter)
        places[letter] += 1
    assert set(places) == set("ABCD") and min(places.values()) > 70  # 100 expected, sd 8.7
    assert any(rotate(options, 1, seed=1, key=str(n)) != rotate(options, 1, seed=0, key=str(n)) for n in range(9))
    with pytest.raises(FaceDataError, match="27 options"):
        rotate([str(n) for n in range(27)], 0, seed=0, key="k")


def test_where_question_files_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACE_EVAL_DATA", raising=False)
    with pytest.raises(FaceDataError, match="FACE_EVAL_DATA is not set"):
        question_path("face_t")
    monkeypatch.setenv("FACE_EVAL_DATA", "/q")
    assert question_path("face_t") == Path("/q/face_t.parquet")


def test_500_corruptions_are_found_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    save_questions(path, header(), [replace(YES_NO, question_id=str(n), image_id=str(n)) for n in range(40)])
    good = path.read_bytes()
    right_header, right = load_questions(path)
    rng = random.Random(0)
    refused = 0
    for _ in range(500):
        bad = bytearray(good)
        if rng.random() < 0.3:
            bad = bad[: rng.randrange(len(bad))]
        else:
            for _ in range(rng.choice((1, 1, 4, 40))):
                bad[rng.randrange(len(bad))] = rng.randrange(256)
        path.write_bytes(bad)
        try:
            read, table = load_questions(path)
        except FaceDataError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert table.column("answer").equals(right.column("answer")) and read.digest == right_header.digest
    assert refused > 400
    path.write_text("not parquet")
    with pytest.raises(FaceDataError, match="not a question file"):
        read_header(path)
