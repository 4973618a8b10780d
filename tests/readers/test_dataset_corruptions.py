"""Damaged annotation files, 500 of every format: each is one clear error, or rows left out that are explained."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_samples import SAMPLES, affectnet_folders
from mat_samples import run_forked
from sample_parts import touch

from llava_face_plugin.data.datasets import DATASETS, ReadOptions
from llava_face_plugin.data.manifest import Manifest
from llava_face_plugin.data.manifest_file import save_manifest
from llava_face_plugin.errors import FaceDataError

COUNT = 500
Clean = dict[str, tuple[Path, Manifest, tuple[str, ...]]]
"""Name -> where its files are, what they say, and which of them are damaged."""
Damage = Callable[[bytes, np.random.Generator], bytes]


def lines_of(data: bytes) -> list[bytes]:
    return data.split(b"\n")


def cut_off(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    found = bytearray(data)
    for at in rng.integers(0, len(data), int(rng.integers(1, 20))):
        found[at] = int(rng.integers(0, 256))
    return bytes(found)


def noise(data: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(1, 3000)))


def zeros(data: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(0, len(data)))
    return data[:at] + bytes(int(rng.integers(1, 600))) + data[at:]


def shuffled_cells(data: bytes, rng: np.random.Generator) -> bytes:
    rows = lines_of(data)
    at = int(rng.integers(0, len(rows)))
    cells = re.split(rb"([,\t ])", rows[at])
    rng.shuffle(cells)
    rows[at] = b"".join(cells)
    return b"\n".join(rows)


def without_a_cell(data: bytes, rng: np.random.Generator) -> bytes:
    rows = lines_of(data)
    for at in rng.integers(0, len(rows), 3):
        cells = re.split(rb"[,\t ]", rows[at])
        del cells[int(rng.integers(0, len(cells)))]
        rows[at] = b",".join(cells)
    return b"\n".join(rows)


def odd_values(data: bytes, rng: np.random.Generator) -> bytes:
    odd = [b"", b"-1", b"99999999999999999999", b"nan", b"1e400", "été \U0001f600".encode(), b'"', b"../x", b"\x00",
           b"None", b"2.5", b"[]", b"{}", b"\r"]  # fmt: skip
    rows = lines_of(data)
    for at in rng.integers(0, len(rows), 3):
        cells = re.split(rb"([,\t ])", rows[at])
        cells[int(rng.integers(0, len(cells)))] = odd[int(rng.integers(0, len(odd)))]
        rows[at] = b"".join(cells)
    return b"\n".join(rows)


def repeated_rows(data: bytes, rng: np.random.Generator) -> bytes:
    rows = lines_of(data)
    return b"\n".join(rows + [rows[i] for i in rng.integers(0, len(rows), 3)])


def swapped_rows(data: bytes, rng: np.random.Generator) -> bytes:
    rows = lines_of(data)
    return b"\n".join(rows[i] for i in rng.permutation(len(rows)))


def other_encoding(data: bytes, rng: np.random.Generator) -> bytes:
    return data.decode().encode(["utf-16", "utf-32", "cp037"][int(rng.integers(0, 3))])


def broken_zip(data: bytes, rng: np.random.Generator) -> bytes:
    return b"PK\x03\x04" + rng.bytes(200) + data


DAMAGES: tuple[Damage, ...] = (
    cut_off, flipped, noise, zeros, shuffled_cells, without_a_cell, odd_values, repeated_rows, swapped_rows,
    other_encoding, broken_zip,
)  # fmt: skip


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    found = {}
    for name, make in SAMPLES.items():
        root = tmp_path_factory.mktemp(name)
        truth = make(root, np.random.default_rng(7))
        files = truth.annotations
        if name == "rafdb":
            files += tuple(f"Annotation/manual/train_{i:05d}_manu_attri.txt" for i in range(1, 4))
        if files:
            found[name] = root, DATASETS[name].read(root, ReadOptions(look_for_images=False)), files
    root = tmp_path_factory.mktemp("affectnet_folders")
    affectnet_folders(root, np.random.default_rng(7))
    files = tuple(f"train_set/annotations/{i}_exp.npy" for i in range(5))
    found["affectnet/folders"] = root, DATASETS["affectnet"].read(root, ReadOptions(look_for_images=False)), files
    return found


FORMATS = [n for n in SAMPLES if n not in ("fer2013", "utkface")]  # these have no annotation files


@pytest.mark.parametrize("name", [*FORMATS, "affectnet/folders"])
def test_each_is_an_error_or_explained(name: str, clean: Clean, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava_face_plugin.data.mat.run_apart", run_forked)
    ends = {"error": 0, "skips": 0, "as clean": 0}
    root, expected, files = clean[name]
    for number in range(COUNT):
        rng = np.random.default_rng([11, number])
        path = root / files[int(rng.integers(0, len(files)))]
        damage = DAMAGES[number % len(DAMAGES)]
        kept = path.read_bytes()
        try:
            data = kept if damage is other_encoding and path.suffix in (".npy", ".mat") else damage(kept, rng)
            _put(path, data, zipped=number % 7 == 0 and name != "affectnet/folders" and "manual" not in str(path))
            ends[_outcome(name.split("/")[0], root, expected, path, f"{number} {name} {damage.__name__}")] += 1
        finally:
            path.with_suffix(".zip").unlink(missing_ok=True)
            path.write_bytes(kept)
    assert sum(ends.values()) == COUNT and ends["error"] + ends["skips"] > COUNT // 10, ends


JUNK = ({}, [], "", 0, 1.5, None, True, "happy", ["happy"], [{"emotion": ["happy"]}], {"emotion": {}}, [[]], "\ud800")


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values inside a JSON value."""
    yield at
    if isinstance(value, dict | list):
        for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value))[:60]:
            yield from places(inner, (*at, key))


@pytest.mark.parametrize("name", ["celebvhq", "llava_json"])
def test_json_of_another_structure(name: str, tmp_path: Path) -> None:
    """Any value of the file becomes one of another kind, or is left out."""
    if name == "celebvhq":
        SAMPLES[name](tmp_path, np.random.default_rng(7))
        path = tmp_path / "celebvhq_info.json"
    else:
        path = tmp_path / "data.json"
        turns = [{"from": "human", "value": "<image>\nWho?"}, {"from": "gpt", "value": "Nobody."}]
        more: dict[str, Any] = {"face_attributes": {"Bald": 1}, "face_map": "m.png", "conversations": turns}
        path.write_text(json.dumps([{"id": str(i), "image": f"{i}.jpg", **more} for i in range(4)]))
    clean = json.loads(path.read_text())
    # Few lists are in every clip, many values in every list: as often the one as the other.
    paths = [p for p in places(clean) if p]
    by_depth = [[p for p in paths if len(p) == n] for n in range(1, max(map(len, paths)) + 1)]
    for number in range(COUNT):
        rng = np.random.default_rng([12, number])
        data = json.loads(json.dumps(clean))
        among = by_depth[number % len(by_depth)]
        at, inner = among[int(rng.integers(len(among)))], data
        for key in at[:-1]:
            inner = inner[key]
        junk = JUNK[int(rng.integers(len(JUNK)))]
        if number % 5 == 0:
            del inner[at[-1]]
        else:
            inner[at[-1]] = junk
        path.write_text(json.dumps(data))
        try:
            DATASETS[name].read(tmp_path, ReadOptions(look_for_images=False)).check(f"{number} {at} {junk!r}")
        except FaceDataError as error:
            assert path.stem in str(error) and "\n" not in str(error), (at, junk, str(error))
        except Exception as error:
            raise AssertionError(f"{number} {at} {junk!r}: {type(error).__name__}: {error}") from error


def _put(path: Path, data: bytes, zipped: bool) -> None:
    if not zipped:
        path.write_bytes(data)
        return
    path.unlink()
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        archive.writestr(path.name, data)


def _outcome(name: str, root: Path, expected: Manifest, path: Path, what: str) -> str:
    try:
        found = DATASETS[name].read(root, ReadOptions(look_for_images=False))
    except FaceDataError as error:
        message = str(error)
        assert "\n" not in message and len(message) < 1500 and path.stem in message, (what, message)
        return "error"
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    found.check(what)
    assert len(found.problems) <= sum(found.skipped.values()) and bool(found.problems) == bool(found.skipped), what
    assert all(path.stem in problem for problem in found.problems), (what, found.problems)
    if len(found) < len(expected):  # lost rows are counted, or the file is shorter and the count differs
        assert found.skipped or any("differ" in n or "published" in n for n in found.notes), (what, found.notes)
    return "skips" if found.skipped else "as clean"


@pytest.mark.parametrize("name", ["utkface", "fer2013"])
def test_odd_file_names(name: str, tmp_path: Path) -> None:
    """The labels of these sets are in the names: whatever lies there is read or counted."""
    truth = SAMPLES[name](tmp_path, np.random.default_rng(3))
    rng, odd = np.random.default_rng(4), []
    for number in range(200):
        stem = bytearray(Path(truth.images[number % len(truth.images)]).name.encode())
        for at in rng.integers(0, len(stem) - 4, 3):
            stem[at] = int(rng.choice(list(b"_0123456789abcXYZ .-+\xe9$'\"")))
        folder = truth.images[0].rpartition("/")[0]
        odd.append(f"{folder}/{stem.decode('latin-1').strip().lstrip('.') or 'x'}")
    odd = sorted(set(odd) - set(truth.images))
    touch(tmp_path, odd)
    found = DATASETS[name].read(tmp_path, ReadOptions())
    found.check(name)
    assert len(found) + sum(found.skipped.values()) == len(truth.images) + sum(o.endswith(".jpg") for o in odd)
    assert set(truth.images) <= set(found.images.tolist())


def test_a_file_name_that_is_no_utf8(tmp_path: Path) -> None:
    truth = SAMPLES["utkface"](tmp_path, np.random.default_rng(3))
    try:
        (tmp_path / "UTKFace" / os.fsdecode(b"26_1_0_20170116184028385\xe9.jpg")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    found = DATASETS["utkface"].read(tmp_path, ReadOptions())
    found.check("utkface")
    assert found.images.tolist() == truth.images and found.skipped == {"bad image name": 1}
    save_manifest(found, tmp_path / "manifest.parquet")
    found.problems[0].encode()


def test_zips_that_are_none(tmp_path: Path) -> None:
    SAMPLES["fairface"](tmp_path, np.random.default_rng(0))
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "fairface_label_train.csv", "fairface_label_train.csv")
    data = whole.read_bytes()
    for number in range(60):
        rng = np.random.default_rng([2, number])
        given = tmp_path / "fairface_label_train.zip"
        given.write_bytes((cut_off, flipped, noise)[number % 3](data, rng))
        try:
            found = DATASETS["fairface"].read(tmp_path, ReadOptions(labels=given, look_for_images=False))
            found.check("zip")
        except FaceDataError as error:
            assert "fairface_label_train" in str(error)
    shutil.rmtree(tmp_path / "train")
