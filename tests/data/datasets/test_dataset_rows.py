"""Bad rows are counted by reason and named with file and line; what is left is right."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from dataset_samples import SAMPLES, affectnet_folders, npy, text, touch

from llava_face_plugin.data.datasets import DATASETS, ReadOptions
from llava_face_plugin.data.datasets._rows import AGE_BINS, age_groups, hash_split, numbered
from llava_face_plugin.data.manifest import Manifest
from llava_face_plugin.errors import FaceDataError


def made(name: str, root: Path) -> Path:
    SAMPLES[name](root, np.random.default_rng(5))
    return root


def read(name: str, root: Path, **options: object) -> Manifest:
    return DATASETS[name].read(root, ReadOptions(**{"look_for_images": False} | options))  # type: ignore[arg-type]


def edit(path: Path, line: int, old: str, new: str) -> None:
    lines = path.read_text().splitlines()
    changed = re.sub(old, new, lines[line - 1], count=1)
    assert changed != lines[line - 1]
    lines[line - 1] = changed
    path.write_text("\n".join(lines) + "\n")


BAD = [
    ("fairface", "fairface_label_train.csv", 5, r"Male|Female", "Malle", "unknown gender", "gender 'Malle' is none of"),
    ("fairface", "fairface_label_val.csv", 3, r",[^,]+$", "", "wrong number of columns", "expected 5 columns, found 4"),
    ("fairface", "fairface_label_val.csv", 3, r"^val/", "test/", "unknown split", "test/2.jpg is neither"),
    ("fairface", "fairface_label_val.csv", 3, r"^val/", "val/../", "bad image name", "no image name"),
    ("rafdb", "EmoLabel/list_patition_label.txt", 2, r"\d$", "8", "unknown expression", "'8' is no label from 1 to 7"),
    ("rafdb", "EmoLabel/list_patition_label.txt", 2, r"^train", "tram", "unknown split", "begins neither"),
    ("affectnet", "training.csv", 4, r",\d(,[-.\d]+,[.\d]+)$", r",10\1", "expression is no face", r"expression 10"),
    ("affectnet", "training.csv", 4, r",\d(,[-.\d]+,[.\d]+)$", r",11\1", "unknown expression", "no number from 0"),
    ("affectnet7", "training.csv", 4, r",\d(,[-.\d]+,[.\d]+)$", r",7\1", "expression is contempt", "contempt"),
    ("ferplus", "fer2013new.csv", 9, r"(,\d+){10}$", ",5,5,0,0,0,0,0,0,0,0", "tied votes", "equally many"),
    ("ferplus", "fer2013new.csv", 9, r"(,\d+){10}$", ",1,1,0,0,0,0,0,0,8,0", "most votes unknown", "unknown"),
    ("ferplus", "fer2013new.csv", 9, r"(,\d+){10}$", ",1,1,0,0,0,0,0,0,0,8", "no face", "NF"),
    ("ferplus", "fer2013new.csv", 9, r"(,\d+){10}$", ",9,9,0,0,0,0,0,0,0,0", "bad votes", "expected 1 to 10 votes"),
    ("ferplus", "fer2013new.csv", 9, r"(,\d+){10}$", ",9,x,0,0,0,0,0,0,0,0", "bad votes", "expected 1 to 10 votes"),
    ("ferplus", "fer2013new.csv", 9, r"fer\d+\.png", "", "no image name", "no image name"),
    ("ferplus", "fer2013new.csv", 9, r"Training", "Train", "unknown Usage", "Usage 'Train' is none of"),
    ("dfew", "EmoLabel_DataSplit/train(single-labeled)/set_1.csv", 3, r"\d$", "0", "no single label", "label 0"),
    ("dfew", "EmoLabel_DataSplit/train(single-labeled)/set_1.csv", 3, r"\d$", "8", "unknown label", "'8' is none"),
    ("dfew", "EmoLabel_DataSplit/test(single-labeled)/set_1.csv", 3, r"^\d+", "a", "bad image name", "no clip's"),
    ("mafw", "Train & Test Set/single/no_caption/set_1/test.txt", 2, r" \w+$", " joy", "unknown expression", "'joy'"),
    ("ferv39k", "4_setups/All_scenes/test_All.csv", 2, r" \w+$", " Joy", "unknown expression", "'Joy'"),
    ("cremad", "SentenceFilenames.csv", 2, r"_(LO|MD|HI|XX)$", "_ZZ", "malformed name", "no name as 1001_DFA_ANG_XX"),
    ("maadface", "MAAD_Face.csv", 6, r",-?\d(,-?\d)$", r",2\1", "unknown value", "Eyeglasses is '2'; expected -1"),
    ("maadface", "MAAD_Face.csv", 6, r"^n", "m", "bad image name", "not below a person's folder"),
    ("lfwa", "lfw_attributes.txt", 7, r"[^\t]+$", "high", "unknown value", "a score is no number"),
    ("lfwa", "lfw_attributes.txt", 7, r"\t\d\t", "\tone\t", "bad image number", "imagenum 'one'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "line", "old", "new", "reason", "message"), BAD)
def test_bad_row(
    name: str, file: str, line: int, old: str, new: str, reason: str, message: str, tmp_path: Path
) -> None:
    clean = read(name, made(name, tmp_path))
    edit(tmp_path / file, line, old, new)
    found = read(name, tmp_path)
    assert found.skipped == {reason: 1} and len(found) == len(clean) - 1
    assert len(found.problems) == 1 and message in found.problems[0]
    assert f"{Path(file).name}, line {line}: " in found.problems[0]
    kept = np.isin(clean.images, found.images)
    assert kept.sum() == len(found) and np.array_equal(found.attributes, clean.attributes[kept])
    assert all(np.array_equal(found.labels[c], clean.labels[c][kept]) for c in clean.labels)
    assert np.array_equal(found.split, clean.split[kept])


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("fairface", "fairface_label_val.csv"),
        ("rafdb", "EmoLabel/list_patition_label.txt"),
        ("affectnet", "validation.csv"),
        ("ferplus", "fer2013new.csv"),
        ("dfew", "EmoLabel_DataSplit/test(single-labeled)/set_1.csv"),
        ("mafw", "Train & Test Set/single/no_caption/set_1/test.txt"),
        ("ferv39k", "4_setups/All_scenes/test_All.csv"),
        ("cremad", "SentenceFilenames.csv"),
        ("maadface", "MAAD_Face.csv"),
        ("lfwa", "lfw_attributes.txt"),
    ],
)
def test_duplicated_row_is_counted_once(name: str, file: str, tmp_path: Path) -> None:
    clean = read(name, made(name, tmp_path))
    lines = (tmp_path / file).read_text().splitlines()
    (tmp_path / file).write_text("\n".join([*lines, lines[-2]]) + "\n")
    found = read(name, tmp_path)
    assert found.images.tolist() == clean.images.tolist() and found.skipped == {"listed twice": 1}
    assert f"{Path(file).name}, line {len(lines) + 1}: " in found.problems[0]
    assert f"{Path(file).name}, line {len(lines) - 1}" in found.problems[0]


def test_a_clip_in_two_splits_stays_in_the_first(tmp_path: Path) -> None:
    clean = read("ferv39k", made("ferv39k", tmp_path))
    folder = tmp_path / "4_setups" / "All_scenes"
    first = (folder / "train_All.csv").read_text().splitlines()[0]
    with open(folder / "test_All.csv", "a") as stream:
        stream.write(first + "\n")
    found = read("ferv39k", tmp_path)
    assert found.skipped == {"listed twice": 1} and np.array_equal(found.split, clean.split)
    assert "test_All.csv, line 9" in found.problems[0] and "train_All.csv, line 1" in found.problems[0]


def test_lines_are_right_behind_ragged_and_empty_ones(tmp_path: Path) -> None:
    path = made("fairface", tmp_path) / "fairface_label_train.csv"
    lines = path.read_text().splitlines()
    lines[3], lines[5], lines[9] = "", "a,b", lines[9].replace("ale", "al")
    path.write_text("\r\n".join(lines) + "\r\n\r\n")
    found = read("fairface", tmp_path)
    assert found.skipped == {"wrong number of columns": 1, "bad image name": 1, "unknown gender": 1}
    said = "\n".join(found.problems)
    assert all(f"train.csv, line {n}:" in said for n in (4, 6, 10)) and len(found) == 37


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    clean = read("fairface", made("fairface", tmp_path))
    for split in ("train", "val"):
        path = tmp_path / f"fairface_label_{split}.csv"
        rows = [line.split(",") for line in path.read_text().splitlines()]
        quoted = [",".join(f'"{row[i]}"' for i in (3, 1, 4, 0, 2)) for row in rows]
        path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(quoted).encode())
    found = read("fairface", tmp_path)
    assert found.images.tolist() == clean.images.tolist()
    assert all(np.array_equal(found.labels[c], clean.labels[c]) for c in clean.labels)
    edit(tmp_path / "fairface_label_val.csv", 1, "gender", "gendr")
    with pytest.raises(FaceDataError, match=r"val\.csv, line 1: .*no column 'gender'; did you mean 'gendr'\?"):
        read("fairface", tmp_path)


def test_no_row_with_all_columns_is_an_error(tmp_path: Path) -> None:
    path = made("fairface", tmp_path) / "fairface_label_val.csv"
    path.write_text(path.read_text().splitlines()[0] + "\nval/1.jpg,3-9\nval/2.jpg,0-2\n")
    with pytest.raises(FaceDataError, match=r"val\.csv: no row has 5 columns; line 2 has 2"):
        read("fairface", tmp_path)
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(FaceDataError, match=r"val\.csv: the file has no rows"):
        read("fairface", tmp_path)


def test_no_usable_row_is_an_error(tmp_path: Path) -> None:
    path = made("ferplus", tmp_path) / "fer2013new.csv"
    path.write_text(path.read_text().replace("Training", "T").replace("PublicTest", "P").replace("PrivateTest", "V"))
    with pytest.raises(FaceDataError, match=r"fer2013new\.csv: no usable row .*36 unknown Usage.*line 2"):
        read("ferplus", tmp_path)


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


def test_maps_are_found_by_the_images_ids(tmp_path: Path) -> None:
    truth = SAMPLES["rafdb"](tmp_path, np.random.default_rng(1))
    stem = Path(truth.images[4]).stem
    touch(tmp_path, [f"maps/{stem}.png"])
    found = read("rafdb", tmp_path, maps=tmp_path / "maps")
    assert found.maps is not None and found.maps[4] == f"maps/{stem}.png" and (found.maps != "").sum() == 1
    with pytest.raises(FaceDataError, match="no such folder"):
        read("rafdb", tmp_path, maps=tmp_path / "nowhere")


def test_hash_split_is_fixed_and_has_the_shares() -> None:
    keys = np.array([f"person {i}" for i in range(20_000)])
    split = hash_split(keys)
    assert np.allclose(np.bincount(split) / len(keys), (0.8, 0.1, 0.1), atol=0.01)
    assert hash_split(keys[:8]).tolist() == split[:8].tolist() == [0, 0, 1, 2, 0, 0, 0, 0]
    assert np.array_equal(hash_split(keys[::-1]), split[::-1])
    assert hash_split(keys[:0]).shape == (0,)


def test_small_helpers() -> None:
    ages = np.array([0, 2.9, 3, 19, 20, 69.5, 70, 116, np.nan])
    expected = ["0-2", "0-2", "3-9", "10-19", "20-29", "60-69", "more than 70", "more than 70"]
    assert [AGE_BINS[i] for i in age_groups(ages)[:-1]] == expected and age_groups(ages)[-1] == -1
    assert numbered(np.array(["b", "", "a", "b"])).tolist() == [1, -1, 0, 1]
    assert numbered(np.array(["b", "a"])).tolist() == [1, 0]
