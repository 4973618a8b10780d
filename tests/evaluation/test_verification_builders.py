"""Questions of the verification sets: every pair of the published forms, and no label that is not the file's."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest
from file_damage import all_damaged
from lmms_dummy import run_dummy
from pair_samples import SAMPLES, Sample, cfp, flat, jpeg, lfw, packed, rfw

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation.builders import BENCHMARKS, BuildOptions, Source, build
from llava_face_plugin.evaluation.builders._packed_pairs import read_packed
from llava_face_plugin.evaluation.questions import Question, load_questions

SETS = ("lfw", "calfw", "cplfw", "agedb30", "cfp_fp", "rfw")


def asked(task: str, root: Path, **options: str) -> tuple[list[Question], Source]:
    source = BENCHMARKS[task].source(root, "test", settings=options)
    return list(BENCHMARKS[task].questions(source)), source


def facts(questions: list[Question]) -> set[tuple[str, str, bool, int]]:
    return {(*q.images, q.answer == ("yes",), q.fold) for q in questions}  # type: ignore[misc]


@pytest.mark.parametrize("task", SAMPLES)
def test_every_pair_with_its_label_and_fold(task: str, tmp_path: Path) -> None:
    sample = SAMPLES[task](tmp_path)
    questions, source = asked(task, tmp_path)
    assert facts(questions) == set(sample.truth) and len(questions) == len(sample.truth)
    assert {(q.kind, q.topic) for q in questions} == {("yes_no", "same_person")} and not source.skipped
    for q in questions:
        if sample.people:
            assert q.cluster.endswith(sample.people[q.images[0]])  # RFW has the race before it
    assert sorted(Path(s["name"]).name for s in source.sources) == sorted(Path(f).name for f in sample.files)


@pytest.mark.parametrize("task", SAMPLES)
def test_the_similarity_task_asks_about_the_same_pairs(task: str, tmp_path: Path) -> None:
    SAMPLES[task](tmp_path)
    yes_no, _ = asked(task, tmp_path)
    score, _ = asked(f"{task}_score", tmp_path)
    gold = {("yes",): ("100",), ("no",): ("0",)}
    assert [(q.question_id, q.images, gold[q.answer], q.fold) for q in yes_no] == [
        (q.question_id, q.images, q.answer, q.fold) for q in score
    ]
    assert {(q.kind, q.topic) for q in score} == {("number", "similarity")}


def test_the_wording_is_frozen(tmp_path: Path) -> None:
    lfw(tmp_path)
    assert {q.question for q in asked("face_lfw", tmp_path)[0]} == {"Do these two images show the same person?"}
    (score,) = {q.question for q in asked("face_lfw_score", tmp_path)[0]}
    assert score == (
        "How similar are the faces in these two images, from 0 (surely two people) to 100 (surely one person)?"
    )


def test_groups_are_races_in_rfw_and_none_elsewhere(tmp_path: Path) -> None:
    rfw(tmp_path / "rfw")
    lfw(tmp_path / "lfw")
    for q in asked("face_rfw", tmp_path / "rfw")[0]:
        assert q.groups == {"race": q.images[0].split("/")[1]} and q.cluster.startswith(q.groups["race"])
    assert all(q.groups == {} for q in asked("face_lfw", tmp_path / "lfw")[0])


def test_lfw_real_list(real_faces: Path, tmp_path: Path) -> None:
    """The published file: 6,000 pairs in 10 folds of 300 and 300; the images are placeholders."""
    listing = real_faces / "lfw" / "pairs.txt"
    shutil.copy(listing, tmp_path)
    people: dict[str, set[int]] = {}
    for line in listing.read_text().splitlines()[1:]:
        cells = line.split("\t")
        for name, number in ((cells[0], cells[1]), (cells[-2] if len(cells) == 4 else cells[0], cells[-1])):
            people.setdefault(name, set()).add(int(number))
    for name, numbers in people.items():
        (tmp_path / "lfw" / name).mkdir(parents=True)
        for number in numbers:
            (tmp_path / "lfw" / name / f"{name}_{number:04d}.jpg").touch()
    questions, source = asked("face_lfw", tmp_path)
    assert len(questions) == 6000 and not source.skipped and not source.notes
    for fold in range(1, 11):
        answers = [q.answer[0] for q in questions if q.fold == fold]
        assert (answers.count("yes"), answers.count("no")) == (300, 300)
    assert questions[0].images == ("lfw/Abel_Pacheco/Abel_Pacheco_0001.jpg", "lfw/Abel_Pacheco/Abel_Pacheco_0004.jpg")
    assert questions[300].value == "different" and questions[299].value == "same"
    shown = {q.images: q.answer[0] for q in questions}
    assert all((a.split("/")[1] == b.split("/")[1]) == (answer == "yes") for (a, b), answer in shown.items())


def damage_test(sample: Sample, task: str, count: int) -> tuple[int, int]:
    """(refused, built) of ``count`` damaged copies of every file with pairs; labels of what was built are right."""
    labels = {(a, b): same for a, b, same, _ in sample.truth}
    refused = built = 0
    each = -(-count // len(sample.files))
    for file in sample.files:
        whole = (sample.root / file).read_bytes()
        for bad in all_damaged(whole, each):
            (sample.root / file).write_bytes(bad)
            try:
                questions, _ = asked(task, sample.root)
            except FaceDataError as error:
                assert str(sample.root) in str(error)
                refused += 1
                continue
            built += 1
            for q in questions:
                if sample.people:
                    right = sample.people[q.images[0]] == sample.people[q.images[1]]
                else:
                    right = labels[q.images]  # type: ignore[index]
                assert (q.answer == ("yes",)) == right, (file, bad)
        (sample.root / file).write_bytes(whole)
    return refused, built


@pytest.mark.parametrize("task", SAMPLES)
def test_two_hundred_damaged_lists(task: str, tmp_path: Path) -> None:
    refused, built = damage_test(SAMPLES[task](tmp_path), task, 200)
    assert refused > 100 and built > 0  # some damage, such as a line end, changes nothing


@pytest.mark.parametrize(
    ("task", "old", "new", "said"),
    [
        ("face_lfw", "10\t2", "10 x", r"pairs.txt, line 1: .*10 300"),
        ("face_lfw", "10\t2", "9\t2", r"pairs.txt: 40 pairs; expected 9 folds"),
        ("face_lfw", "Ann_Bee1_a\t1\t12\n", "Ann_Bee1_a\t1\tAnn_Bee1_b\t12\n", r"line 2: .*expected NAME i j"),
        ("face_lfw", "Ann_Bee1_a\t1\t12\n", "Ann_Bee1_a\t0\t12\n", r"line 2: .*no name and number"),
        ("face_lfw", "Ann_Bee1_a\t1\t12\n", "../x\t1\t12\n", r"line 2: .*no name and number"),
        ("face_calfw", "Cy_Dee1a_0001.jpg 1", "Cy_Dee1a_0001.jpg 2", r"lines 1 and 2: tokens 2 and 1"),
        ("face_calfw", "Cy_Dee1a_0001.jpg 1\n", "", r"79 lines; expected two a pair"),
        ("face_calfw", "Cy_Dee10b_0001.jpg 0\nEd_Eff10b_0004.jpg 0\n", "", r"20 pairs of one person and 19 of two"),
        ("face_cplfw", "Cy_Dee1a_1.jpg 1", "Cy_Dee1a_1.jpg", r"pairs_CPLFW.txt, line 1: "),
        ("face_cfp_fp", "1 ../Data/Images/001/frontal/01.jpg", "2 ../Data/Images/001/frontal/01.jpg", r"F.txt, line 1"),
        ("face_cfp_fp", "1 ../Data/Images/001/frontal/01.jpg", "1 /etc/passwd", r"_F.txt, line 1: '1 /etc/passwd'"),
        ("face_agedb30", "00001.jpg 00002.jpg 1", "00001.jpg 00003.jpg 1", r"line 1: .*no pair of this line"),
        ("face_agedb30", "00001.jpg 00002.jpg 1", "00001.jpg 00002.jpg -1", r"40 pairs, 19 of one person"),
    ],
)  # fmt: skip
def test_a_malformed_line_is_named(task: str, old: str, new: str, said: str, tmp_path: Path) -> None:
    sample = SAMPLES[task](tmp_path)
    text = (tmp_path / sample.files[0]).read_text()
    assert old in text
    (tmp_path / sample.files[0]).write_text(text.replace(old, new, 1))
    with pytest.raises(FaceDataError, match=said):
        asked(task, tmp_path)


@pytest.mark.parametrize("bad", ["1,3", "80,1"])
def test_a_pair_that_contradicts_its_own_names_is_left_out_and_counted(bad: str, tmp_path: Path) -> None:
    """CFP: another person's picture among the pairs of one person."""
    cfp(tmp_path)
    path = tmp_path / "Protocol/Split/FP/01/same.txt"
    path.write_text(path.read_text().replace("1,2", bad, 1))
    for frontal in tmp_path.glob("Data/Images/*/frontal"):  # every picture is there
        for view, name in (("frontal", "01.jpg"), ("frontal", "02.jpg"), ("profile", "01.jpg"), ("profile", "02.jpg")):
            (frontal.parent / view).mkdir(exist_ok=True)
            (frontal.parent / view / name).touch()
    questions, source = asked("face_cfp_fp", tmp_path)
    assert len(questions) == 39 and source.skipped == {"label contradicts the names": 1}
    assert any("same.txt, line 1" in note for note in source.notes)


@pytest.mark.parametrize("bad", ["Ann_Bee1_a\t1\tAnn_Bee1_a\t12", "Ann_Bee1_a\t1\tAnn_Bee1_a\t1"])
def test_a_pair_of_two_people_that_names_one_is_left_out_and_counted(bad: str, tmp_path: Path) -> None:
    sample = lfw(tmp_path)
    path = tmp_path / "pairs.txt"
    path.write_text(path.read_text().replace("Ann_Bee1_a\t1\tAnn_Bee1_n\t12", bad))
    questions, source = asked("face_lfw", tmp_path)
    assert source.skipped == {"label contradicts the names": 1}
    assert facts(questions) == set(sample.truth) - {sample.truth[2]}  # the first pair of two people


@pytest.mark.parametrize(("old", "new"), [("1", "0"), ("1", "3")])
def test_a_token_that_contradicts_the_names_is_left_out_and_counted(old: str, new: str, tmp_path: Path) -> None:
    """CALFW: 0 for two pictures of one person, and another fold than that of the pair's place."""
    SAMPLES["face_calfw"](tmp_path)
    path = tmp_path / "pairs_CALFW.txt"
    lines = path.read_text().splitlines()
    lines[:2] = [line.removesuffix(f" {old}") + f" {new}" for line in lines[:2]]
    path.write_text("\n".join(lines))
    questions, source = asked("face_calfw", tmp_path)
    assert len(questions) == 39 and source.skipped == {"label contradicts the names": 1}
    assert not any("Cy_Dee1a" in image for q in questions if q.fold == 1 and q.value == "same" for image in q.images)


def test_images_that_are_missing_or_broken_are_counted(tmp_path: Path) -> None:
    sample = lfw(tmp_path / "lfw_root")
    (sample.root / sample.truth[0][0]).unlink()
    (sample.root / sample.truth[5][1]).write_bytes(b"\xff\xd8\xff broken")
    _, header = build(BENCHMARKS["face_lfw"], sample.root, tmp_path / "out")
    assert header.skipped["pair without both image files"] == 2  # the person's first picture is in two pairs
    assert header.rows == 37
    assert sum(n for reason, n in header.skipped.items() if reason.startswith("image")) == 1
    assert any("the whole protocol has 6,000" in note for note in header.notes)


def test_what_is_looked_for_is_said(tmp_path: Path) -> None:
    for name in SETS:
        with pytest.raises(FaceDataError, match=str(tmp_path)):
            asked(f"face_{name}", tmp_path)
    lfw(tmp_path)
    shutil.rmtree(tmp_path / "lfw")
    with pytest.raises(FaceDataError, match=r"Ann_Bee1_a_0001\.jpg"):
        asked("face_lfw", tmp_path)
    (tmp_path / "04_FINAL_protocol_30_years.mat").touch()
    with pytest.raises(FaceDataError, match=r"\.mat must be turned into a list"):
        asked("face_agedb30", tmp_path)


def test_settings(tmp_path: Path) -> None:
    lfw(tmp_path)
    (tmp_path / "lfw").rename(tmp_path / "crops")
    assert len(asked("face_lfw", tmp_path, images="crops")[0]) == 40
    with pytest.raises(FaceDataError, match="--set image: face_lfw has images"):
        asked("face_lfw", tmp_path, image="crops")
    with pytest.raises(FaceDataError, match="split 'train'"):
        BENCHMARKS["face_lfw"].source(tmp_path, "train")


@pytest.mark.parametrize("arrays", [False, True])
@pytest.mark.parametrize("protocol", range(6))
def test_a_packed_set_is_unpacked(protocol: int, arrays: bool, tmp_path: Path) -> None:
    sample = packed(tmp_path, protocol, arrays)
    questions, source = asked("face_agedb30", tmp_path)
    assert facts(questions) == set(sample.truth) and any("names nobody" in note for note in source.notes)
    assert (tmp_path / sample.truth[3][1]).read_bytes() == jpeg(7)
    images = tmp_path / "agedb_30_images"
    (images / "00001.jpg").unlink()
    (images / "unpacked_from.sha256").write_text("of an older file")
    asked("face_agedb30", tmp_path)
    assert (images / "00001.jpg").is_file()


def test_a_folder_that_was_not_unpacked_here_is_left_alone(tmp_path: Path) -> None:
    packed(tmp_path)
    (tmp_path / "agedb_30_images").mkdir()
    with pytest.raises(FaceDataError, match="move it away"):
        asked("face_agedb30", tmp_path)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {os.environ['HOSTILE_MARK']}",)


def test_a_packed_set_is_never_loaded_as_a_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTILE_MARK", str(tmp_path / "ran"))
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps(([Hostile(), jpeg(0)], [True])))
    with pytest.raises(FaceDataError, match="1 images and 1 labels"):
        read_packed(tmp_path / "lfw.bin")
    assert not (tmp_path / "ran").exists()


def test_two_hundred_damaged_packed_sets(tmp_path: Path) -> None:
    """A label whose own byte turns into the other label's cannot be seen: nothing else in the file states it."""
    sample = packed(tmp_path)
    whole = (tmp_path / "agedb_30.bin").read_bytes()
    images, labels = read_packed(tmp_path / "agedb_30.bin")
    path, refused = tmp_path / "damaged.bin", 0
    for bad in all_damaged(whole, 200):
        path.write_bytes(bad)
        try:
            found, same = read_packed(path)
        except FaceDataError as error:
            assert "damaged.bin" in str(error)
            refused += 1
            continue
        assert len(found) == len(images)
        flips = sum(a != b for a, b in zip(same, labels, strict=True))
        assert flips <= sum(a != b for a, b in zip(bad[-100:], whole[-100:], strict=False))
    assert refused > 100 and sample.files


def test_lists_as_archives(tmp_path: Path) -> None:
    sample = flat(tmp_path)
    shutil.make_archive(str(tmp_path / "agedb_30_pair"), "zip", tmp_path, "agedb_30_pair.txt")
    (tmp_path / "agedb_30_pair.txt").unlink()
    assert facts(asked("face_agedb30", tmp_path)[0]) == set(sample.truth)


def test_lmms_eval_with_its_dummy_model(tmp_path: Path) -> None:
    """Always "Yes": half of all pairs are right, in every fold."""
    pytest.importorskip("lmms_eval")
    rfw(tmp_path / "data")
    for task in ("face_rfw", "face_rfw_score"):
        build(BENCHMARKS[task], tmp_path / "data", tmp_path / "questions", options=BuildOptions(verify=False))
    found = run_dummy({"face_rfw": "Yes", "face_rfw_score": "70"}, tmp_path)
    yes, score = found["face_rfw"], found["face_rfw_score"]
    assert (yes["face_acc_score"], yes["face_fold_acc"], yes["face_fold_sd"]) == (0.5, 0.5, 0.0)
    assert (yes["face_worst_group"], yes["face_group_gap"], yes["face_unparsed"]) == (0.5, 0.0, 0.0)
    assert (score["face_eer"], score["face_auc"], score["face_unparsed"]) == (0.5, 0.5, 0.0)
    # No standard error of an accuracy beside the error rate.
    assert {score[name] for name in score if name.startswith("face_eer_stderr")} == {"N/A"}
    assert yes["face_acc_score_stderr_clustered"] < 0.01
    assert load_questions(tmp_path / "questions" / "face_rfw.parquet")[0].rows == 160
