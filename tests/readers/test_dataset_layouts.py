"""What is particular to one data set: other layouts of it, parts of it that are missing or broken."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from dataset_samples import SAMPLES, affectnet_folders, npy
from sample_parts import edit, read, text, touch

from llava_face_plugin.data.datasets._rows import hash_split
from llava_face_plugin.data.manifest import Manifest
from llava_face_plugin.errors import FaceDataError


def made(name: str, root: Path) -> Path:
    SAMPLES[name](root, np.random.default_rng(5))
    return root


def test_utkface_names(tmp_path: Path) -> None:
    made("utkface", tmp_path)
    bad = ["39_1_20170116174525125.jpg.chip.jpg", "53__0_20170116184028385.jpg", "26_2_0_20170116184028385.jpg",
           "117_1_0_20170116184028385.jpg", "26_1_5_20170116184028385.jpg"]  # fmt: skip
    good = "55_0_0_20170116232725357jpg.chip.jpg"
    touch(tmp_path, [f"UTKFace/{n}" for n in [*bad, good]] + ["UTKFace/readme.txt", f"UTKFace/part2/{good}"])
    found = read("utkface", tmp_path)
    assert found.skipped == {"malformed name": 4, "unknown age": 1, "listed twice": 1} and len(found) == 41
    assert f"UTKFace/{good}" in found.images.tolist()
    assert any(bad[0] in problem for problem in found.problems)


def test_affectnet_folders_and_headless_csv(tmp_path: Path) -> None:
    truth = affectnet_folders(tmp_path / "new", np.random.default_rng(2))
    found = read("affectnet", tmp_path / "new", look_for_images=True)
    assert found.images.tolist() == truth.images and found.split.tolist() == truth.split
    names = [found.classes["expression"][c] for c in found.labels["expression"]]
    assert names == truth.labels["expression"]
    notes = tmp_path / "new" / "val_set" / "annotations"
    (notes / "0_exp.npy").write_bytes(npy("8"))
    (notes / "1_exp.npy").write_bytes(npy(object()))
    (notes / "2_exp.npy").write_bytes(b"\x93NUMPY\x01\x00")
    (notes / "3_exp.npy").write_bytes(npy(["1", "2"]))
    found = read("affectnet", tmp_path / "new")
    assert found.skipped == {"expression is none": 1, "unknown expression": 3} and len(found) == 13
    with zipfile.ZipFile(notes.parent / "annotations.zip", "w") as archive:
        for file in notes.iterdir():
            archive.write(file, f"annotations/{file.name}")
    for file in notes.iterdir():
        file.unlink()
    notes.rmdir()
    assert read("affectnet", tmp_path / "new").images.tolist() == found.images.tolist()

    clean = read("affectnet", made("affectnet", tmp_path / "old"))
    path = tmp_path / "old" / "validation.csv"
    path.write_text("\n".join(path.read_text().splitlines()[1:]))
    assert read("affectnet", tmp_path / "old").images.tolist() == clean.images.tolist()


def test_rafdb_without_and_with_broken_manual_annotation(tmp_path: Path) -> None:
    clean = read("rafdb", made("rafdb", tmp_path))
    manual = tmp_path / "Annotation" / "manual"
    with zipfile.ZipFile(tmp_path / "Annotation" / "manual.zip", "w") as archive:
        for file in manual.iterdir():
            archive.write(file, f"manual/{file.name}")
    (manual / "train_00001_manu_attri.txt").write_text("1 2\n")
    for file in manual.iterdir():
        file.unlink()
    manual.rmdir()
    zipped = read("rafdb", tmp_path)
    assert all(np.array_equal(zipped.labels[c], clean.labels[c]) for c in clean.labels) and clean.groups
    (tmp_path / "Annotation" / "manual.zip").unlink()
    found = read("rafdb", tmp_path)
    assert set(found.labels) == {"expression"} and found.groups == ()
    text(tmp_path, "Annotation/manual/train_00001_manu_attri.txt", ["33.5\t41.2"] * 5 + ["1", "2", "4"])
    text(tmp_path, "Annotation/manual/train_00002_manu_attri.txt", ["33.5\t41.2"] * 5 + ["7", "2", "4"])
    found = read("rafdb", tmp_path)
    assert [int(found.labels[c][0]) for c in ("gender", "race", "age_group")] == [1, 2, 4]
    assert (found.labels["race"][1:] == -1).all()
    assert any("1 files are no manual annotation" in note and "train_00002" in note for note in found.notes)


def test_celebvhq_json(tmp_path: Path) -> None:
    path = made("celebvhq", tmp_path) / "celebvhq_info.json"
    clean = json.loads(path.read_text())
    keys = list(clean["clips"])

    def attempt(change) -> Manifest:  # type: ignore[no-untyped-def]
        data = json.loads(json.dumps(clean))
        change(data)
        path.write_text(json.dumps(data, indent=1))
        return read("celebvhq", tmp_path)

    def clip(data: dict) -> dict:  # type: ignore[type-arg]
        return data["clips"][keys[3]]["attributes"]

    for change, reason in (
        (lambda d: clip(d).update(appearance=[1] * 39), "bad appearance"),
        (lambda d: clip(d).update(action=[2] * 35), "bad action"),
        (lambda d: clip(d).update(action=None), "bad action"),
        (lambda d: clip(d).update(emotion={"sep_flag": False, "labels": "joy"}), "unknown emotion"),
        (lambda d: clip(d).update(emotion={"sep_flag": True, "labels": []}), "unknown emotion"),
        (lambda d: d["clips"][keys[3]].pop("ytb_id"), "no ytb_id"),
    ):
        found = attempt(change)
        assert found.skipped == {reason: 1} and f"clip {keys[3]}" in found.problems[0] and len(found) == 23

    def swapped(data: dict) -> None:  # type: ignore[type-arg]
        names = data["meta_info"]["appearance_mapping"]
        names[0], names[5] = names[5], names[0]
        for one in data["clips"].values():
            values = one["attributes"]["appearance"]
            values[0], values[5] = values[5], values[0]

    assert np.array_equal(attempt(swapped).attributes, attempt(lambda d: None).attributes)
    for change, message in (
        (lambda d: d["meta_info"]["appearance_mapping"].__setitem__(0, "Blury"), "did you mean 'blurry'"),
        (lambda d: d["meta_info"]["action_mapping"].pop(), "without yawn"),
        (lambda d: d.pop("clips"), "'meta_info' and 'clips'"),
    ):
        with pytest.raises(FaceDataError, match=message):
            attempt(change)
    path.write_text(json.dumps(clean, indent=1)[:-30])
    with pytest.raises(FaceDataError, match=r"line \d+: no JSON"):
        read("celebvhq", tmp_path)
    path.write_text('{"clips": {"a": 1, "a": 2}, "meta_info": {}}')
    with pytest.raises(FaceDataError, match="'a' occurs twice"):
        read("celebvhq", tmp_path)
    path.write_text("[" * 100_000)
    with pytest.raises(FaceDataError, match="nested too deeply"):
        read("celebvhq", tmp_path)


def test_folds(tmp_path: Path) -> None:
    made("dfew", tmp_path)
    first = read("dfew", tmp_path)
    second = read("dfew", tmp_path, partition=tmp_path / "EmoLabel_DataSplit" / "test(single-labeled)" / "set_2.csv")
    assert not set(first.images) & set(second.images) and np.bincount(second.split).tolist() == [20, 0, 8]
    assert "fold 1 of 5" in first.notes and "fold 2 of 5" in second.notes
    with pytest.raises(FaceDataError, match="expected a file of one fold"):
        read("dfew", tmp_path, partition=tmp_path / "set_3.csv")
    (tmp_path / "EmoLabel_DataSplit" / "train(single-labeled)" / "set_1.csv").unlink()
    assert any("fold 1 has no train list" in note for note in read("dfew", tmp_path).notes)


def test_mafw_without_folds(tmp_path: Path) -> None:
    clean = read("mafw", made("mafw", tmp_path))
    lists = tmp_path / "Train & Test Set" / "single" / "no_caption" / "set_1"
    lines = [line for w in ("train", "test") for line in (lists / f"{w}.txt").read_text().splitlines()]
    rows = [f"{line.replace(' ', chr(9))}\t<br>一个男人 说话。\t<br> A man speaks, frowning." for line in lines]
    (lists.parents[3] / "Train & Test Set").rename(tmp_path / "gone")
    text(tmp_path, "caption-label/single_label.txt", rows)
    found = read("mafw", tmp_path)
    assert found.images.tolist() == clean.images.tolist() and not found.skipped
    assert np.array_equal(found.labels["expression"], clean.labels["expression"])
    assert np.array_equal(found.split, hash_split(np.array([Path(i).stem for i in found.images])))
    given = read("mafw", tmp_path, labels=tmp_path / "caption-label" / "single_label.txt")
    assert given.images.tolist() == found.images.tolist()


def test_maadface_official_split_of_the_meta_file(tmp_path: Path) -> None:
    made("maadface", tmp_path)
    people = ["Class_ID, Name, Sample_Num, Flag, Gender"]
    people += [f'n{i:06d}, "Name, the {i}th", 424, {int(i < 8)}, f' for i in range(1, 10)]
    text(tmp_path, "identity_meta.csv", people)
    found = read("maadface", tmp_path)
    by_person = dict(zip(found.identity.tolist(), found.split.tolist(), strict=True))  # type: ignore[union-attr]
    assert [by_person[i] for i in range(1, 10)] == [0] * 7 + [2] * 2
    assert any(note.startswith("4 rows of persons without an official split") for note in found.notes)
    (tmp_path / "identity_meta.csv").write_text("nothing\n")
    with pytest.raises(FaceDataError, match=r"identity_meta\.csv: no line as"):
        read("maadface", tmp_path)


def test_videos_without_frames_are_not_images(tmp_path: Path) -> None:
    made("cremad", tmp_path)
    videos = tmp_path / "VideoFlash"
    clips = sorted(videos.iterdir())
    for clip in clips[1:]:
        for frame in clip.iterdir():
            frame.unlink()
        clip.rmdir()
        clip.with_suffix(".flv").touch()
    found = read("cremad", tmp_path, look_for_images=True)
    assert found.present is not None and found.present.sum() == 1 and len(found) == len(clips)
    assert any("35 clips are there as videos only" in n and "ffmpeg" in n for n in found.notes)
    assert all(str(i).endswith(".flv") for i in found.images[~found.present])
    (tmp_path / "SentenceFilenames.csv").unlink()  # then the folder is listed
    (tmp_path / "VideoDemographics.csv").unlink()
    listed = read("cremad", tmp_path, look_for_images=True)
    assert sorted(listed.images) == sorted(found.images) and listed.age is None and set(listed.labels) == {"expression"}


def test_actors_who_are_not_told_of(tmp_path: Path) -> None:
    clean = read("cremad", made("cremad", tmp_path))
    path = tmp_path / "VideoDemographics.csv"
    edit(path, 3, "Male|Female", "Mle")
    edit(path, 5, r"^\d+", "2000")
    found = read("cremad", tmp_path)
    assert found.age is not None and int(np.isnan(found.age).sum()) == 3
    assert int((found.labels["gender"] == -1).sum()) == 6
    assert np.array_equal(found.labels["expression"], clean.labels["expression"]) and not found.skipped
    assert any("lacks 1 actors of the clips (1004)" in n for n in found.notes)
    assert any("VideoDemographics.csv, line 3:" in n and "(1 such rows)" in n for n in found.notes)


def test_unknown_folders_of_fer2013(tmp_path: Path) -> None:
    clean = read("fer2013", made("fer2013", tmp_path))
    touch(tmp_path, ["train/angy/Training_1.jpg", "test/happy/notes.txt"])
    found = read("fer2013", tmp_path)
    assert found.skipped == {"unknown expression": 1} and found.images.tolist() == clean.images.tolist()
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "fer2013.csv").write_text("emotion,pixels,Usage\n")
    with pytest.raises(FaceDataError, match="pixels as text"):
        read("fer2013", tmp_path / "csv")
