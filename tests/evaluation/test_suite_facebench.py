"""FaceBench: four types of question, the paper's figures with and without its defects."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from suite_samples import built, doc, facebench, facebench_row, write

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation.suites import facebench as suite
from llava_face_plugin.evaluation.suites.shared import mean_counted, suite_scorer

pytest.importorskip("pyarrow", reason="question files are parquet")
THREE = ["Yes", "No", "Information not visible"]
HINT = " Please return the answer directly without additional explanation."


def test_each_task_has_its_type_with_the_papers_prompt(tmp_path: Path) -> None:
    root = facebench(tmp_path / "f")
    _, (hat, nose) = built("face_facebench_tfq", root, tmp_path / "q")
    assert hat["question"] == f"Is there a hat?\nYes\nNo\nInformation not visible\nPlease select.{HINT}"
    assert (hat["topic"], hat["answer"], nose["topic"]) == ("hat", ["Yes"], "nose")
    assert hat["question_id"] == "made-1.jpg:hat_q0" and hat["image_id"] == nose["image_id"]
    assert hat["groups"] == {"view": "Appearance", "attribute_level": "level 1", "image_source": "made"}
    _, (multiple,) = built("face_facebench_mcq", root, tmp_path / "q")
    assert multiple["answer"] == ["Red", "Dark green"]
    _, (free,) = built("face_facebench_oeq", root, tmp_path / "q")
    assert free["question"] == f"Is it?\n\nPlease select.{HINT}" and free["options"] == []


@pytest.mark.parametrize(
    ("text", "pred", "original"),
    [
        ("Yes", "Yes", 1.0), ("yes.", "Yes", 0.0), ("No", "No", 0.0), ("Yes and no", None, 0.0), ("", None, 0.0),
        ("terror", None, None), ("A", None, 0.0), ("Answer: (B)", None, 0.0),
        ("Information not visible", "Information not visible", 0.0),
    ],
)  # fmt: skip
def test_true_false(text: str, pred: str | None, original: float | None) -> None:
    made = suite.choice_record(doc(THREE, ["Yes"]), text)
    assert (made["pred"], made["score"], made["original"]) == (pred, float(pred == "Yes"), original)


def test_weighted_f1_by_hand_and_its_defect() -> None:
    # Wrong: "is it the answer?" is no for 1 of 3 rightly; F1 of no = 2·1/(2+2) = 1/2, of yes 0; weights 2/3, 1/3.
    assert suite.weighted_f1(THREE, "Yes", "No") == pytest.approx(1 / 3)
    # No option at all: no is right 2 times of 3 said; F1 = 4/5, weight 2/3.
    assert suite.weighted_f1(THREE, "Yes", "nonsense") == pytest.approx(8 / 15)
    assert suite.weighted_f1(THREE, "Yes", "Yes") == 1.0
    made = suite.choice_record(doc(THREE, ["Yes"]), "nonsense")
    assert made["weighted_f1"] == 0.0 and made["weighted_f1_original"] == pytest.approx(8 / 15)
    empty = suite.choice_record(doc(THREE, ["Yes"]), "")  # theirs leaves out None only
    assert empty["weighted_f1"] == 0.0 and empty["weighted_f1_original"] == pytest.approx(8 / 15)


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_f1s_equal_sklearns(average: str) -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="compared with scikit-learn")
    place = ("macro", "micro", "weighted").index(average)
    for code in range(256):
        gold, pred = ([bool(code >> shift & 1 << bit) for bit in range(4)] for shift in (0, 4))
        ours = suite.binary_f1s(gold, pred)[place]
        assert ours == pytest.approx(sklearn.f1_score(gold, pred, average=average, zero_division=0)), (gold, pred)


def test_multiple_choice() -> None:
    asked = doc(["Red", "Green", "Dark green"], ["Red", "Dark green"])
    right = suite.multiple_record(asked, "Dark green, red")
    assert right["pred"] == ("Dark green", "Red") and right["score"] == right["exact"] == right["micro"] == 1.0
    # Theirs compares case by case: "red" is no option; "Dark green" is in the text.
    assert right["micro_original"] == pytest.approx(2 / 3)
    inside = suite.multiple_record(doc(["male", "female"], ["female"]), "It is female")
    assert inside["pred"] == ("female",) and inside["score"] == 1.0 and inside["micro_original"] == 0.5
    silent = suite.multiple_record(asked, "nothing")
    assert silent["pred"] == () and silent["score"] == pytest.approx(1 / 4) and silent["exact"] == 0.0
    unread = suite.multiple_record(asked, "who knows")
    assert unread["pred"] is None and unread["score"] == unread["micro"] == 0.0
    assert unread["micro_original"] == pytest.approx(1 / 3)
    assert suite.multiple_record(asked, "")["micro_original"] == pytest.approx(1 / 3)
    assert suite.multiple_record(asked, "terror")["micro_original"] is None


def test_open_questions() -> None:
    made = suite.open_record(doc([], ["Black"]), "Brown")
    assert made["score"] == made["bleu_1"] == 0.0
    # Its defect: BLEU of the first letters, which agree.
    assert made["bleu_original"] == pytest.approx(0.1**0.75)
    thought = suite.open_record(doc([], ["Dark green"]), "<think>Black?</think>The dark green.")
    assert thought["bleu_1"] == 1.0 and thought["score"] == pytest.approx(4 / 5)
    assert thought["original"] < thought["score"]
    empty = suite.open_record(doc([], ["Black"]), "")
    assert empty["unparsed"] == 1.0 and empty["score"] == 0.0 and empty["original"] is None


def test_normalised_words() -> None:
    assert suite.normalised("The Two brown-eyed men, a 1.5 hat.") == ["2", "brown", "eyed", "men", "1.5", "hat"]


def test_left_out_answers_are_left_out() -> None:
    assert mean_counted([1.0, None, 0.0]) == 0.5
    assert mean_counted([None]) != mean_counted([None])  # NaN


def test_every_set_of_items_is_whole() -> None:
    for make, items, asked in (
        (suite.choice_record, suite.CHOICE, doc(THREE, ["Yes"])),
        (suite.multiple_record, suite.MULTIPLE, doc(THREE, ["Yes"])),
        (suite.open_record, suite.OPEN, doc([], ["Black"])),
    ):
        assert list(suite_scorer(make, items)(asked, ["Yes"])) == list(items)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (facebench_row("ABC", "a", ["x", "y"], "x"), "question_type 'ABC'"),
        (facebench_row("MCQ", "a", ["x", "X"], ["x"]), "names two labels"),
        (facebench_row("MCQ", "a", ["x", "x"], ["x"]), "twice"),
        (facebench_row("MCQ", "a", ["x", "-"], ["x"]), "no letter or digit"),
        (facebench_row("MCQ", "a", [], ["x"]), "0 entries"),
        (facebench_row("MCQ", "a", ["x", "y"], None), "gt_answer is None"),
        (facebench_row("MCQ", "", ["x", "y"], "x"), "question_id"),
        (facebench_row("MCQ", "a", ["x", "y"], "x") | {"metadata": 3}, "metadata: expected an object"),
        (facebench_row("MCQ", "a", ["x", "y"], "x") | {"image_id": "../x.jpg"}, "below the benchmark's folder"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: dict[str, object], problem: str) -> None:
    write(tmp_path / "test.jsonl", "\n" + json.dumps(row) + "\n")
    with pytest.raises(FaceDataError, match=problem) as error:
        built("face_facebench_mcq", tmp_path, tmp_path / "q")
    assert "test.jsonl, line 2" in str(error.value)


def test_gold_that_is_no_option_is_counted_and_another_file_named(tmp_path: Path) -> None:
    root = facebench(tmp_path / "f")
    rows = [facebench_row("SCQ", "a_q0", ["x", "y"], "z"), facebench_row("SCQ", "a_q1", ["x", "y"], ["y"])]
    write(root / "other.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    header, rows = built("face_facebench_scq", root, tmp_path / "q", settings={"file": "other.jsonl"})
    assert header.skipped == {"question whose answer is no option": 1} and [r["answer"] for r in rows] == [["y"]]
    with pytest.raises(FaceDataError, match="below"):
        built("face_facebench_scq", root, tmp_path / "q", settings={"file": "../x.jsonl"})


def test_a_question_that_is_there_twice_is_named(tmp_path: Path) -> None:
    root = facebench(tmp_path / "f")
    line = json.dumps(facebench_row("SCQ", "a_q0", ["x", "y"], "x"))
    write(root / "test.jsonl", f"{line}\n{line}\n")
    with pytest.raises(FaceDataError, match=r"made-1\.jpg:a_q0' occurs twice"):
        built("face_facebench_scq", root, tmp_path / "q")
