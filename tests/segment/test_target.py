"""The store that is written to: locks, other parsers' stores, overwriting, disks that refuse."""

from __future__ import annotations

import fcntl
import os
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
from stand_in_parser import StandIn, content, make_images, run

from llava_face_plugin.errors import FaceConfigError, FaceDataError
from llava_face_plugin.maps.store import MapStore, StoreInfo
from llava_face_plugin.segment.run import Options, segment
from llava_face_plugin.segment.target import locked, make_store

Form = Literal["png", "parquet"]
both = pytest.mark.parametrize("form", ["png", "parquet"])


@both
def test_one_process_a_shard(tmp_path: Path, form: Form) -> None:
    make_images(tmp_path / "in", 2)
    run(tmp_path / "in", tmp_path / "store", format=form)
    with (tmp_path / "store/locks/1-of-1.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(FaceDataError, match="another `llava-face segment` is at work on shard 1-of-1"):
            run(tmp_path / "in", tmp_path / "store", format=form)
        with pytest.raises(FaceDataError, match="at work on shard 1-of-1"):
            run(tmp_path / "in", tmp_path / "store", format=form, overwrite=True)
    assert run(tmp_path / "in", tmp_path / "store", format=form).there == 2


def test_a_store_of_another_parser_or_form_is_refused(tmp_path: Path) -> None:
    make_images(tmp_path / "in", 2)
    run(tmp_path / "in", tmp_path / "store")
    other = partial(StandIn, version="2")
    with pytest.raises(
        FaceDataError,
        match=r"another parser \(stand-in with the same.*another --out, or --overwrite",
    ):
        segment(tmp_path / "in", tmp_path / "store", other)
    with pytest.raises(FaceDataError, match="made with --format png, not parquet"):
        run(tmp_path / "in", tmp_path / "store", format="parquet")
    with pytest.raises(FaceDataError, match="made with --max-side None, not 9"):
        run(tmp_path / "in", tmp_path / "store", max_side=9)
    assert segment(tmp_path / "in", tmp_path / "store", other, Options(overwrite=True, format="parquet")).ok == 2
    assert MapStore.open(tmp_path / "store").info.digest == other().digest
    assert not (tmp_path / "store/maps").exists()


def test_overwrite_deletes_nothing_that_is_not_a_store(tmp_path: Path) -> None:
    make_images(tmp_path / "in", 2)
    with pytest.raises(FaceDataError, match="no map store"):
        run(tmp_path / "in", tmp_path / "in", overwrite=True)
    with pytest.raises(FaceDataError, match="neither empty nor a map store"):
        run(tmp_path / "in", tmp_path / "in")
    run(tmp_path / "in", tmp_path / "store")
    with pytest.raises(FaceConfigError, match="deletes what other shards have done"):
        run(tmp_path / "in", tmp_path / "store", overwrite=True, shard=(1, 2))
    assert len(list((tmp_path / "in").rglob("*.png"))) == 2 == len(MapStore.open(tmp_path / "store"))


@both
def test_a_disk_that_refuses_is_one_clear_error_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Form
) -> None:
    make_images(tmp_path / "in", 8)
    log = tmp_path / "log"
    real, left = os.write, [3]

    def full(file: int, data: bytes) -> int:
        if not left[0]:
            os.write = real
            real(file, bytes(data)[:10])  # a torn line
            raise OSError(28, "No space left on device")
        left[0] -= 1
        return real(file, data)

    monkeypatch.setattr("llava_face_plugin.maps.journal.os.write", full)
    with pytest.raises(FaceDataError, match=r"store: cannot be written \(No space left on device\).*goes on"):
        run(tmp_path / "in", tmp_path / "store", log, format=form, images_per_batch=2)
    monkeypatch.undo()
    assert len(MapStore.open(tmp_path / "store")) == 3
    run(tmp_path / "in", tmp_path / "store", log, format=form, images_per_batch=2)
    run(tmp_path / "in", tmp_path / "whole", format=form)
    assert content(tmp_path / "store", form) == content(tmp_path / "whole", form)


def test_shards_of_another_split_cannot_be_written_at_once(tmp_path: Path) -> None:
    """Blocks of different n overlap: an image would be done twice."""
    make_images(tmp_path / "in", 4)
    store = tmp_path / "store"
    run(tmp_path / "in", store, limit=1)  # leaves a lock file of 1-of-1, which nobody holds
    with locked(store, (1, 2)):
        with pytest.raises(FaceDataError, match="at work on shard 1-of-2"):
            run(tmp_path / "in", store)
        with pytest.raises(FaceDataError, match="at work on shard 1-of-2"):
            run(tmp_path / "in", store, shard=(3, 3))
        assert run(tmp_path / "in", store, shard=(2, 2)).ok == 2
    assert run(tmp_path / "in", store).done == 1


def test_the_settings_that_differ_are_named(tmp_path: Path) -> None:
    before = {"type": "compact", "align": "celeba-hq", "device": "cpu", "size": None}
    make_store(tmp_path / "store", StoreInfo("png", "compact", "1" * 64, before))
    now = before | {"align": "box", "device": "cuda"}
    with pytest.raises(FaceDataError, match=r"another parser \(align: celeba-hq -> box\) and --max-side None, not 9;"):
        make_store(tmp_path / "store", StoreInfo("png", "compact", "2" * 64, now, 9))
    with pytest.raises(FaceDataError, match=r"another parser \(compact -> facer\)"):
        make_store(tmp_path / "store", StoreInfo("png", "facer", "2" * 64))


def test_where_nothing_was_begun_nothing_is_promised(tmp_path: Path) -> None:
    make_images(tmp_path / "in", 1)
    (tmp_path / "file").touch()
    with pytest.raises(FaceDataError, match="cannot be written") as caught:
        run(tmp_path / "in", tmp_path / "file/store")
    assert "kept" not in str(caught.value)
