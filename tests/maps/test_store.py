"""Reading a map store: by name, by pixels, in other processes, and when it is damaged."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.maps import index, journal, shards
from llava_face_plugin.maps.journal import Journal
from llava_face_plugin.maps.pngs import encode_map, row_of
from llava_face_plugin.maps.rows import Row, clean_name, map_path
from llava_face_plugin.maps.store import MapStore, StoreInfo

Form = Literal["png", "parquet"]
both = pytest.mark.parametrize("form", ["png", "parquet"])
KEYS = [f"{i:064x}" for i in (1 << 200, 2 << 200, 3 << 200)]


def labels_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 19, (5, 7)).astype(np.uint8)


def make_store(path: Path, form: Form, n: int = 3, shard_rows: int = 1000) -> MapStore:
    """``n`` images with maps; then one without a face, one that failed."""
    path.mkdir()
    (path / "store.json").write_text(StoreInfo(form, "stand-in", "0" * 64).to_json())
    rows = [
        Row(f"a/{i}.jpg", "ok", "0" * 64, pixel_key=KEYS[i % 3], width=7, height=5, boxes=((0.5, 0.0, 7.0, 5.0),),
            scores=(0.5,), confidences=(1.0,), coverage=0.75, map=map_path(f"a/{i}.jpg") if form == "png" else "")
        for i in range(n)
    ]  # fmt: skip
    rows += [Row("n.jpg", "no-face", pixel_key="f" * 64), Row("é/f.jpg", "failed", reason="damaged", message="ü")]
    maps = [encode_map(labels_of(i), row) if row.status == "ok" else None for i, row in enumerate(rows)]
    if form == "parquet":
        (path / "shards").mkdir()
        for k, at in enumerate(range(0, len(rows), shard_rows)):
            part = slice(at, at + shard_rows)
            shards.write_shard(path / f"shards/1-of-1-{k:05d}.parquet", rows[part], maps[part])
        return MapStore.open(path)
    lines = Journal(path / "manifest/1-of-1.jsonl")
    for row, data in zip(rows, maps, strict=True):
        if data is not None:
            (path / row.map).parent.mkdir(parents=True, exist_ok=True)
            (path / row.map).write_bytes(data)
        lines.append(row.to_json())
    lines.close()
    return MapStore.open(path)


@both
def test_maps_rows_and_pixels(tmp_path: Path, form: Form) -> None:
    store = make_store(tmp_path / "store", form, n=200, shard_rows=90)
    for i in (0, 63, 64, 89, 90, 199):
        np.testing.assert_array_equal(store.get(f"a/{i}.jpg"), labels_of(i))
    np.testing.assert_array_equal(store.get("./a//x/../1.jpg"), labels_of(1))
    for name in ("n.jpg", "é/f.jpg", "unknown.jpg", "a", "", "../store.json", "/etc/passwd", "x" * 999, "a\0b"):
        assert store.get(name) is None
    row = store.row("a/3.jpg")
    assert row is not None and row.boxes == ((0.5, 0.0, 7.0, 5.0),) and row.coverage == 0.75
    failed = store.row("é/f.jpg")
    assert failed is not None and (failed.reason, failed.message) == ("damaged", "ü")
    assert store.row("unknown.jpg") is None
    assert len(store) == 202 == len(list(store.rows()))
    assert store.name_of(KEYS[0]) in {f"a/{i}.jpg" for i in range(0, 200, 3)}
    assert store.name_of("f" * 64) == "n.jpg"
    assert store.name_of("e" * 64) is None and store.name_of("") is None
    assert store.name_of(KEYS[0][:63] + "1") is None  # the same beginning is not enough


def test_a_png_store_finds_maps_without_its_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path / "store", "png")
    monkeypatch.setattr("llava_face_plugin.maps.store.Index", lambda path: pytest.fail("read the index"))
    np.testing.assert_array_equal(store.get("a/2.jpg"), labels_of(2))


@both
def test_a_name_with_the_same_hash_is_another_name(tmp_path: Path, form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path / "store", form, n=1)
    monkeypatch.setattr(index, "hash_name", lambda name: 7)
    assert len(store.index) == 1
    assert store.row("a/1.jpg") is None and store.get("a/1.jpg") is None


@both
def test_of_two_rows_of_an_image_the_later_one_counts(tmp_path: Path, form: Form) -> None:
    store = make_store(tmp_path / "store", form)
    # a name that comes earlier in the order of files must not make it older
    other = Journal(tmp_path / "store/manifest/1-of-0.jsonl")
    old = store.row("a/0.jpg")
    assert old is not None
    other.append(replace(old, status="failed", reason="format", written=5.0).to_json())
    other.append(replace(old, image="new.jpg", written=5.0).to_json())
    other.close()
    store = MapStore.open(tmp_path / "store")
    row = store.row("a/0.jpg")
    assert row is not None and row.reason == "format"
    assert len(store) == 6 and [r.image for r in store.rows()].count("a/0.jpg") == 1
    if form == "parquet":
        assert store.get("a/0.jpg") is None


@both
def test_of_equal_pixels_one_with_a_map_is_named(tmp_path: Path, form: Form) -> None:
    make_store(tmp_path / "store", form, n=1)
    more = Journal(tmp_path / "store/manifest/2-of-2.jsonl")
    for name in ("0.jpg", "1.jpg", "z.jpg"):
        more.append(Row(name, "no-face", pixel_key=KEYS[0]).to_json())
    more.close()
    assert MapStore.open(tmp_path / "store").name_of(KEYS[0]) == "a/0.jpg"


def _mean(store: MapStore, name: str, out: multiprocessing.SimpleQueue[float]) -> None:
    labels = store.get(name)
    assert labels is not None
    out.put(float(labels.mean()))


@both
def test_forked_processes_and_pickles(tmp_path: Path, form: Form) -> None:
    store = make_store(tmp_path / "store", form, n=8)
    store.get("a/0.jpg")  # files are open before the fork
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again.get("a/1.jpg"), labels_of(1))
    context = multiprocessing.get_context("fork")
    out: multiprocessing.SimpleQueue[float] = context.SimpleQueue()
    workers = [context.Process(target=_mean, args=(store, f"a/{i}.jpg", out)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0] * 8
    assert sorted(out.get() for _ in workers) == sorted(float(labels_of(i).mean()) for i in range(8))


def test_the_row_is_in_the_map(tmp_path: Path) -> None:
    make_store(tmp_path / "store", "png")
    row = row_of(tmp_path / "store/maps/a/1.jpg.png")
    assert row is not None and row.image == "a/1.jpg" and row.scores == (0.5,)
    assert row_of(tmp_path / "store/maps/a/none.png") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "no map store.*llava-face segment INPUT --out"),
        ("{", "cannot be read"),
        ('{"a": 1}', "another program's file"),
        ('{"kind": "llava-face map store", "version": 2}', "version 2, this release reads 1"),
        ('{"kind": "llava-face map store", "version": 1, "format": "zarr"}', "'format'"),
    ],
)
def test_what_is_no_store_is_refused(tmp_path: Path, text: str | None, told: str) -> None:
    if text is not None:
        (tmp_path / "store.json").write_text(text)
    with pytest.raises(FaceDataError, match=told):
        MapStore.open(tmp_path)
    with pytest.raises(FaceDataError, match="no such folder"):
        MapStore.open(tmp_path / "nowhere")


def test_damage_is_named(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", "png")
    path = tmp_path / "store/maps/a/0.jpg.png"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FaceDataError, match=r"face map of a/0\.jpg"):
        store.get("a/0.jpg")
    manifest = tmp_path / "store/manifest/1-of-1.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(lines[0] + b"{]\n" + b"".join(lines[1:]))
    with pytest.raises(FaceDataError, match=rf"1-of-1\.jsonl, byte {len(lines[0])}: not JSON"):
        len(store)
    manifest.write_bytes(b'{"image": "a", "status": "fine"}\n')
    with pytest.raises(FaceDataError, match="status 'fine'"):
        len(store)


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ('"pixel_key":"zz"', "pixel_key is 'zz'"),
        ('"sha256":5', "sha256 is '5'"),
        ('"bytes":"many"', "bytes is 'many'"),
        ('"mtime":null', "mtime is 'None'"),
        ('"boxes":[1]', "not a row of a map store"),
        ('"bytes":' + "9" * 30, "too large"),
        ('"png":"abc"', "its map is not base64"),
    ],
)
def test_fields_of_the_wrong_kind_are_named(tmp_path: Path, field: str, told: str) -> None:
    make_store(tmp_path / "store", "parquet")
    (tmp_path / "store/manifest").mkdir()
    (tmp_path / "store/manifest/1-of-1.jsonl").write_text(f'{{"image":"x.jpg","status":"ok",{field}}}\n')
    store = MapStore.open(tmp_path / "store")
    with pytest.raises(FaceDataError, match=rf"1-of-1\.jsonl.*{told}"):
        list(store.rows())
        store.get("x.jpg")


def test_a_journal_that_was_cleared_since_is_an_error_and_not_a_missing_map(tmp_path: Path) -> None:
    make_store(tmp_path / "store", "parquet")
    log = Journal(tmp_path / "store/manifest/1-of-1.jsonl")
    log.append(Row("new.jpg", "ok").to_json())
    store = MapStore.open(tmp_path / "store")
    assert len(store) == 6
    log.clear()
    log.close()
    with pytest.raises(FaceDataError, match="written to since it was opened"):
        store.get("new.jpg")


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", "parquet")
    (tmp_path / "store/shards/1-of-1-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(FaceDataError, match=r"1-of-1-00001\.parquet: cannot be read"):
        len(store)


def test_rows_survive_json() -> None:
    row = Row("é\n.jpg", "ok", "p", sha256="a", bytes=3, mtime=0.1 + 0.2, boxes=((1.0, 2.0, 3.0, 4.5),), scores=(0.1,))
    assert "\n" not in row.to_json() and row.to_json().isascii()
    assert Row.from_json(row.to_json(), "x") == row
    assert set(json.loads(Row("a", "ok").to_json())) == {"image", "status"}


def test_journals_survive_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"one\ntwo\nthr")
    assert [line for _, line in journal.lines(path)] == [b"one\n", b"two\n"]
    log = Journal(path)
    log.append("four")
    log.close()
    assert path.read_bytes() == b"one\ntwo\nfour\n"
    path.write_bytes(b"x" * 200_000)
    Journal(path).close()
    assert path.read_bytes() == b""


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/../..", "/a", "a\0", "\udcff", "x" * 252])
def test_bad_names(name: str) -> None:
    with pytest.raises(FaceDataError) as caught:
        clean_name(name)
    assert caught.value.reason == "path"
