"""Questions of DISFA and BP4D: labels of the published forms, the right frame's image, three folds of people."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from file_damage import all_damaged
from lmms_dummy import run_dummy
from PIL import Image

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation.action_unit_scoring import unit_f1, unit_scorer
from llava_face_plugin.evaluation.builders import BENCHMARKS, Source, build
from llava_face_plugin.evaluation.builders.action_units import BP4D_FOLDS, DISFA_FOLDS, NAMES
from llava_face_plugin.evaluation.metrics import action_unit_f1
from llava_face_plugin.evaluation.questions import Question
from llava_face_plugin.evaluation.scoring import YES_NO

DISFA_ALL = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
DISFA_8 = (1, 2, 4, 6, 9, 12, 25, 26)
BP4D = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
Truth = dict[tuple[str, int, int], int]
"""(clip, frame, unit) -> label of the file."""


def picture(path: Path, frame: int) -> None:
    """The frame's number is its colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (frame % 256, frame // 256, 7)).save(path)


def disfa(root: Path, people: tuple[str, ...] = ("SN001", "SN003"), frames: int = 40, first: int = 1) -> Truth:
    """``SN001_au12.txt``: lines ``frame,intensity``; images numbered from ``first``."""
    rng = random.Random(5)
    truth: Truth = {}
    for person in people:
        for unit in DISFA_ALL:
            path = root / "ActionUnit_Labels" / person / f"{person}_au{unit}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            truth |= {(person, frame, unit): rng.randrange(6) for frame in range(1, frames + 1)}
            path.write_text("".join(f"{f},{truth[person, f, unit]}\n" for f in range(1, frames + 1)))
        for frame in range(1, frames + 1):
            picture(root / "img" / person / f"{frame - 1 + first}.png", frame)
    return truth


def bp4d(root: Path, clips: tuple[str, ...] = ("F001_T1", "M005_T8"), start: int = 2440, frames: int = 30) -> Truth:
    """``F001_T1.csv``: a header 0, 1, 2, 3 ..., then a frame a line; 9 is unknown."""
    rng = random.Random(6)
    units = range(1, 28)
    truth: Truth = {}
    for clip in clips:
        lines = [",".join(map(str, [0, *units]))]
        for frame in range(start, start + frames):
            labels = {unit: rng.choice((0, 1, 9)) for unit in units}
            truth |= {(clip, frame, unit): label for unit, label in labels.items()}
            lines.append(",".join(map(str, [frame, *labels.values()])))
            picture(root / "img" / clip.replace("_", "/") / f"{frame:04d}.jpg", frame)
        path = root / "AUCoding" / "AU_OCC" / f"{clip}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\r\n".join(lines) + "\r\n")
    return truth


def asked(task: str, root: Path, **options: str) -> tuple[list[Question], Source]:
    source = BENCHMARKS[task].source(root, "test", settings=options)
    return list(BENCHMARKS[task].questions(source)), source


def key(q: Question) -> tuple[str, int, int]:
    clip, _, frame = q.image_id.rpartition("/")
    return clip.replace("/", "_"), int(frame), int(q.topic.removeprefix("AU"))


@pytest.mark.parametrize(("units", "expected"), [("8", DISFA_8), ("12", DISFA_ALL)])
def test_disfa_asks_about_every_frame_and_unit(units: str, expected: tuple[int, ...], tmp_path: Path) -> None:
    truth = disfa(tmp_path)
    questions, _ = asked("face_disfa", tmp_path, every="1", units=units)
    assert {key(q): q.value for q in questions} == {k: str(v) for k, v in truth.items() if k[2] in expected}
    assert all((q.answer == ("yes",)) == (int(q.value) >= 2) for q in questions)
    assert {q.cluster for q in questions} == {"SN001", "SN003"}
    twelve = next(q for q in questions if q.topic == "AU12")
    assert twelve.question == "Is facial action unit AU12 (lip corner puller) active in this face?"


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("said", [True, False])
def test_disfa_labels_go_with_the_image_of_their_frame(first: int, said: bool, tmp_path: Path) -> None:
    disfa(tmp_path, first=first)
    settings = {"first": str(first)} if said else {}
    questions, source = asked("face_disfa", tmp_path, every="7", **settings)
    for q in questions:
        with Image.open(tmp_path / q.images[0]) as image:
            assert image.getpixel((0, 0)) == (key(q)[1], 0, 7)
    assert {key(q)[1] for q in questions} == {1, 8, 15, 22, 29, 36}
    guessed = [note for note in source.notes if note.startswith("the image of the first frame is taken to be")]
    assert len(guessed) == (not said) and all(f"number {first}" in note for note in guessed)


def test_disfa_images_of_another_frame_rate_are_refused(tmp_path: Path) -> None:
    disfa(tmp_path)
    for frame in range(5, 41):
        (tmp_path / "img" / "SN003" / f"{frame}.png").unlink()  # 1 to 4: as ffmpeg names one frame in ten
    with pytest.raises(FaceDataError, match=r"SN003: the last image is frame 4, the last label that of frame 40"):
        asked("face_disfa", tmp_path)


def test_bp4d_leaves_out_unknown_labels(tmp_path: Path) -> None:
    truth = bp4d(tmp_path)
    questions, source = asked("face_bp4d", tmp_path, every="1")
    known = {k: ("yes",) if v else ("no",) for k, v in truth.items() if k[2] in BP4D and v != 9}
    assert {key(q): q.answer for q in questions} == known
    assert source.skipped == {"unknown label": sum(v == 9 for k, v in truth.items() if k[2] in BP4D)}
    for q in questions:
        with Image.open(tmp_path / q.images[0]) as image:  # JPEG changes colours by little
            assert abs(image.getpixel((0, 0))[0] - key(q)[1] % 256) < 4  # type: ignore[index]


def test_one_frame_a_second_by_default(tmp_path: Path) -> None:
    disfa(tmp_path / "disfa")
    bp4d(tmp_path / "bp4d")
    frames = {key(q)[1] for q in asked("face_disfa", tmp_path / "disfa")[0]}
    assert frames == {1, 21}
    questions, source = asked("face_bp4d", tmp_path / "bp4d")
    assert {key(q)[1] for q in questions} == {2440, 2465} and any("one frame in 25" in note for note in source.notes)


def test_folds_are_three_disjoint_parts_of_all_people() -> None:
    for folds, people in (
        (DISFA_FOLDS, [f"SN{i:03d}" for i in (*range(1, 14), 16, 17, 18, 21, *range(23, 33))]),
        (BP4D_FOLDS, [f"F{i:03d}" for i in range(1, 24)] + [f"M{i:03d}" for i in range(1, 19)]),
    ):
        assert sorted(" ".join(folds).split()) == sorted(people)


def test_a_fold_alone(tmp_path: Path) -> None:
    disfa(tmp_path)
    assert {q.fold for q in asked("face_disfa", tmp_path)[0]} == {1, 3}
    assert {q.cluster for q in asked("face_disfa", tmp_path, fold="3")[0]} == {"SN001"}
    with pytest.raises(FaceDataError, match="--set fold=4"):
        asked("face_disfa", tmp_path, fold="4")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("7,", "7;", r"SN001_au4.txt, line 7: .*expected a frame and 1 labels"),
        ("7,", "6,", r"SN001_au4.txt, line 7: frame 6; expected 7"),
        ("1,", "30,", r"SN001_au4.txt, line 2: frame 2; expected 31"),
        ("1,", "-1,", r"SN001_au4.txt, line 1: "),
    ],
)
def test_a_malformed_disfa_line_is_named(old: str, new: str, said: str, tmp_path: Path) -> None:
    disfa(tmp_path)
    path = tmp_path / "ActionUnit_Labels" / "SN001" / "SN001_au4.txt"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(FaceDataError, match=said):
        asked("face_disfa", tmp_path)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    for task, said in (("face_disfa", "ActionUnit_Labels"), ("face_bp4d", "AU_OCC")):
        with pytest.raises(FaceDataError, match=said):
            asked(task, tmp_path)
    bp4d(tmp_path)
    (tmp_path / "img").rename(tmp_path / "pictures")
    with pytest.raises(FaceDataError, match=r"img/F001/T1/1\.png"):
        asked("face_bp4d", tmp_path)
    assert asked("face_bp4d", tmp_path, images="pictures")[0]
    disfa(tmp_path)
    (tmp_path / "ActionUnit_Labels" / "SN003" / "SN003_au9.txt").unlink()
    with pytest.raises(FaceDataError, match=r"SN003_au9\.txt: no such label file"):
        asked("face_disfa", tmp_path)


def test_two_images_of_one_number_are_refused(tmp_path: Path) -> None:
    disfa(tmp_path)
    picture(tmp_path / "img" / "SN001" / "0007.png", 7)
    with pytest.raises(FaceDataError, match=r"0007\.png and .*7\.png are both number 7"):
        asked("face_disfa", tmp_path)


def test_frames_without_an_image_are_counted(tmp_path: Path) -> None:
    bp4d(tmp_path)
    (tmp_path / "img" / "F001" / "T1" / "2441.jpg").unlink()
    _, source = asked("face_bp4d", tmp_path, every="1")
    assert source.skipped["labelled frame without an image file"] == 1


@pytest.mark.parametrize("task", ["face_disfa", "face_bp4d"])
def test_two_hundred_damaged_label_files(task: str, tmp_path: Path) -> None:
    """Labels that were built are the file's own, but for the very cells that the damage changed."""
    disfa_file = task == "face_disfa"
    truth = disfa(tmp_path) if disfa_file else bp4d(tmp_path)
    path = tmp_path / ("ActionUnit_Labels/SN001/SN001_au4.txt" if disfa_file else "AUCoding/AU_OCC/F001_T1.csv")
    whole, refused = path.read_bytes(), 0
    for bad in all_damaged(whole, 200):
        path.write_bytes(bad)
        try:
            questions, _ = asked(task, tmp_path, every="1")
        except FaceDataError as error:
            assert str(tmp_path) in str(error)
            refused += 1
            continue
        wrong = [key(q) for q in questions if str(truth[key(q)]) != q.value]
        changed = changed_frames(whole, bad)
        assert all(frame in changed for _, frame, _ in wrong), (wrong, bad)
    assert refused > 130


def changed_frames(whole: bytes, bad: bytes) -> set[int]:
    """Frames whose line stands in the damaged file with other labels: a digit for a digit cannot be seen, nor at the
    end of the file two lines made one."""
    lines = set(whole.split())
    return {int(line.split(b",")[0]) for line in bad.split() if line not in lines and line.split(b",")[0].isdigit()}


def test_f1_of_a_unit_is_that_of_the_metrics() -> None:
    rng = np.random.default_rng(3)
    gold, pred = rng.integers(0, 2, (80, 1)), rng.integers(-1, 2, (80, 1))
    words = {1: "yes", 0: "no", -1: None}
    items = [(words[g], words[p]) for g, p in zip(gold[:, 0].tolist(), pred[:, 0].tolist(), strict=True)]
    assert unit_f1(items) == pytest.approx(action_unit_f1(gold, pred).units[0])  # type: ignore[arg-type]
    assert np.isnan(unit_f1([("no", "yes")]))


def test_a_question_counts_for_its_own_unit_only() -> None:
    doc = {
        "question_id": "q", "image_id": "i", "cluster": "p", "kind": "yes_no", "question": "?", "options": [],
        "answer": ["yes"], "topic": "AU12", "fold": 1, "groups": None,
    }  # fmt: skip
    found = unit_scorer(*YES_NO)(doc, ["No."])
    assert set(found) == {*YES_NO, "face_f1_au12"} and found["face_f1_au12"] == ("yes", "no")
    with pytest.raises(FaceDataError, match="unknown metrics"):
        unit_scorer("face_f1_au12")


def test_every_unit_asked_about_has_a_name() -> None:
    assert set(NAMES) >= {*DISFA_ALL, *BP4D}


def test_lmms_eval_with_its_dummy_model(tmp_path: Path) -> None:
    """Always "Yes": F1 of a unit is 2p / (1 + p), p the share of its frames that have it."""
    pytest.importorskip("lmms_eval")
    truth = disfa(tmp_path / "data")
    build(BENCHMARKS["face_disfa"], tmp_path / "data", tmp_path / "questions")
    found = run_dummy({"face_disfa": "Yes"}, tmp_path)["face_disfa"]
    there = Counter(unit for (_, frame, unit), label in truth.items() if frame in (1, 21) and label >= 2)
    each = {unit: 2 * (there[unit] / 4) / (1 + there[unit] / 4) for unit in DISFA_8 if there[unit]}
    assert {f"face_f1_au{unit}": pytest.approx(value) for unit, value in each.items()}.items() <= found.items()
    assert found["face_f1"] == pytest.approx(sum(each.values()) / len(each))
    assert found["face_acc_score"] == pytest.approx(sum(there[u] for u in DISFA_8) / 32)
    assert found["face_f1_low"] <= found["face_f1"] <= found["face_f1_high"]
    assert "face_f1_au5" not in found  # of the twelve, not of the eight
