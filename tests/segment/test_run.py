"""From images to a store, and again: nothing is done twice, whatever changes is done anew."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from stand_in_parser import StandIn, content, ids_of, make_images, picture, run, times_parsed

from llava_face_plugin.labels import NUM_PARTS, PALETTE
from llava_face_plugin.maps.store import MapStore
from llava_face_plugin.parsing.base import Parsed
from llava_face_plugin.segment import writers
from llava_face_plugin.segment.run import Options, segment

Form = Literal["png", "parquet"]
both = pytest.mark.parametrize("form", ["png", "parquet"])


@both
def test_every_map_is_what_the_parser_said(tmp_path: Path, form: Form) -> None:
    names = make_images(tmp_path / "in", 10)
    summary = run(tmp_path / "in", tmp_path / "store", format=form)
    assert (summary.images, summary.ok, summary.done, summary.there) == (10, 10, 10, 0)
    store = MapStore.open(tmp_path / "store")
    assert sorted(row.image for row in store.rows()) == names and len(store) == 10
    for name in names:
        np.testing.assert_array_equal(store.get(name), ids_of(int(name[2:5])))


def test_maps_are_palette_pngs_in_the_colours_of_the_parts(tmp_path: Path) -> None:
    make_images(tmp_path / "in", 1)
    run(tmp_path / "in", tmp_path / "store")
    with Image.open(tmp_path / "store/maps/a/000.png.png") as image:
        assert image.mode == "P"
        ids, colours = np.asarray(image), np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(colours, PALETTE[ids])
    assert ids.max() < NUM_PARTS
    assert not list((tmp_path / "store").rglob("*.tmp")) and not list((tmp_path / "store/tmp").iterdir())


@both
def test_a_second_run_does_nothing(tmp_path: Path, form: Form) -> None:
    make_images(tmp_path / "in", 6)
    (tmp_path / "in/broken.jpg").write_bytes(b"x")
    log = tmp_path / "log"
    run(tmp_path / "in", tmp_path / "store", log, format=form)
    before = {p: p.read_bytes() for p in (tmp_path / "store").rglob("*") if p.is_file()}
    again = run(tmp_path / "in", tmp_path / "store", log, format=form)
    assert (again.done, again.there, again.failed_before) == (0, 7, 1)
    assert set(times_parsed(log).values()) == {1}
    assert {p: p.read_bytes() for p in (tmp_path / "store").rglob("*") if p.is_file()} == before


@both
def test_shards_together_are_the_whole(tmp_path: Path, form: Form) -> None:
    make_images(tmp_path / "in", 11)
    run(tmp_path / "in", tmp_path / "whole", format=form)
    log = tmp_path / "log"
    done = [run(tmp_path / "in", tmp_path / "store", log, format=form, shard=(i, 3)).done for i in (1, 3, 2)]
    assert sum(done) == 11 and max(done) - min(done) <= 1
    assert content(tmp_path / "store", form) == content(tmp_path / "whole", form)
    # another split finds what these have done
    assert run(tmp_path / "in", tmp_path / "store", log, format=form, shard=(1, 2)).done == 0
    assert set(times_parsed(log).values()) == {1}


def test_a_limit_is_one_of_all_shards_together(tmp_path: Path) -> None:
    names = make_images(tmp_path / "in", 9)
    for i in (1, 2):
        run(tmp_path / "in", tmp_path / "store", shard=(i, 2), limit=5)
    assert sorted(row.image for row in MapStore.open(tmp_path / "store").rows()) == names[:5]


@both
def test_changed_images_are_done_again_touched_ones_are_not(tmp_path: Path, form: Form) -> None:
    names = make_images(tmp_path / "in", 4)
    log = tmp_path / "log"
    run(tmp_path / "in", tmp_path / "store", log, format=form)
    picture(50).save(tmp_path / "in" / names[1])
    os.utime(tmp_path / "in" / names[1], (2e9, 2e9))
    os.utime(tmp_path / "in" / names[2], (2e9, 2e9))
    again = run(tmp_path / "in", tmp_path / "store", log, format=form)
    assert (again.ok, again.there) == (1, 3)
    assert times_parsed(log) == {names[0]: 1, names[1]: 2, names[2]: 1, names[3]: 1}
    store = MapStore.open(tmp_path / "store")
    assert len(store) == 4 == len(list(store.rows()))
    np.testing.assert_array_equal(store.get(names[1]), ids_of(50))
    row = store.row(names[1])
    assert row is not None and row.mtime == 2e9


@both
def test_an_image_that_breaks_loses_its_map(tmp_path: Path, form: Form) -> None:
    names = make_images(tmp_path / "in", 2)
    run(tmp_path / "in", tmp_path / "store", format=form)
    (tmp_path / "in" / names[0]).write_bytes(b"broken")
    assert run(tmp_path / "in", tmp_path / "store", format=form).failed == {"format": 1}
    store = MapStore.open(tmp_path / "store")
    assert store.get(names[0]) is None and store.get(names[1]) is not None
    assert len(store) == 2


@both
def test_failed_images_are_tried_again_only_when_asked(tmp_path: Path, form: Form) -> None:
    make_images(tmp_path / "in", 2)
    picture(5).save(tmp_path / "in/explode.png")
    log = tmp_path / "log"
    assert run(tmp_path / "in", tmp_path / "store", log, format=form).failed == {"parser": 1}
    assert run(tmp_path / "in", tmp_path / "store", log, format=form).done == 0
    assert run(tmp_path / "in", tmp_path / "store", log, format=form, retry_failed=True).failed == {"parser": 1}
    row = MapStore.open(tmp_path / "store").row("explode.png")
    assert row is not None and "ValueError: explode.png is too much for me" in row.message

    class Cured(StandIn):
        def parse(self, images: object, names: object = None) -> list[Parsed]:
            return super().parse(images, ["cured"])  # type: ignore[arg-type]

    options = Options(format=form, retry_failed=True)
    assert segment(tmp_path / "in", tmp_path / "store", Cured, options).ok == 1
    assert len(MapStore.open(tmp_path / "store")) == 3
    assert MapStore.open(tmp_path / "store").get("explode.png") is not None


def test_a_deleted_map_is_made_again(tmp_path: Path) -> None:
    make_images(tmp_path / "in", 2)
    run(tmp_path / "in", tmp_path / "store")
    (tmp_path / "store/maps/a/000.png.png").unlink()
    assert run(tmp_path / "in", tmp_path / "store").ok == 1
    assert MapStore.open(tmp_path / "store").get("a/000.png") is not None


def test_a_deleted_folder_of_maps_is_made_again(tmp_path: Path) -> None:
    make_images(tmp_path / "in", 2)
    run(tmp_path / "in", tmp_path / "store")
    shutil.rmtree(tmp_path / "store/maps")
    assert run(tmp_path / "in", tmp_path / "store").ok == 2


def test_new_images_are_added(tmp_path: Path) -> None:
    make_images(tmp_path / "in", 2)
    run(tmp_path / "in", tmp_path / "in/store")  # the store may lie in the folder, and is no image
    make_images(tmp_path / "in", 3)
    summary = run(tmp_path / "in", tmp_path / "in/store")
    assert (summary.ok, summary.images) == (1, 3)


def test_images_that_differ_in_suffix_only_have_maps_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    picture(1).save(tmp_path / "in/b.png")
    picture(2).save(tmp_path / "in/b.bmp")
    run(tmp_path / "in", tmp_path / "store")
    store = MapStore.open(tmp_path / "store")
    np.testing.assert_array_equal(store.get("b.png"), ids_of(1))
    np.testing.assert_array_equal(store.get("b.bmp"), ids_of(2))


def test_a_map_that_would_be_where_a_folder_is_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "in/x.png").mkdir(parents=True)
    picture(1).save(tmp_path / "in/x.png/y.png")
    picture(2).save(tmp_path / "in/x", format="PNG")  # its map would be maps/x.png
    summary = run(tmp_path / "in", tmp_path / "store")
    assert summary.ok == 1 and summary.failed == {"path": 1, "not-a-file": 1}


def test_pictures_without_a_face_have_a_row_and_no_map(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "in/x.png")
    summary = run(tmp_path / "in", tmp_path / "store")
    store = MapStore.open(tmp_path / "store")
    row = store.row("x.png")
    assert summary.no_face == 1 and row is not None and (row.status, row.map) == ("no-face", "")
    assert store.get("x.png") is None
    assert store.name_of(row.pixel_key) == "x.png"


def test_maps_can_be_stored_smaller(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    picture(0, (48, 64)).save(tmp_path / "in/large.png")
    picture(0, (24, 32)).save(tmp_path / "in/small.png")
    run(tmp_path / "in", tmp_path / "store", max_side=32)
    store = MapStore.open(tmp_path / "store")
    assert store.info.max_side == 32
    found = store.get("large.png")
    expected = Image.fromarray(ids_of(0, (48, 64))).resize((24, 32), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(found, np.asarray(expected))
    np.testing.assert_array_equal(store.get("small.png"), ids_of(0))


def test_parquet_shards_are_closed_when_they_are_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_images(tmp_path / "in", 10)
    monkeypatch.setattr(writers, "SHARD_ROWS", 4)
    run(tmp_path / "in", tmp_path / "store", format="parquet")
    names = sorted(p.name for p in (tmp_path / "store/shards").iterdir())
    assert names == [f"1-of-1-0000{k}.parquet" for k in range(3)]
    assert (tmp_path / "store/manifest/1-of-1.jsonl").read_bytes() == b""
    run(tmp_path / "in", tmp_path / "png")
    whole, png = content(tmp_path / "store", "parquet"), content(tmp_path / "png")
    assert {name: data for name, (_, data) in whole.items()} == {name: data for name, (_, data) in png.items()}


def test_a_summary_is_json(tmp_path: Path) -> None:
    make_images(tmp_path / "in", 2)
    (tmp_path / "in/x.jpg").write_bytes(b"")
    told = json.loads(json.dumps(run(tmp_path / "in", tmp_path / "store").to_dict()))
    assert told["ok"] == 2 and told["failed_by_reason"] == {"empty": 1}
    assert told["first_failures"][0]["message"] == "image x.jpg: no bytes in it"
