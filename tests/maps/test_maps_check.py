"""``llava-face maps check`` and ``overlay``: every kind of fault is found, named and counted."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from llava_face_plugin.cli.main import app
from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.maps.check import check_maps
from llava_face_plugin.maps.files import write_map
from llava_face_plugin.maps.store import MapStore
from llava_face_plugin.parsing.base import Parsed
from llava_face_plugin.segment.run import Options, segment

RUN = CliRunner()


class Stripes:
    """Left half hair, right half skin; nothing in pictures less than 10 pixels high."""

    name, digest = "stripes", "0" * 64

    def parse(self, images: Sequence[Image.Image], names: Sequence[str] | None = None) -> list[Parsed]:
        return [Parsed(self.labels(image.size) if image.height >= 10 else None) for image in images]

    @staticmethod
    def labels(size: tuple[int, int]) -> np.ndarray:
        labels = np.ones((size[1], size[0]), dtype=np.uint8)
        labels[:, : size[0] // 2] = 13
        return labels


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (20, 30)), ("sub/b.png", (30, 20)), ("c.png", (40, 40)), ("flat.png", (30, 5))):
        Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "twin.png").write_bytes((folder / "a.png").read_bytes())
    return folder


@pytest.fixture(params=["png", "parquet"])
def store(request: pytest.FixtureRequest, images: Path, tmp_path: Path) -> Path:
    done = segment(images, tmp_path / "store", Stripes, Options(format=request.param))
    assert (done.ok, done.no_face, done.failed.total()) == (4, 1, 1)
    return tmp_path / "store"


def test_a_good_store_is_fit_and_described(store: Path, images: Path) -> None:
    seen: list[int] = []
    found = check_maps(store, images, workers=2, progress=seen.append)
    assert found.ok and found.maps == 4 and seen == [1, 2, 3, 4]
    assert found.statuses == {"ok": 4, "no-face": 1, "failed": 1} and found.reasons.total() == 1
    assert found.same_pixels == 1 and found.images_without_row == 0
    assert found.coverage["hair"].maps == 4 and found.coverage["hair"].share == pytest.approx(0.5)
    assert found.coverage["nose"].maps == 0
    assert found.sizes == {"20x30": 2, "30x20": 1, "40x40": 1}
    Image.new("RGB", (9, 9)).save(images / "new.png")
    assert check_maps(store, images).images_without_row == 1


def test_images_that_vanished_or_changed_are_problems(store: Path, images: Path) -> None:
    (images / "a.png").unlink()
    Image.new("RGB", (77, 12)).save(images / "c.png")
    found = check_maps(store, images)
    assert not found.ok and found.problems == {"missing image": 1, "size": 1}
    assert "c.png: the image is 77x12 now, the map was made for 40x40" in found.examples["size"]
    assert check_maps(store).ok  # without the image folder there is nothing to compare with


def test_images_of_other_content_are_found(store: Path, images: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (30, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(images / "a.png")  # of the same shape
    same_bytes = (images / "c.png").read_bytes()
    (images / "c.png").write_bytes(same_bytes)
    os.utime(images / "c.png", (2e9, 2e9))  # only touched
    flipped = bytearray((images / "twin.png").read_bytes())
    flipped[-20] ^= 1  # as many bytes as before
    (images / "twin.png").write_bytes(flipped)
    os.utime(images / "twin.png", (2e9, 2e9))
    found = check_maps(store, images)
    assert found.problems == {"changed image": 2}
    assert sorted(m.split(":")[0] for m in found.examples["changed image"]) == ["a.png", "twin.png"]


def test_a_store_without_a_map_is_not_fit_and_failures_are_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(3):
        (tmp_path / f"in/{i}\n.jpg").write_bytes(b"")
    segment(tmp_path / "in", tmp_path / "store", Stripes)
    found = check_maps(tmp_path / "store", shown=2)
    assert not found.ok and found.problems == {"no maps": 1} and found.statuses == {"failed": 3}
    assert found.failures == [rf"(empty) image {i}\n.jpg: no bytes in it" for i in range(2)]
    shown = RUN.invoke(app, ["maps", "check", str(tmp_path / "store"), "--shown", "2"])
    assert shown.exit_code == 1 and r"(empty) image 1\n.jpg" in shown.stdout and "and 1 more" in shown.stdout


def test_maps_of_a_folder_are_paired_with_images_alone(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    write_map(tmp_path / "maps/a.png", np.zeros((30, 20), dtype=np.uint8))
    write_map(tmp_path / "maps/b.jpg.png", np.zeros((30, 20), dtype=np.uint8))
    for name in ("a.txt", "b.txt"):
        (tmp_path / "images" / name).write_text("a caption")
    assert check_maps(tmp_path / "maps", tmp_path / "images").problems == {"missing image": 2}
    Image.new("RGB", (9, 90)).save(tmp_path / "images/a.gif")
    Image.new("RGB", (20, 30)).save(tmp_path / "images/a.png")
    Image.new("RGB", (20, 30)).save(tmp_path / "images/b.jpg")
    assert check_maps(tmp_path / "maps", tmp_path / "images").ok  # one a of the shape will do
    (tmp_path / "images/a.png").unlink()
    assert check_maps(tmp_path / "maps", tmp_path / "images").problems == {"size": 1}


def test_faults_of_a_png_store_are_told_apart(images: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    segment(images, store, Stripes)
    (store / "maps" / "a.png.png").unlink()
    whole = (store / "maps" / "c.png.png").read_bytes()
    (store / "maps" / "c.png.png").write_bytes(whole[: len(whole) // 2])
    foreign = Image.fromarray(np.full((20, 30), 77, dtype=np.uint8))
    foreign.save(store / "maps" / "sub" / "b.png.png")
    write_map(store / "maps" / "twin.png.png", np.zeros((5, 50), dtype=np.uint8))
    write_map(store / "maps" / "nobody.jpg.png", np.zeros((5, 5), dtype=np.uint8))
    found = check_maps(store)
    assert found.problems == {"missing map": 1, "unreadable": 1, "ids": 1, "size": 1, "orphan": 1}
    assert "unknown part ids [77]" in found.examples["ids"][0]
    assert "map 50x5, image 20x30" in found.examples["size"][0]


def test_a_folder_of_maps_is_checked_too(images: Path, tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    reversed_eyes = np.zeros((30, 20), dtype=np.uint8)
    reversed_eyes[3, 2], reversed_eyes[3, 15] = 4, 5
    write_map(maps / "a.png", reversed_eyes)
    np.save(maps / "c.npy", np.full((40, 40), 255, dtype=np.uint8))
    write_map(maps / "nobody.png", np.zeros((4, 4), dtype=np.uint8))
    found = check_maps(maps, images)
    assert found.problems == {"missing image": 1} and found.reversed_sides == 1 and found.unknown == 1
    assert found.empty == 1
    with pytest.raises(FaceDataError, match="neither a map store nor a folder"):
        (tmp_path / "empty").mkdir()
        check_maps(tmp_path / "empty")
    with pytest.raises(FaceDataError, match="no such folder"):
        check_maps(tmp_path / "nowhere")


def test_the_command_has_an_exit_code_and_json(images: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    segment(images, store, Stripes)
    good = RUN.invoke(app, ["maps", "check", str(store), "--images", str(images)])
    assert good.exit_code == 0 and "fit to train on" in good.stdout and "hair" in good.stdout
    (store / "maps" / "a.png.png").unlink()
    bad = RUN.invoke(app, ["maps", "check", str(store)])
    assert bad.exit_code == 1 and "1 x missing map" in bad.stdout and "a.png: its row says ok" in bad.stdout
    told = RUN.invoke(app, ["maps", "check", str(store), "--json", "--shown", "0"])
    content = json.loads(told.stdout)
    assert told.exit_code == 1 and content["ok"] is False and content["problems"] == {"missing map": 1}
    assert content["coverage"]["hair"]["maps"] == 3 and content["examples"] == {}


def test_overlay_draws_a_store_a_folder_and_one_picture(images: Path, tmp_path: Path) -> None:
    store, sheet = tmp_path / "store", tmp_path / "sheet.png"
    segment(images, store, Stripes)
    done = RUN.invoke(app, ["overlay", str(store), "--image-folder", str(images), "--out", str(sheet)])
    assert done.exit_code == 0 and "(4 images)" in done.stdout, done.output
    assert min(Image.open(sheet).size) > 60
    done = RUN.invoke(app, ["overlay", str(images), "--maps", str(store), "--out", str(sheet)])
    assert done.exit_code == 0 and "(5 images, 1 without a map)" in done.stdout, done.output
    assert "passed over 1 that cannot be drawn" in done.stderr and "broken.jpg" in done.stderr
    with pytest.raises(FaceDataError, match="no image to draw.*1 cannot be read, the first: image .*broken.jpg"):
        RUN.invoke(app, ["overlay", str(images / "broken.jpg")], catch_exceptions=False)
    with pytest.raises(FaceDataError, match=r"--out .*sheet\.png/x\.png: cannot be written"):
        RUN.invoke(app, ["overlay", str(images), "--out", str(sheet / "x.png")], catch_exceptions=False)
    one = tmp_path / "one.png"
    arguments = [str(images / "c.png"), "--maps", str(store), "--picture", "--alpha", "1", "--out", str(one)]
    assert RUN.invoke(app, ["overlay", *arguments]).exit_code == 0
    labels = MapStore.open(store).get("c.png")
    assert labels is not None
    drawn = np.asarray(Image.open(one))
    assert drawn.shape == (40, 40, 3) and (drawn[labels == 13] == (0, 0, 204)).all()
    with pytest.raises(FaceDataError, match="flat.png: there is no map of it"):
        RUN.invoke(
            app, ["overlay", str(images / "flat.png"), "--maps", str(store), "--picture"], catch_exceptions=False
        )
