"""Every data set from its published layout to a manifest: rows, labels, splits, zips, missing images."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from dataset_samples import SAMPLES
from sample_parts import Truth

from llava_face_plugin.data.datasets import DATASETS, ReadOptions
from llava_face_plugin.data.manifest import Manifest
from llava_face_plugin.errors import FaceDataError, FaceHostError

AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
VIDEO = ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")
CLASSES = {
    "affectnet": {"expression": ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")},
    "affectnet7": {"expression": ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger")},
    "celebvhq": {"expression": ("neutral", "anger", "contempt", "disgust", "happy", "fear", "sadness", "surprise")},
    "cremad": {
        "expression": ("anger", "disgust", "fear", "happy", "neutral", "sad"), "gender": ("Male", "Female"),
        "race": ("African American", "Asian", "Caucasian"), "age_group": AGES,
    },
    "dfew": {"expression": VIDEO},
    "fairface": {
        "age_group": AGES, "gender": ("Male", "Female"),
        "race": (
            "White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern",
        ),
    },
    "fer2013": {"expression": ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")},
    "ferplus": {
        "expression": ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
    },
    "ferv39k": {"expression": VIDEO},
    "lfw_attributes": {},
    "lfwa": {},
    "maadface": {},
    "mafw": {
        "expression": (
            "anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise", "contempt", "anxiety",
            "helplessness", "disappointment",
        ),
    },
    "rafdb": {
        "expression": ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"),
        "gender": ("male", "female"), "race": ("Caucasian", "African-American", "Asian"),
        "age_group": ("0-3", "4-19", "20-39", "40-69", "70+"),
    },
    "utkface": {
        "gender": ("male", "female"), "race": ("White", "Black", "Asian", "Indian", "Others"), "age_group": AGES,
    },
}  # fmt: skip
"""The order of every closed set: changing one changes the meaning of stored manifests."""

NAMES = sorted(SAMPLES)
WIDTHS = {"maadface": 47, "lfw_attributes": 73, "lfwa": 40, "celebvhq": 83}


def sample(name: str, root: Path, seed: int = 0) -> Truth:
    root.mkdir(parents=True, exist_ok=True)
    return SAMPLES[name](root, np.random.default_rng([seed, len(name)]))


def read(name: str, root: Path, **options: object) -> Manifest:
    return DATASETS[name].read(root, ReadOptions(**options))  # type: ignore[arg-type]


def words(manifest: Manifest, column: str) -> list[str]:
    values = (*manifest.classes[column], "")
    return [values[int(code)] for code in manifest.labels[column]]


def test_every_data_set_is_sampled_and_told() -> None:
    assert set(SAMPLES) == set(CLASSES) and set(SAMPLES) <= set(DATASETS)
    for name in SAMPLES:
        info = DATASETS[name]
        assert info.name == name and info.title and info.licence and info.layout
        assert any(year in info.citation for year in map(str, range(2005, 2027)))


@pytest.mark.parametrize("name", NAMES)
def test_sample_is_read(name: str, tmp_path: Path) -> None:
    truth = sample(name, tmp_path)
    found = read(name, tmp_path)
    assert found.dataset == name and found.images.tolist() == truth.images
    assert found.present is not None and found.present.all() and found.present.dtype == bool
    assert found.split.dtype == np.int8 and set(found.split.tolist()) <= {0, 1, 2}
    assert truth.split is None or found.split.tolist() == truth.split
    assert not found.skipped and not found.problems
    assert found.classes == CLASSES[name] and set(found.labels) == set(truth.labels)
    for column, expected in truth.labels.items():
        assert found.labels[column].dtype == np.int16 and words(found, column) == expected
    assert len(found.vocabulary) == len(set(found.vocabulary)) == WIDTHS.get(name, 0)
    assert found.attributes.dtype == np.int8 and found.attributes.shape == (len(found), len(found.vocabulary))
    if truth.attributes is not None:
        assert np.array_equal(found.attributes, truth.attributes)
    assert (found.age is None) == (truth.age is None)
    if truth.age is not None and found.age is not None:
        assert found.age.dtype == np.float32 and found.age.tolist() == truth.age
    assert all(g in found.labels or g in found.vocabulary for g in found.groups)
    assert len(found.sources) >= len(truth.annotations)
    assert all(len(str(s["sha256"])) == 64 for s in found.sources)


@pytest.mark.parametrize("name", NAMES)
def test_people_are_in_one_split(name: str, tmp_path: Path) -> None:
    truth = sample(name, tmp_path)
    found = read(name, tmp_path)
    if truth.people is None:
        assert found.identity is None
        return
    assert found.identity is not None and found.identity.dtype == np.int64 and found.identity.min() >= 0
    assert len(set(zip(truth.people, found.identity.tolist(), strict=True))) == len(set(truth.people))
    for person in np.unique(found.identity):
        assert len(set(found.split[found.identity == person].tolist())) == 1


@pytest.mark.parametrize("name", NAMES)
def test_zipped_is_the_same_as_plain(name: str, tmp_path: Path) -> None:
    truth = sample(name, tmp_path)
    plain = read(name, tmp_path, look_for_images=False)
    assert plain.present is None
    if truth.annotations:
        for file in map(Path, truth.annotations):
            with zipfile.ZipFile((tmp_path / file).with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
                archive.write(tmp_path / file, f"folder/{file.name}")
            (tmp_path / file).unlink()
        zipped = read(name, tmp_path, look_for_images=False)
        with_images = read(name, tmp_path)
        assert with_images.images.tolist() == truth.images
    else:  # the labels are in the names
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            for image in truth.images:
                archive.writestr(image, b"")
        zipped = read(name, tmp_path, look_for_images=False, labels=tmp_path / "all.zip")
    assert zipped.images.tolist() == plain.images.tolist() and np.array_equal(zipped.split, plain.split)
    assert np.array_equal(zipped.attributes, plain.attributes)
    assert all(np.array_equal(zipped.labels[c], plain.labels[c]) for c in plain.labels)


def test_labels_can_be_one_zip_of_several_files_or_one_file(tmp_path: Path) -> None:
    sample("fairface", tmp_path)
    plain = read("fairface", tmp_path)
    files = [tmp_path / f"fairface_label_{s}.csv" for s in ("train", "val")]
    with zipfile.ZipFile(tmp_path / "labels.zip", "w") as archive:
        for file in files:
            archive.write(file, file.name)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / files[1].name).write_bytes(files[1].read_bytes())
    for file in files:
        file.unlink()
    both = read("fairface", tmp_path, labels=tmp_path / "labels.zip")
    assert both.images.tolist() == plain.images.tolist() and np.array_equal(both.split, plain.split)
    for given in (tmp_path / "elsewhere", tmp_path / "elsewhere" / files[1].name):
        val = read("fairface", tmp_path, labels=given)
        assert val.images.tolist() == plain.images[30:].tolist() and set(val.split.tolist()) == {1}
        assert any("fairface_label_train.csv is not there" in note for note in val.notes)
    with pytest.raises(FaceDataError, match=r"all\.csv: expected fairface_label_train\.csv or"):
        (tmp_path / "all.csv").touch()
        read("fairface", tmp_path, labels=tmp_path / "all.csv")


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("utkface", "fer2013")])
def test_missing_images_are_counted(name: str, tmp_path: Path) -> None:
    truth = sample(name, tmp_path)
    gone = truth.images[3:7]
    for image in gone:
        shutil.rmtree((tmp_path / image).parent) if name in VIDEO_SETS else (tmp_path / image).unlink()
    found = read(name, tmp_path)
    assert len(found) == len(truth.images) and found.present is not None
    assert np.flatnonzero(~found.present).tolist() == [3, 4, 5, 6]
    assert any(note.startswith(f"4 of {len(found)} image files are not there") for note in found.notes)
    for image in truth.images:
        shutil.rmtree((tmp_path / image).parents[len(Path(image).parents) - 2], ignore_errors=True)
    if all((tmp_path / file).exists() for file in truth.annotations):
        with pytest.raises(FaceDataError, match=r"none of the \d+ images"):
            read(name, tmp_path)
    assert len(read(name, tmp_path, look_for_images=False)) == len(found)


VIDEO_SETS = ("celebvhq", "cremad", "dfew", "ferv39k", "mafw")


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("utkface", "fer2013")])
def test_images_may_lie_elsewhere(name: str, tmp_path: Path) -> None:
    """``options.images`` stands for the folder that the images' names begin with; outside the root: absolute."""
    root, other = tmp_path / "root", tmp_path / "other"
    truth = sample(name, root)
    prefix = read(name, root).images[0]
    top = {"affectnet": 1, "affectnet7": 1, "celebvhq": 2, "cremad": 1, "dfew": 2, "ferv39k": 1, "lfw_attributes": 1,
           "lfwa": 1, "mafw": 2, "rafdb": 2}.get(name, 0)  # fmt: skip
    parts = str(prefix).split("/")[:top]
    if top:
        (root / "/".join(parts)).rename(other)
    else:
        for folder in {i.split("/")[0] for i in truth.images}:
            other.mkdir(exist_ok=True)
            (root / folder).rename(other / folder)
    found = read(name, root, images=other)
    assert found.present is not None and found.present.all()
    assert [str(i) for i in found.images] == [f"{other}/" + "/".join(i.split("/")[top:]) for i in truth.images]
    with pytest.raises(FaceDataError, match="no such folder"):
        read(name, root, images=tmp_path / "nowhere")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_there_is_one_clear_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(FaceDataError, match=str(tmp_path)) as caught:
        read(name, tmp_path)
    assert "\n" not in str(caught.value)
    truth = sample(name, tmp_path / "full")
    for file in truth.annotations:
        if file == "VideoDemographics.csv":
            continue
        kept = (tmp_path / "full" / file).read_bytes()
        (tmp_path / "full" / file).write_bytes(b"")
        with pytest.raises(FaceDataError, match=Path(file).name):
            read(name, tmp_path / "full", look_for_images=False)
        (tmp_path / "full" / file).write_bytes(kept)


def test_needs_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample("fairface", tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(FaceHostError, match=r"needs pyarrow: .*\[maps\]"):
        read("fairface", tmp_path)
