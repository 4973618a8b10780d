"""Rows that contradict each other, emotions that are none, and what is said where images are missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_samples import SAMPLES

from llava_face_plugin.data.datasets import DATASETS, ReadOptions
from llava_face_plugin.data.datasets._rows import numbered
from llava_face_plugin.data.label_table import exactly_one, label_prompts, label_table
from llava_face_plugin.data.manifest import Manifest
from llava_face_plugin.errors import FaceDataError

LABELS_ONLY = ReadOptions(look_for_images=False)


def made(name: str, root: Path) -> Manifest:
    SAMPLES[name](root, np.random.default_rng(5))
    return DATASETS[name].read(root, LABELS_ONLY)


@pytest.mark.parametrize(
    ("name", "file"),
    [("fairface", "fairface_label_train.csv"), ("maadface", "MAAD_Face.csv"), ("dfew", "")],
)
def test_an_image_with_two_labels_is_left_out(name: str, file: str, tmp_path: Path) -> None:
    clean = made(name, tmp_path)
    path = tmp_path / (file or "EmoLabel_DataSplit/train(single-labeled)/set_1.csv")
    lines = path.read_text().splitlines()
    last = lines[-1].split(",")
    # The same image with the labels of others: one of them is unlike.
    unlike = next(
        cells for line in lines[1:] if (cells := line.split(","))[2 if file else 1 :] != last[2 if file else 1 :]
    )
    again = [*last[: 2 if name == "maadface" else 1], *unlike[2 if name == "maadface" else 1 :]]
    path.write_text("\n".join([*lines, ",".join(again), lines[-2]]) + "\n")
    found = DATASETS[name].read(tmp_path, LABELS_ONLY)
    assert found.skipped == {"listed twice, with other labels": 2, "listed twice": 1}
    gone = set(clean.images.tolist()) - set(found.images.tolist())
    assert len(found) == len(clean) - 1 and len(gone) == 1
    said = [p for p in found.problems if p.endswith("with other labels")]
    assert len(said) == 1 and f"line {len(lines) + 1}: {gone.pop()} was already in " in said[0]
    assert f"line {len(lines)}, with" in said[0]


@pytest.mark.parametrize("labels", [{}, [], [{"emotion": ["happy"]}], [{}], ["happy"], None, 3, [["happy"]]])
def test_emotions_that_are_none_are_bad_rows(labels: Any, tmp_path: Path) -> None:
    clean = made("celebvhq", tmp_path)
    path = tmp_path / "celebvhq_info.json"
    data = json.loads(path.read_text())
    next(iter(data["clips"].values()))["attributes"]["emotion"]["labels"] = labels
    path.write_text(json.dumps(data))
    found = DATASETS["celebvhq"].read(tmp_path, LABELS_ONLY)
    assert found.skipped == {"unknown emotion": 1} and len(found) == len(clean) - 1


def test_a_file_without_clips_is_an_error(tmp_path: Path) -> None:
    made("celebvhq", tmp_path)
    path = tmp_path / "celebvhq_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"clips": {}}))
    with pytest.raises(FaceDataError, match="no usable row"):
        DATASETS["celebvhq"].read(tmp_path, LABELS_ONLY)
    assert numbered(np.zeros(0, dtype=np.str_)).shape == (0,)


def test_emotions_are_known_once(tmp_path: Path) -> None:
    """They are attributes and, where a clip has one only, a closed set to choose from: knowledge has the attributes."""
    manifest = made("celebvhq", tmp_path)
    names, values = label_table(manifest)
    assert names == manifest.vocabulary and values.shape == (len(manifest), 83)
    assert not exactly_one(manifest) and not label_prompts(manifest) and manifest.classes["expression"]
    assert "expression:happiness" in label_table(made("ferplus", tmp_path / "other"))[0]


def test_manual_labels_of_an_image_that_is_listed_twice(tmp_path: Path) -> None:
    clean = made("rafdb", tmp_path)
    path = tmp_path / "EmoLabel" / "list_patition_label.txt"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    found = DATASETS["rafdb"].read(tmp_path, LABELS_ONLY)
    assert found.skipped == {"listed twice": 1}
    assert all(np.array_equal(found.labels[c], clean.labels[c]) for c in clean.labels)


def test_the_hint_comes_first_where_no_image_is_there(tmp_path: Path) -> None:
    made("ferplus", tmp_path)
    for image in tmp_path.rglob("*.png"):
        image.rename(tmp_path / "gone")
    for folder in [p for p in tmp_path.iterdir() if p.is_dir()]:
        folder.rmdir()
    path = tmp_path / "fer2013new.csv"
    lines = path.read_text().splitlines()
    lines[1] = lines[1].rpartition("png,")[0] + "png,7,0,0,0,0,0,0,0,0,0"  # fewer votes than usual: noted
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(FaceDataError, match=r"so on\); LLaVA reads image files: .*generate_training_data"):
        DATASETS["ferplus"].read(tmp_path, ReadOptions())
