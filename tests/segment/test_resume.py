"""Runs that are killed: nothing half written is seen, nothing finished is lost or done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Literal

import pytest
import stand_in_parser
from stand_in_parser import content, make_images, run, times_parsed

from llava_face_plugin.maps.journal import Journal
from llava_face_plugin.maps.store import MapStore
from llava_face_plugin.segment import writers

Form = Literal["png", "parquet"]
both = pytest.mark.parametrize("form", ["png", "parquet"])
IMAGES = 60
IN_FLIGHT = 2 * 4
"""Images of the batch that is parsed and of the one whose maps are encoded: a killed run may have parsed these in
vain."""


def start(source: Path, out: Path, log: Path, form: Form) -> subprocess.Popen[bytes]:
    """The run at the end of ``stand_in_parser``, in a process of its own."""
    return subprocess.Popen([sys.executable, stand_in_parser.__file__, str(source), str(out), str(log), form])


@both
def test_killed_at_random_moments_and_gone_on_with(tmp_path: Path, form: Form) -> None:
    names = make_images(tmp_path / "in", IMAGES)
    log, store = tmp_path / "log", tmp_path / "store"
    random = Random(form)
    killed = 0
    for wanted in (1, 14, 30, 45):
        process = start(tmp_path / "in", store, log, form)
        while process.poll() is None and times_parsed(log).total() < wanted + killed * IN_FLIGHT:
            time.sleep(0.001)
        time.sleep(random.random() * 0.02)
        os.kill(process.pid, signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        assert_nothing_half_written(store)
    assert start(tmp_path / "in", store, log, form).wait() == 0
    assert killed == 4
    parsed = times_parsed(log)
    assert set(parsed) == set(names)
    assert parsed.total() <= IMAGES + killed * IN_FLIGHT
    run(tmp_path / "in", tmp_path / "whole", format=form)
    assert content(store, form) == content(tmp_path / "whole", form)
    if form == "png":
        assert files_of(store / "maps") == files_of(tmp_path / "whole/maps")
        lines = (store / "manifest/1-of-1.jsonl").read_bytes().splitlines()
        assert len(lines) == IMAGES
    assert list((store / "tmp").iterdir()) == []


def assert_nothing_half_written(path: Path) -> None:
    """Every file where a reader looks is whole."""
    if not (path / "store.json").exists():
        return
    store = MapStore.open(path)
    for row in store.rows():
        assert store.get(row.image) is not None
    for file in (path / "maps").rglob("*.*"):
        if file.is_file():
            assert store.get(file.relative_to(path / "maps").as_posix().removesuffix(".png")) is not None


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Killed(BaseException):
    """Ends a run at once, as being killed does."""


def die_at(monkeypatch: pytest.MonkeyPatch, owner: type, method: str, call: int, *, after: bool = False) -> None:
    """Makes the ``call``-th call of a method end the run, before or after it has done its work."""
    real, calls = getattr(owner, method), [0]

    def dying(self: object, *args: object) -> object:
        calls[0] += 1
        if calls[0] == call and not after:
            raise Killed
        result = real(self, *args)
        if calls[0] == call:
            raise Killed
        return result

    monkeypatch.setattr(owner, method, dying)


def test_a_map_without_its_line_is_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = make_images(tmp_path / "in", 6)
    log = tmp_path / "log"
    die_at(monkeypatch, Journal, "append", 3)
    with pytest.raises(Killed):
        run(tmp_path / "in", tmp_path / "store", log, images_per_batch=1)
    monkeypatch.undo()
    seen = MapStore.open(tmp_path / "store")
    assert len(seen) == 2 and seen.get(names[2]) is not None
    again = run(tmp_path / "in", tmp_path / "store", log, images_per_batch=1)
    assert again.there == 3
    assert times_parsed(log)[names[2]] == 1
    run(tmp_path / "in", tmp_path / "whole")
    assert content(tmp_path / "store") == content(tmp_path / "whole")


def test_a_new_map_of_a_changed_image_is_adopted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = make_images(tmp_path / "in", 2)
    log = tmp_path / "log"
    run(tmp_path / "in", tmp_path / "store")
    stand_in_parser.picture(9).save(tmp_path / "in" / names[0])
    os.utime(tmp_path / "in" / names[0], (2e9, 2e9))
    die_at(monkeypatch, Journal, "append", 1)
    with pytest.raises(Killed):
        run(tmp_path / "in", tmp_path / "store", log)
    monkeypatch.undo()
    assert run(tmp_path / "in", tmp_path / "store", log).done == 0
    assert times_parsed(log) == {names[0]: 1}
    row = MapStore.open(tmp_path / "store").row(names[0])
    assert row is not None and row.mtime == 2e9


@pytest.mark.parametrize("after", [False, True])
def test_rows_that_are_in_a_shard_leave_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    make_images(tmp_path / "in", 10)
    log = tmp_path / "log"
    monkeypatch.setattr(writers, "SHARD_ROWS", 4)
    die_at(monkeypatch, Journal, "clear", 1, after=after)
    with pytest.raises(Killed):
        run(tmp_path / "in", tmp_path / "store", log, format="parquet", images_per_batch=2)
    assert len(MapStore.open(tmp_path / "store")) == 4
    again = run(tmp_path / "in", tmp_path / "store", log, format="parquet", images_per_batch=2)
    assert again.there == 4
    run(tmp_path / "in", tmp_path / "whole", format="parquet")
    assert content(tmp_path / "store", "parquet") == content(tmp_path / "whole", "parquet")
    import pyarrow.parquet as pq

    rows = sum(pq.read_metadata(p).num_rows for p in (tmp_path / "store/shards").iterdir())
    assert rows == 10  # none twice


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    names = make_images(tmp_path / "in", 3)
    run(tmp_path / "in", tmp_path / "store")
    path = tmp_path / "store/manifest/1-of-1.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert len(MapStore.open(tmp_path / "store")) == 2
    log = tmp_path / "log"
    assert run(tmp_path / "in", tmp_path / "store", log).there == 3
    assert not log.exists()  # adopted
    assert sorted(row.image for row in MapStore.open(tmp_path / "store").rows()) == names


def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    make_images(tmp_path / "in", IMAGES)
    log, store = tmp_path / "log", tmp_path / "store"
    process = start(tmp_path / "in", store, log, "parquet")
    while times_parsed(log).total() < 20:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) != 0
    done = len(MapStore.open(store))
    assert 20 - IN_FLIGHT <= done < IMAGES
    assert run(tmp_path / "in", store, log, format="parquet").there == done
