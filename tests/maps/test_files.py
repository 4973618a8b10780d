"""Maps and images on disk."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.labels import PALETTE
from llava_face_plugin.maps import files as maps
from llava_face_plugin.maps.files import image_size, open_image, read_map, same_aspect, write_map
from llava_face_plugin.segment.images import Picture


@pytest.fixture
def labels() -> np.ndarray:
    out = np.random.default_rng(0).integers(0, 19, (20, 30)).astype(np.uint8)
    out[0, :3] = 255
    return out


def test_written_map_reads_back_exactly_and_shows_the_palette(tmp_path: Path, labels: np.ndarray) -> None:
    path = tmp_path / "deep" / "m.png"
    write_map(path, labels)
    assert np.array_equal(read_map(path, size=(30, 20)), labels)
    with Image.open(path) as picture:
        assert picture.mode == "P"
        colours = np.asarray(picture.convert("RGB"))
    assert np.array_equal(colours[5:], PALETTE[labels[5:]])
    assert [p.name for p in path.parent.iterdir()] == ["m.png"]  # no temporary file is left


def test_a_foreign_palette_does_not_change_the_ids(tmp_path: Path, labels: np.ndarray) -> None:
    picture = Image.fromarray(labels)
    picture.putpalette(bytes(range(255, -1, -1)) * 3)
    picture.save(tmp_path / "p.png")
    Image.fromarray(labels).save(tmp_path / "gray.png")
    assert np.array_equal(read_map(tmp_path / "p.png"), labels)
    assert np.array_equal(read_map(tmp_path / "gray.png"), labels)


def _rgb(path: Path) -> None:
    Image.new("RGB", (4, 4)).save(path)


def _bad_ids(path: Path) -> None:
    Image.fromarray(np.array([[0, 19, 200, 255]], dtype=np.uint8)).save(path)


def _jpeg(path: Path) -> None:
    Image.new("L", (4, 4)).save(path, format="JPEG")


def _sixteen_bit(path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(path)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _four_bit_gray(path: Path) -> None:
    """A gray PNG of 4 bits a pixel, 2 x 1, with the values 0 and 1; Pillow writes none."""
    header = struct.pack(">IIBBBBB", 2, 1, 4, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0\x01")), (b"IEND", b"")):
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    path.write_bytes(data)
    assert np.asarray(Image.open(path)).tolist() == [[0, 17]]  # what Pillow makes of it


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palette_pngs_of_few_bits_keep_their_ids(tmp_path: Path, bits: int) -> None:
    ids = (np.arange(30, dtype=np.uint8) % min(2**bits, 19)).reshape(5, 6)
    picture = Image.fromarray(ids)
    picture.putpalette(bytes(range(0, 6 * 2**bits, 2)))
    picture.save(tmp_path / "p.png", bits=bits)
    assert (tmp_path / "p.png").read_bytes()[24] == bits
    assert np.array_equal(read_map(tmp_path / "p.png"), ids)


def test_an_archive_named_npy_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", np.zeros((2, 2), np.uint8))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(FaceDataError, match=r"a\.npy: not a readable \.npy array"):
        read_map(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([["a", {}]], dtype=object))
    with pytest.raises(FaceDataError, match=r"b\.npy: not a readable"):
        read_map(tmp_path / "b.npy")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_rgb, "mode RGB"),
        (_bad_ids, r"unknown part ids \[19, 200\]"),
        (_jpeg, "not a readable PNG"),
        (_sixteen_bit, "mode I;16"),
        (_four_bit_gray, "a gray PNG of 4 bits a pixel"),
        (_empty, "not a readable PNG"),
        (lambda path: None, "no such file"),
    ],
)
def test_bad_maps_are_refused_with_path_and_sample(tmp_path: Path, make, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "bad.png"
    make(path)
    with pytest.raises(FaceDataError, match=message) as error:
        read_map(path, sample="face 7")
    assert str(path) in str(error.value) and "face 7" in str(error.value)


def test_a_map_cut_off_anywhere_is_an_error_or_complete(tmp_path: Path, labels: np.ndarray) -> None:
    write_map(tmp_path / "m.png", labels)
    whole = (tmp_path / "m.png").read_bytes()
    refused = 0
    for n in range(0, len(whole), 7):
        (tmp_path / "cut.png").write_bytes(whole[:n])
        try:
            assert np.array_equal(read_map(tmp_path / "cut.png"), labels)
        except FaceDataError:
            refused += 1
    assert refused >= 0.9 * len(range(0, len(whole), 7))


def test_wrong_size_and_pixel_limit(tmp_path: Path, labels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    write_map(tmp_path / "m.png", labels)
    with pytest.raises(FaceDataError, match="size 30x20, but the image has 20x30"):
        read_map(tmp_path / "m.png", size=(20, 30))
    monkeypatch.setattr(maps, "MAX_PIXELS", 599)
    with pytest.raises(FaceDataError, match="more than the limit of 599"):
        read_map(tmp_path / "m.png")


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 2), np.int64), np.zeros((2, 2, 1), np.uint8), np.full((2, 2), 19, np.uint8)]
)
def test_write_map_refuses_what_read_map_would(tmp_path: Path, bad: np.ndarray) -> None:
    with pytest.raises(FaceDataError):
        write_map(tmp_path / "m.png", bad)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), maps.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_open_image_gives_rgb(tmp_path: Path, kind: str) -> None:
    Image.new("L", (9, 6), 80).save(tmp_path / "i", format=kind)
    image = open_image(tmp_path / "i")
    assert image.mode == "RGB" and image.size == image_size(tmp_path / "i") == (9, 6)


def test_truncated_files_are_refused_in_a_lenient_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing lmms-eval makes Pillow fill in what is missing."""
    from PIL import ImageFile

    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "p.jpg")
    write_map(tmp_path / "m.png", noise[..., 0] % 19)
    for name in ("p.jpg", "m.png"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for read, name in ((open_image, "p.jpg"), (read_map, "m.png")):
        with pytest.raises(FaceDataError, match="truncated"):
            read(tmp_path / name)
    with pytest.raises(FaceDataError, match="damaged"):
        Picture((tmp_path / "p.jpg").read_bytes(), "image p.jpg")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True, "the process keeps its own choice"


def test_open_image_refuses_other_formats_and_damage(tmp_path: Path) -> None:
    Image.new("RGB", (9, 6)).save(tmp_path / "i.ppm")
    with pytest.raises(FaceDataError, match="not a readable JPEG/PNG/WEBP/BMP/GIF/TIFF"):
        open_image(tmp_path / "i.ppm")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "i.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "i.jpg").read_bytes()[:2000])
    with pytest.raises(FaceDataError, match=r"sample x.*damaged or truncated"):
        open_image(tmp_path / "cut.jpg", sample="x")


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ((1024, 1024), (512, 512), True),
        ((178, 218), (178, 218), True),
        ((178, 218), (89, 109), True),
        ((178, 218), (218, 178), False),
        ((178, 218), (218, 218), False),
        ((333, 500), (100, 150), True),  # 99.9 rounded
    ],
)
def test_same_aspect(a: tuple[int, int], b: tuple[int, int], same: bool) -> None:
    assert same_aspect(a, b) is same is same_aspect(b, a)
