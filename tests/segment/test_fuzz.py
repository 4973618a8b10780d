"""Malformed files by the hundred: each is counted with a reason, and none stops the run."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from fuzz_images import FORMATS, REASONS, good, write_malformed
from stand_in_parser import run

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.maps.files import image_size, open_image
from llava_face_plugin.maps.store import MapStore

REASONS_ALLOWED = {"empty", "format", "damaged", "too-large"}


def test_500_malformed_files_and_20_good_ones(tmp_path: Path) -> None:
    kinds = write_malformed(tmp_path / "in", 500)
    for i in range(20):
        (tmp_path / f"in/good-{i}.jpg").write_bytes(good(Random(i)))
    summary = run(tmp_path / "in", tmp_path / "store")
    rows = {row.image: row for row in MapStore.open(tmp_path / "store").rows()}
    assert set(rows) == {*kinds, *(f"good-{i}.jpg" for i in range(20))}
    assert [rows[f"good-{i}.jpg"].status for i in range(20)] == ["ok"] * 20
    assert summary.images == 520 and summary.done == 520
    for name, kind in kinds.items():
        row = rows[name]
        if kind in REASONS:
            assert row.status == "failed" and row.reason in REASONS[kind], (row, kind)
        elif kind == "exif":
            assert row.status == "ok", row
        if row.status == "failed":
            assert row.reason in REASONS_ALLOWED and name in row.message, row
            assert len(row.message) < 400


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_what_training_reads_is_what_segment_reads(tmp_path: Path) -> None:
    """No picture that has a map is refused when it is trained on, and damage is never more than a FaceDataError."""
    write_malformed(tmp_path / "in", 250)
    for suffix, form in FORMATS.items():
        (tmp_path / f"in/good{suffix}").write_bytes(good(Random(0), form))
    run(tmp_path / "in", tmp_path / "store")
    read = 0
    for row in MapStore.open(tmp_path / "store").rows():
        path = tmp_path / "in" / row.image
        if row.status == "failed":
            try:
                open_image(path)
            except FaceDataError:
                continue
        assert image_size(path) == open_image(path).size
        if row.status != "failed":
            assert image_size(path) == (row.width, row.height)
            read += 1
    assert read > 10


def test_the_generator_is_deterministic(tmp_path: Path) -> None:
    write_malformed(tmp_path / "a", 60, seed=5)
    write_malformed(tmp_path / "b", 60, seed=5)
    files = [sorted((p.relative_to(tmp_path / x), p.read_bytes()) for p in (tmp_path / x).rglob("*.*")) for x in "ab"]
    assert files[0] == files[1]
