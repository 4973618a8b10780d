"""500 broken versions of each file format: one ``FaceDataError``, or a manifest that explains what is missing."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from core_corruptions import corrupted

from llava_face_plugin.data.celeba_files import DUPLICATE, read_mapping
from llava_face_plugin.data.datasets import ReadOptions, celebamask_hq, llava_json
from llava_face_plugin.data.datasets.celeba import read as read_celeba
from llava_face_plugin.data.manifest import Manifest
from llava_face_plugin.data.manifest_file import load_manifest, save_manifest
from llava_face_plugin.errors import FaceDataError

N = 500


def broken(path: Path, read: Callable[[], None], where: Path | None = None) -> Counter[str]:
    """Runs ``read`` on ``N`` broken versions of ``path``: how many were read, and how many refused."""
    good, outcomes = path.read_bytes(), Counter[str]()
    for seed in range(N):
        how, data = corrupted(good, seed)
        path.write_bytes(data)
        try:
            read()
            outcomes["read"] += 1
        except FaceDataError as error:
            outcomes["refused"] += 1
            assert str(where or path.parent) in str(error) and "\n" not in str(error), (seed, how, str(error))
        except Exception as error:
            raise AssertionError(f"corruption {seed} ({how}): {type(error).__name__}: {error}") from error
    path.write_bytes(good)
    read()
    return outcomes


@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "list_eval_partition.txt", "identity_CelebA.txt"])
def test_celeba(celeba: Path, name: str) -> None:
    def read() -> None:
        manifest = read_celeba(celeba, ReadOptions())
        assert len(manifest) == 24 and not set(manifest.skipped) - {DUPLICATE}
        assert len(manifest.problems) == manifest.skipped.total() < 6
        manifest.check("manifest")

    outcomes = broken(celeba / name, read)
    assert outcomes["refused"] > 250 and outcomes["read"] > 30  # some are harmless: line ends, equal rows


def test_zipped_celeba(celeba: Path) -> None:
    path = celeba / "list_eval_partition.txt"
    with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, path.name)
    path.unlink()

    def read() -> None:
        assert len(read_celeba(celeba, ReadOptions())) == 24

    assert broken(path.with_suffix(".zip"), read)["refused"] > 400


@pytest.mark.parametrize("name", [celebamask_hq.ATTRIBUTES, celebamask_hq.MAPPING])
def test_celebamask_hq(hq: Path, tmp_path: Path, name: str) -> None:
    (hq / celebamask_hq.MAPPING).write_text("idx orig_idx orig_file\n0 4 000005.jpg\n1 8 000009.jpg\n2 1 000002.jpg\n")
    (hq / "list_eval_partition.txt").write_text("000002.jpg 2\n000005.jpg 1\n000009.jpg 0\n")

    def read() -> None:
        manifest = celebamask_hq.read(hq, ReadOptions(workers=1))
        assert len(manifest) + manifest.skipped["no image file"] + manifest.skipped["no part mask"] == 3
        manifest.check("manifest")

    outcomes = broken(hq / name, read)
    assert outcomes["refused"] > 250
    assert len(read_mapping(hq / celebamask_hq.MAPPING)) == 3


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_llava_json(tmp_path: Path, suffix: str) -> None:
    samples = [
        {"id": str(i), "image": f"{i}.jpg", "face_attributes": {"Bald": i % 2}, "conversations": [
            {"from": "human", "value": "<image>\nWho?"}, {"from": "gpt", "value": "Nobody."}]} for i in range(8)
    ]  # fmt: skip
    path = tmp_path / f"data{suffix}"
    lines = map(json.dumps, samples)
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n" if suffix == ".json" else "\n".join(lines) + "\n")
    for i in range(8):
        (tmp_path / f"{i}.jpg").touch()

    def read() -> None:
        manifest = llava_json.read(tmp_path, ReadOptions())
        usable = list(llava_json.rows(tmp_path, ReadOptions()))
        text = path.read_bytes().decode("utf-8-sig")
        try:
            content = json.loads(text)
            total = len(content) if isinstance(content, list) else 1
        except ValueError:
            total = sum(bool(line.strip()) for line in text.split("\n"))
        assert len(usable) + manifest.skipped.total() == total
        assert {row for row, _ in usable} - {-1} == set(range(len(manifest)))
        assert len(manifest.problems) == manifest.skipped.total() or manifest.skipped.total() > 5
        manifest.check("manifest")

    outcomes = broken(path, read)
    assert outcomes["refused"] > 100 and (suffix == ".json" or outcomes["read"] > 200)


def small_manifest() -> Manifest:
    rng = np.random.default_rng(0)
    return Manifest(
        "test", np.array([f"a/{i}.jpg" for i in range(50)]), rng.integers(0, 3, 50).astype(np.int8), ("Bald", "Young"),
        rng.integers(-1, 2, (50, 2)).astype(np.int8), {"expression": ("sad", "happy")},
        {"expression": rng.integers(-1, 2, 50).astype(np.int16)}, identity=rng.integers(-1, 9, 50),
        age=rng.random(50).astype(np.float32), present=rng.random(50) < 0.5,
    )  # fmt: skip


def test_manifest_bytes(tmp_path: Path) -> None:
    """A manifest that is read in spite of a broken byte is the one that was written."""
    path, manifest = tmp_path / "manifest.parquet", small_manifest()
    save_manifest(manifest, path)

    def read() -> None:
        found = load_manifest(path)
        for name in ("ids", "images", "split", "attributes", "identity", "present", "age"):
            assert np.array_equal(getattr(found, name), getattr(manifest, name), equal_nan=name == "age")
        assert np.array_equal(found.labels["expression"], manifest.labels["expression"])

    assert broken(path, read)["refused"] > 300


def test_manifest_tables(tmp_path: Path) -> None:
    """Whole parquet files with other columns, types, values and headers than a manifest has."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "manifest.parquet"
    save_manifest(small_manifest(), path)
    table, outcomes = pq.read_table(path), Counter[str]()
    header = json.loads(table.schema.metadata[b"face_manifest"])
    values = [None, "x", 7, -3, 1.5, b"\xff", True, [1], "train"]
    for seed in range(N):
        rng = random.Random(seed)
        changed, at = table, rng.randrange(table.num_columns)
        name = table.column_names[at]
        how = seed % 5
        if how == 0:
            changed = table.remove_column(at)
        elif how == 1:
            changed = table.set_column(at, name, pa.array([rng.choice(values)] * 50))
        elif how == 2:
            column = table.column(at).to_pylist()
            column[rng.randrange(50)] = column[0]
            changed = table.set_column(at, name, pa.array(column, table.column(at).type))
        elif how == 3:
            key = rng.choice(list(header))
            new = {**header, key: rng.choice([None, 3, "x", [], {}, ["x", "x"], {"a": 1}, [1], {"x": ["y", 3]}])}
            changed = table.replace_schema_metadata({b"face_manifest": json.dumps(new).encode()})
        else:
            changed = table.append_column(rng.choice(["extra", name]), pa.array(range(50)))
        buffer = io.BytesIO()
        pq.write_table(changed, buffer)
        path.write_bytes(buffer.getvalue())
        try:
            found = load_manifest(path)
            assert len(found) == 50
            outcomes["read"] += 1
        except FaceDataError as error:
            assert str(path) in str(error), error
            outcomes["refused"] += 1
        except Exception as error:
            raise AssertionError(f"table {seed} ({how}, {name}): {type(error).__name__}: {error}") from error
    assert outcomes["refused"] > 300
