"""Bad rows are counted by reason and named with file and line; what is left is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_samples import SAMPLES
from sample_parts import edit, read, touch

from llava_face_plugin.data.datasets._rows import AGE_BINS, age_groups, hash_split, numbered
from llava_face_plugin.errors import FaceDataError


def made(name: str, root: Path) -> Path:
    SAMPLES[name](root, np.random.default_rng(5))
    return root


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
    ("lfw_attributes", "lfw_attributes.txt", 7, r"[^\t]+$", "high", "unknown value", "a score is no number"),
    ("lfw_attributes", "lfw_attributes.txt", 7, r"\t\d\t", "\tone\t", "bad image number", "imagenum 'one'"),
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
        ("lfw_attributes", "lfw_attributes.txt"),
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
