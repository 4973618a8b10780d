"""Face-Human-Bench: rotation by the paper's seed, its regular expressions, and its mean of means."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from suite_samples import built, doc, human_bench

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation.builders.human_bench import PARTS
from llava_face_plugin.evaluation.suites import human_bench as suite
from llava_face_plugin.evaluation.suites.shared import suite_scorer

pytest.importorskip("pyarrow", reason="question files are parquet")
FOUR = ["w", "x", "y", "z"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return human_bench(tmp_path_factory.mktemp("human"), samples=3)


def test_english_is_rotated_first_and_chinese_goes_on(root: Path, tmp_path: Path) -> None:
    draws = random.Random(100)
    for language, mark in (("en", "Question: "), ("zh", "问题: ")):
        _, rows = built(f"face_human_bench_{language}", root, tmp_path / "q")
        assert len(rows) == 3 * sum(len(versions) for _, versions, _, _ in PARTS)
        for row in rows:  # in the order in which the paper's script asks
            n = len(row["options"])
            offset = draws.randint(0, n - 1)
            assert row["permutation"] == [(i + offset) % n for i in range(n)]
            assert row["answer"] == ["ABCD"[-offset % n]]  # the made answer stands first
            assert row["question"].startswith(mark)


def test_prompt_and_tree(root: Path, tmp_path: Path) -> None:
    _, rows = built("face_human_bench_en", root, tmp_path / "q")
    row = next(r for r in rows if r["topic"] == "face_age_basic_15-cropped")
    shown = "".join(f"{letter}. {option}\n" for letter, option in zip("ABCD", row["options"], strict=True))
    assert row["question"] == (
        f"Question: What about 0?\n{shown}Please select the correct answer from the options above."
    )
    assert sorted(row["options"]) == ["20", "30", "40", "50"] and row["value"] == "20"
    assert row["groups"] == {"level": "face", "ability": "age", "sub_ability": "15-year-interval"}
    assert row["images"] == ["test/eval_data/face_age_basic_15/cropped/sample_0000.jpg"]
    twin = next(r for r in rows if r["topic"] == "face_age_basic_15-original")
    assert twin["cluster"] == row["cluster"] and twin["image_id"] != row["image_id"]


def test_the_splits_own_folder_and_prepared_output_will_do(root: Path, tmp_path: Path) -> None:
    import shutil

    moved = Path(shutil.copytree(root / "test", tmp_path / "moved"))
    (moved / "output").mkdir()
    (moved / "eval_data").rename(moved / "output" / "eval_data")
    header, rows = built("face_human_bench_zh", moved, tmp_path / "q")
    assert rows[0]["images"][0].startswith("output/eval_data/") and header.skipped == {}
    with pytest.raises(FaceDataError, match="no such file"):
        built("face_human_bench_zh", root, tmp_path / "q", split="val")
    with pytest.raises(FaceDataError, match="has test, val"):
        built("face_human_bench_zh", root, tmp_path / "q", split="all")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"), ("b", "b"), ("7", "7"), ("X", "X"), ("B.", "B"), ("B) x", "B"), ("A. w, not B", "A"),
        ("A. or B.", None), ("答案是C。", "C"), ("选项 D", "D"), ("选项B，选项B。", "B"), ("The answer is C", None),
        ("w", "w"), ("E.", None), ("", None),
        # Its defect: a word's last capital.
        ("a MAD. man", "D"),
    ],
)  # fmt: skip
def test_the_papers_regular_expressions(text: str, letter: str | None) -> None:
    assert suite.original_letter(text, FOUR) == letter


def test_a_doubled_option_needs_its_letter() -> None:
    options = ["w", "w", "long one", "z"]
    assert suite.record(doc(options, ["B"], level="", ability="", sub_ability=""), "B. w")["score"] == 1.0
    assert suite.record(doc(options, ["B"], level="", ability="", sub_ability=""), "A")["score"] == 0.0
    assert suite.record(doc(options, ["C"], level="", ability="", sub_ability=""), "long one")["pred"] == "C"


def leaves() -> list[suite.Leaf]:
    """face: a (1, 0 | 1 1 1 0) and b (1); human: c (0, refused; 1)."""
    face = [("face", "a", "s1", "t1")] * 2 + [("face", "a", "s2", "t2")] * 4 + [("face", "b", "s", "t3")]
    scores = [1, 0, 1, 1, 1, 0, 1]
    human = [(("human", "c", "s", "t4"), 0.0, 1.0), (("human", "c", "s", "t4"), 1.0, 0.0)]
    return [(path, float(score), 0.0) for path, score in zip(face, scores, strict=True)] + human


def test_the_mean_of_means() -> None:
    # a = (1/2 + 3/4) / 2 = 5/8; face = (5/8 + 1) / 2 = 13/16; human = 1/2
    assert suite.face_level_acc(leaves()) == (13 / 16 + 1 / 2) / 2
    assert suite.face_level_acc_answered(leaves()) == (13 / 16 + 1) / 2
    shuffled = leaves()
    random.Random(1).shuffle(shuffled)
    assert suite.face_level_acc(shuffled) == suite.face_level_acc(leaves())
    refused = [(("face", "a", "s", "t"), 0.0, 1.0)]
    assert suite.face_level_acc_answered(refused) == 0.0


def test_items_from_a_row(root: Path, tmp_path: Path) -> None:
    _, rows = built("face_human_bench_en", root, tmp_path / "q")
    score = suite_scorer(suite.record, suite.METRICS)
    items = score(rows[0], [rows[0]["answer"][0]])
    assert list(items) == list(suite.METRICS)
    assert items["face_level_acc"] == (("face", "age", "5-year-interval", "face_age_basic_5-original"), 1.0, 0.0)
    refusal = score(rows[0], ["I'm sorry, I can't help with that."])
    assert refusal["face_refused"] == 1.0 and refusal["face_level_acc_original"][1:] == (0.0, 1.0)


@pytest.mark.parametrize(
    ("answer", "options"), [(4, "wxyz"), (-1, "wxyz"), ("0", "wxyz"), (True, "wxyz"), (0, "vwxyz")]
)
def test_a_bad_sample_is_named(tmp_path: Path, answer: object, options: str) -> None:
    root = human_bench(tmp_path / "h", samples=1)
    path = root / "test/json/en/human_action_basic.json"
    data = json.loads(path.read_text())
    data["data"][0]["QA"] |= {"answer": answer, "options": list(options)}
    path.write_text(json.dumps(data))
    with pytest.raises(FaceDataError, match=r"human_action_basic\.json, sample 0"):
        built("face_human_bench_en", root, tmp_path / "q")
