"""Images of every sort: what the parser is shown, and that maps fit what LLaVA sees."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from stand_in_parser import STEP, ids_of, parsed, picture, run

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.maps.keys import pixel_key
from llava_face_plugin.maps.store import MapStore
from llava_face_plugin.parsing.base import Face, Parsed
from llava_face_plugin.segment import images
from llava_face_plugin.segment.images import Picture, read_file
from llava_face_plugin.segment.run import segment
from llava_face_plugin.segment.upright import stored_map

# How a camera stores an upright picture, by EXIF orientation; written out from the standard's table.
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.swapaxes(a, 0, 1)[::-1],
    7: lambda a: np.swapaxes(a, 0, 1)[::-1, ::-1],
    8: lambda a: np.swapaxes(a, 0, 1)[:, ::-1],
}
PAIRS = ((4, 5), (6, 7), (8, 9))


def sides_by_columns(face: np.ndarray) -> np.ndarray:
    """One face's map with its pairs named as the convention says: ``l_`` is the one further right."""
    out = face.copy()
    for left, right in PAIRS:
        places = [np.nonzero(face == part) for part in (left, right)]
        if all(rows.size for rows, _ in places):
            by_column = sorted(places, key=lambda place: place[1].mean())
            out[by_column[0]], out[by_column[1]] = right, left
    return out


def save_turned(path: Path, upright: Image.Image, orientation: int) -> np.ndarray:
    """Writes the picture as that orientation stores it; returns the stored pixels."""
    pixels = np.ascontiguousarray(STORED[orientation](np.asarray(upright)))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return pixels


@pytest.mark.parametrize("orientation", range(1, 9))
def test_maps_fit_the_stored_picture_whatever_its_exif_orientation(tmp_path: Path, orientation: int) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    upright = picture(3, (21, 32))
    stored = save_turned(folder / "x.png", upright, orientation)
    run(folder, tmp_path / "store")
    store = MapStore.open(tmp_path / "store")
    expected = sides_by_columns(STORED[orientation](ids_of(3, (21, 32))))
    found, row = store.get("x.png"), store.row("x.png")
    assert found is not None and row is not None
    np.testing.assert_array_equal(found, expected)
    assert found.shape == stored.shape[:2] == (row.height, row.width)
    assert row.orientation == orientation
    # as LLaVA opens it
    assert row.pixel_key == pixel_key(Image.open(folder / "x.png").convert("RGB")) == pixel_key(Image.fromarray(stored))
    x0, y0, x1, y1 = (int(v) for v in row.boxes[0])
    inside = np.zeros_like(found)
    inside[y0:y1, x0:x1] = found[y0:y1, x0:x1]
    np.testing.assert_array_equal(inside, found)
    assert found[y0].any() and found[y1 - 1].any() and found[:, x0].any() and found[:, x1 - 1].any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_face_of_a_turned_picture_has_its_own_sides(tmp_path: Path, orientation: int) -> None:
    """Two faces whose eyes are tilted one way and the other: turned by 90 degrees, one is reversed and one is not."""
    upright = np.zeros((20, 44), dtype=np.uint8)
    for left, tilt in ((2, 3), (24, -3)):
        upright[2:18, left : left + 16] = 1
        upright[9 - tilt : 11 - tilt, left + 3 : left + 5] = 5
        upright[9 + tilt : 11 + tilt, left + 11 : left + 13] = 4
    where = np.zeros_like(upright)
    where[:, 22:] = 1
    boxes = [Face((2.0, 2.0, 18.0, 18.0), 1.0, 1.0), Face((24.0, 2.0, 40.0, 18.0), 1.0, 1.0)]

    class Two:
        name = "two"
        digest = "0" * 64

        def parse(self, images: list[Image.Image], names: list[str]) -> list[Parsed]:
            return [Parsed(upright, tuple(boxes))]

    (tmp_path / "in").mkdir()
    save_turned(tmp_path / "in/x.png", Image.new("RGB", (44, 20), (90, 80, 70)), orientation)
    segment(tmp_path / "in", tmp_path / "store", Two)
    turned, second = STORED[orientation](upright), STORED[orientation](where) == 1
    expected = np.where(second, sides_by_columns(np.where(second, turned, 0)),
                        sides_by_columns(np.where(second, 0, turned)))  # fmt: skip
    np.testing.assert_array_equal(MapStore.open(tmp_path / "store").get("x.png"), expected)


def test_a_single_eye_of_a_mirrored_picture_changes_its_side() -> None:
    one = np.array([[0, 4, 0, 1]], dtype=np.uint8)
    assert [stored_map(one, how).max() for how in (1, 2, 3, 4)] == [4, 5, 5, 4]


def test_a_mirrored_picture_gets_the_map_that_a_parser_gives_of_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    stored = save_turned(tmp_path / "in/x.png", picture(0), 2)
    run(tmp_path / "in", tmp_path / "store")
    expected = parsed(Image.fromarray(stored)).labels
    np.testing.assert_array_equal(MapStore.open(tmp_path / "store").get("x.png"), expected)


def test_a_parser_of_stored_maps_is_shown_the_picture_as_stored(tmp_path: Path) -> None:
    class LooksUp:
        name = "precomputed"
        digest = "0" * 64

        def parse(self, images: list[Image.Image], names: list[str]) -> list[Parsed]:
            return [Parsed(np.full((image.height, image.width), 1 + image.width % 18, np.uint8)) for image in images]

    (tmp_path / "in").mkdir()
    save_turned(tmp_path / "in/x.png", picture(0, (24, 30)), 6)
    segment(tmp_path / "in", tmp_path / "store", LooksUp)
    found = MapStore.open(tmp_path / "store").get("x.png")
    assert found is not None and found.shape == (24, 30) and (found == 1 + 30 % 18).all()


def _save(path: Path, image: Image.Image, **options: object) -> None:
    path.parent.mkdir(exist_ok=True)
    image.save(path, **options)


def test_16_bit_is_scaled_not_cut_off(tmp_path: Path) -> None:
    ids = ids_of(1)
    _save(tmp_path / "in/x.png", Image.fromarray(ids.astype(np.uint16) * STEP * 257))
    _save(tmp_path / "in/x.tif", Image.fromarray(ids.astype(np.float32) * STEP / 255))
    _save(tmp_path / "in/i.tif", Image.fromarray(ids.astype(np.int32) * STEP * 257))
    summary = run(tmp_path / "in", tmp_path / "store")
    assert summary.ok == 3, summary
    store = MapStore.open(tmp_path / "store")
    for name in ("x.png", "x.tif"):
        np.testing.assert_array_equal(store.get(name), parsed(Image.fromarray(ids * STEP).convert("RGB")).labels)
        row = store.row(name)
        assert row is not None
        assert row.pixel_key == pixel_key(
            Image.open(tmp_path / "in" / name).convert("RGB")
        )  # what LLaVA sees is cut off


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("x.jpg", "CMYK", {"quality": 100}),
        ("x.png", "P", {}),
        ("x.png", "RGBA", {}),
        ("x.png", "LA", {}),
        ("x.png", "1", {}),
        ("x.gif", "RGB", {}),
        ("x.tif", "CMYK", {}),
        ("x.webp", "RGBA", {"lossless": True}),
        ("x.bmp", "L", {}),
    ],
)
def test_every_mode_is_seen_as_llava_sees_it(tmp_path: Path, name: str, mode: str, options: dict[str, object]) -> None:
    image = picture(2)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    _save(tmp_path / "in" / name, image.convert(mode) if mode != "RGBA" else image, **options)
    assert run(tmp_path / "in", tmp_path / "store").ok == 1
    store = MapStore.open(tmp_path / "store")
    seen = Image.open(tmp_path / "in" / name).convert("RGB")
    np.testing.assert_array_equal(store.get(name), parsed(seen).labels)
    assert store.name_of(pixel_key(seen)) == name


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_of_an_animation_the_first_picture_counts(tmp_path: Path, suffix: str) -> None:
    frames = [picture(i).convert("RGB") for i in range(3)]
    more = {"lossless": True} if suffix == ".webp" else {}
    _save(tmp_path / f"in/x{suffix}", frames[0], save_all=True, append_images=frames[1:], **more)
    run(tmp_path / "in", tmp_path / "store")
    row = MapStore.open(tmp_path / "store").row(f"x{suffix}")
    assert row is not None and (row.status, row.frames) == ("ok", 3)
    seen = Image.open(tmp_path / f"in/x{suffix}").convert("RGB")
    np.testing.assert_array_equal(MapStore.open(tmp_path / "store").get(f"x{suffix}"), parsed(seen).labels)


def test_what_is_no_readable_file_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "folder.jpg").mkdir(parents=True)
    picture(0).save(folder / "folder.jpg/inside.png")
    (folder / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    os.mkfifo(folder / "pipe.jpg")
    (folder / ".hidden.jpg").write_bytes(b"")
    picture(1).save(tmp_path / "elsewhere.png")
    (folder / "link.png").symlink_to(tmp_path / "elsewhere.png")
    (folder / "notes.txt").write_text("an image folder often has such files")
    (folder / ("x" * 250 + ".png")).write_bytes(b"")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.jpg")).write_bytes(b"")
    summary = run(folder, tmp_path / "store")
    rows = {row.image: row for row in MapStore.open(tmp_path / "store").rows()}
    assert {name: row.reason or row.status for name, row in rows.items()} == {
        "folder.jpg": "not-a-file",
        "folder.jpg/inside.png": "ok",
        "dangling.jpg": "missing",
        "loop.jpg": "missing",
        "pipe.jpg": "not-a-file",
        "link.png": "ok",
        "notes.txt": "format",
        "x" * 250 + ".png": "path",
        "\\udcff.jpg": "path",
    }
    assert summary.failed == {"not-a-file": 2, "missing": 2, "format": 1, "path": 2}
    assert run(folder, tmp_path / "store").done == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission_are_counted(tmp_path: Path) -> None:
    _save(tmp_path / "in/x.png", picture(0))
    (tmp_path / "in/x.png").chmod(0)
    assert run(tmp_path / "in", tmp_path / "store").failed == {"permission": 1}


def test_permission_has_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"x")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(FaceDataError, match=r"x\.png: cannot be read \(Permission denied\)") as caught:
        read_file(tmp_path / "x.png")
    assert caught.value.reason == "permission"


def test_large_files_are_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(bytes(101))
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    with pytest.raises(FaceDataError, match="101 bytes, more than the limit of 100") as caught:
        read_file(tmp_path / "x.png")
    assert caught.value.reason == "too-large"


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(images.files, "MAX_PIXELS", 24 * 32 - 1)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    picture(0).save(tmp_path / "x.png")
    with pytest.raises(FaceDataError, match="24x32 pixels") as caught:
        Picture((tmp_path / "x.png").read_bytes(), "image x.png")
    assert caught.value.reason == "too-large"
