"""FaceXBench: the repository's files to prompts, and one letter of four read strictly and as the paper reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from suite_samples import POSTPEND, built, doc, facexbench, facexbench_file, facexbench_question, write

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation.suites.facexbench import METRICS, original_letter, record
from llava_face_plugin.evaluation.suites.shared import suite_scorer

pytest.importorskip("pyarrow", reason="question files are parquet")
AGES = ["40-49", "None of the above", "50-60", "20-29"]


def test_prompts_are_the_papers_to_the_character(tmp_path: Path) -> None:
    header, rows = built("face_facexbench", facexbench(tmp_path / "x"), tmp_path / "q")
    by_id = {row["question_id"]: row for row in rows}
    assert by_id["made_single_mcq:1"]["question"] == (f"How old?\n{POSTPEND}\n(A) 0-9\n(B) 10-19\n(C) 20+\n(D) 30+\n")
    assert by_id["tools_retrieval:1"]["question"].startswith("1. Made:\n    api_name: a\nWhich calls?\n")
    assert by_id["made_single_mcq_count:1"]["options"] == ["8", "4", "6", "5"]
    several = by_id["made_multiple_mcq:1"]
    assert several["images"] == ["benchmark/images/m/1_1.png", "benchmark/images/m/1_2.png"]
    assert several["topic"] == "deepfakes" and several["groups"] == {
        "category": "fas_deepfakes", "num_images": "multiple",
    }  # fmt: skip
    assert header.rows == 5 and len(header.sources) == 4 and "not comparable" in header.notes[0]
    assert "You have to" not in "".join(row["question"] for row in rows)  # the in-context setting's


def test_the_folder_benchmark_itself_will_do(tmp_path: Path) -> None:
    _, rows = built("face_facexbench", facexbench(tmp_path / "x") / "benchmark", tmp_path / "q")
    assert {path.split("/")[0] for row in rows for path in row["images"]} == {"images"}


@pytest.mark.parametrize(
    ("text", "options", "letter"),
    [
        ("B", AGES, "B"), ("(C)", AGES, "C"), ("D. 20-29", AGES, "D"), ("Option B", AGES, "B"),
        ("The answer is C.", AGES, "C"), ("b", AGES, None), ("E", AGES, None), ("", AGES, None),
        ("50-60", AGES, "C"), ("about 40-49 years", AGES, "A"),
        # Its defects: the article, a denied letter, the first of several, a word inside a word.
        ("A man of 20-29", AGES, "A"), ("Not A but B", AGES, "A"), ("C or D", AGES, "C"),
        ("female", ["male", "female"], "A"), ("T-shirt, so B", AGES, "B"), ("vitamin D", AGES, "D"),
        ("x(A)b", AGES, "A"), ("_A_ C", AGES, "C"), ("C", ["8", "4"], None),
    ],
)  # fmt: skip
def test_the_papers_parser(text: str, options: list[str], letter: str | None) -> None:
    # Golden values by their function (see the task's README for how).
    assert original_letter(text, options) == letter


def test_strict_and_original_differ_where_the_original_is_wrong() -> None:
    made = record(doc(AGES, ["D"]), "A man of 20-29")
    assert (made["pred"], made["score"], made["pred_original"], made["original"]) == ("D", 1.0, "A", 0.0)
    lucky = record(doc(AGES, ["A"]), "A refusal: I cannot tell the age.")
    assert (lucky["pred"], lucky["refused"], lucky["unparsed"], lucky["original"]) == (None, 1.0, 1.0, 1.0)


def test_items_name_every_metric() -> None:
    items = suite_scorer(record, METRICS)(doc(AGES, ["B"]), ["(B)"])
    assert list(items) == list(METRICS) and items["face_acc_score"]["topic"] == "t"
    assert (items["face_acc_original"], items["face_unparsed"], items["face_unparsed_original"]) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (facexbench_question(["i.png"], "Q?", ["a", "b"], "C", "a"), "expected one of 2 letters"),
        (facexbench_question(["i.png"], "Q?", ["a", "b"], "AB", "a"), "expected one of 2 letters"),
        (facexbench_question(["i.png"], "Q?", ["a"], "A", "a"), "1 entries"),
        (facexbench_question(["i.png"], "Q?", ["a", None], "A", "a"), "options is None"),
        (facexbench_question(["i.png"], "Q?", ["a", True], "A", "a"), "options is True"),
        (facexbench_question(["i.png"], " ", ["a", "b"], "A", "a"), "question_text"),
        (facexbench_question(["i.png"], "Q \ud800?", ["a", "b"], "A", "a"), "not valid JSON"),
        (facexbench_question(["../i.png"], "Q?", ["a", "b"], "A", "a"), "below the benchmark's folder"),
        (facexbench_question(["/i.png"], "Q?", ["a", "b"], "A", "a"), "below the benchmark's folder"),
        (facexbench_question([], "Q?", ["a", "b"], "A", "a"), "0 entries"),
        ([], "expected an object"),
    ],
)
def test_a_bad_question_is_named(tmp_path: Path, row: object, problem: str) -> None:
    write(tmp_path / "benchmark" / "t.json", facexbench_file("c", "s", {"7": row}))
    with pytest.raises(FaceDataError, match=problem) as error:
        built("face_facexbench", tmp_path, tmp_path / "q")
    assert "t.json" in str(error.value)


def test_five_options_and_disagreeing_letters_are_counted(tmp_path: Path) -> None:
    questions = {
        "1": facexbench_question(["i.png"], "Q?", ["a", "b", "c", "d", "e"], "E", "e"),
        "2": facexbench_question(["i.png"], "Q?", ["a", "b"], "A", "b"),
    }
    write(tmp_path / "t.json", facexbench_file("c", "s", questions))
    header, rows = built("face_facexbench", tmp_path, tmp_path / "q", verify=False)
    assert header.skipped == {"question with more than 4 options": 1} and [r["answer"] for r in rows] == [["A"]]
    assert header.notes[1] == "questions whose letter is not their answer's (the letter counts, as there): 1"


def test_other_splits_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FaceDataError, match="face_facexbench has test"):
        built("face_facexbench", facexbench(tmp_path / "x"), tmp_path / "q", split="val")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FaceDataError, match="expected FaceXBench's folder"):
        built("face_facexbench", tmp_path / "empty", tmp_path / "q")
