"""The readers on the real label files, where FACE_TEST_DATA names them, and on files of the published size."""

from __future__ import annotations

import csv
import io
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from llava_face_plugin.data.datasets import DATASETS, ReadOptions
from llava_face_plugin.data.datasets.maadface import ATTRIBUTES
from llava_face_plugin.data.manifest import Manifest

LABELS_ONLY = ReadOptions(look_for_images=False)


def place(real_faces: Path, name: str) -> Path:
    folder = real_faces / name
    if not folder.is_dir():
        pytest.skip(f"FACE_TEST_DATA has no {name}/")
    return folder


def counts(manifest: Manifest, column: str, split: int) -> dict[str, int]:
    of = np.bincount(manifest.labels[column][manifest.split == split], minlength=len(manifest.classes[column]))
    return dict(zip(manifest.classes[column], of.tolist(), strict=True))


def test_fairface(real_faces: Path) -> None:
    root = place(real_faces, "fairface")
    DATASETS["fairface"].read(root, LABELS_ONLY)  # pyarrow's import is not measured
    start = time.process_time()
    found = DATASETS["fairface"].read(root, ReadOptions())
    assert time.process_time() - start < 3  # of CPU; about 0.6 s measured
    found.check("fairface")
    assert np.bincount(found.split).tolist() == [86_744, 10_954] and not found.skipped and not found.problems
    assert found.present is not None
    assert [int(found.present[found.split == s].sum()) for s in (0, 1)] == [8_000, 1_000]
    assert found.images[found.present].tolist() == [
        *(f"train/{i}.jpg" for i in range(1, 8_001)), *(f"val/{i}.jpg" for i in range(1, 1_001))
    ]  # fmt: skip
    for split, name in enumerate(("train", "val")):
        with zipfile.ZipFile(root / f"fairface_label_{name}.zip") as archive:
            rows = list(csv.DictReader(io.TextIOWrapper(archive.open(f"fairface_label_{name}.csv"))))
        for column, file_column in (("age_group", "age"), ("gender", "gender"), ("race", "race")):
            assert counts(found, column, split) == Counter(r[file_column] for r in rows)


def test_rafdb(real_faces: Path) -> None:
    found = DATASETS["rafdb"].read(place(real_faces, "rafdb"), LABELS_ONLY)
    found.check("rafdb")
    assert len(found) == 15_339 and np.bincount(found.split).tolist() == [12_271, 0, 3_068]
    assert not found.skipped and not found.notes
    words = ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]
    published = {0: [1290, 281, 717, 4772, 1982, 705, 2524], 2: [329, 74, 160, 1185, 478, 162, 680]}
    for split, of in published.items():
        assert counts(found, "expression", split) == dict(zip(words, of, strict=True))
    assert found.images[0] == "Image/aligned/train_00001_aligned.jpg"


def test_ferplus(real_faces: Path) -> None:
    root = place(real_faces, "ferplus")
    found = DATASETS["ferplus"].read(root, LABELS_ONLY)
    found.check("ferplus")
    with open(root / "fer2013new.csv") as stream:
        head, *rows = list(csv.reader(stream))
    assert len(rows) == 35_887 and found.sources[0]["rows"] == 35_887
    seen: set[str] = set()
    expected: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for row in rows:
        votes = list(map(int, row[2:]))
        best = [n for n, v in zip(head[2:], votes, strict=True) if v == max(votes)]
        if not row[1]:
            reasons["no image name"] += 1
        elif len(best) > 1:
            reasons["tied votes"] += 1
        elif best[0] in ("unknown", "NF"):
            reasons["no face" if best[0] == "NF" else "most votes unknown"] += 1
        elif row[1] in seen:
            reasons["listed twice"] += 1
        else:
            seen.add(row[1])
            expected[best[0]] += 1
    assert found.skipped == reasons and len(found) + sum(reasons.values()) == 35_887
    assert reasons["no image name"] == 173 and reasons["listed twice"] == 3
    assert sum((Counter(counts(found, "expression", s)) for s in (0, 1, 2)), Counter()) == expected
    assert [n for n in found.notes if "9 votes of 10 (1 such rows, used)" in n and "line 10437" in n]
    assert not [n for n in found.notes if "published" in n]  # the rows of every split are all there


def test_a_maadface_of_200_000_rows_is_read_in_seconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cells = np.array([b"-1,", b"0,", b"1,"])[rng.integers(0, 3, (2_000, len(ATTRIBUTES)))]
    ends = [b"".join(row).rstrip(b",") for row in cells]
    lines = [b"n%06d/%04d_01.jpg,%d,%s" % (i // 400, i % 400, i // 400, ends[i % 2_000]) for i in range(200_000)]
    head = ("Filename,Identity," + ",".join(ATTRIBUTES)).encode()
    (tmp_path / "MAAD_Face.csv").write_bytes(b"\n".join([head, *lines]))
    start = time.process_time()
    found = DATASETS["maadface"].read(tmp_path, LABELS_ONLY)
    assert time.process_time() - start < 8  # of CPU; about 1.6 s measured
    assert found.attributes.shape == (200_000, 47) and not found.skipped
    assert len(np.unique(found.identity)) == 500
