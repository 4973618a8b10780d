"""Maps found by pixels, padded or not."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.maps.files import write_map
from llava_face_plugin.maps.keys import PAD_COLOUR, pixel_key
from llava_face_plugin.parsing.base import Parser
from llava_face_plugin.parsing.precomputed import PrecomputedParser, fit_padded, index


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def padded(image: Image.Image) -> Image.Image:
    """The definition of upstream's ``expand2square``, written out for this test."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), PAD_COLOUR)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def labels_for(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(9).integers(1, 19, (size[1], size[0])).astype(np.uint8)


def asked(parser: Parser, image: Image.Image, name: str | None = None) -> np.ndarray | None:
    (parsed,) = parser.parse([image], None if name is None else [name])
    assert parsed.faces == ()
    return parsed.labels


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    pairs = []
    for i, size in enumerate([(30, 41), (40, 30), (20, 20)]):
        picture(i, size).save(tmp_path / f"{i}.png")
        write_map(tmp_path / "maps" / f"{i}.png", labels_for(size))
        pairs.append((tmp_path / f"{i}.png", tmp_path / "maps" / f"{i}.png"))
    assert index(pairs, tmp_path / "out", workers=2) == (tmp_path / "out" / "index.json", 3, 0)
    return tmp_path / "out"


@pytest.mark.parametrize("size", [(30, 41), (41, 30), (7, 7), (1, 50)])
def test_key_is_the_same_padded_and_not_and_differs_otherwise(size: tuple[int, int]) -> None:
    image = picture(0, size)
    assert pixel_key(image) == pixel_key(padded(image))
    other = image.copy()
    other.putpixel((0, 0), (1, 2, 3))
    assert pixel_key(other) != pixel_key(image)


def test_key_of_an_image_with_borders_in_the_pad_colour() -> None:
    image = picture(0, (30, 44))
    image.paste(PAD_COLOUR, (0, 0, 3, 44))
    image.paste(PAD_COLOUR, (0, 40, 30, 44))
    assert pixel_key(image) == pixel_key(padded(image))


def test_key_includes_the_size() -> None:
    pixels = np.random.default_rng(0).integers(0, 100, (4, 6, 3), dtype=np.uint8)
    assert pixel_key(Image.fromarray(pixels)) != pixel_key(Image.fromarray(pixels.reshape(6, 4, 3)))


def test_the_map_has_the_images_geometry(stored: Path) -> None:
    parser: Parser = PrecomputedParser(stored)
    for i, size in enumerate([(30, 41), (40, 30), (20, 20)]):
        found = asked(parser, picture(i, size))
        assert found is not None and np.array_equal(found, labels_for(size))
    tall = asked(parser, padded(picture(0, (30, 41))))
    assert tall is not None and tall.shape == (41, 41)
    assert np.array_equal(tall[:, 5:35], labels_for((30, 41)))  # (41 - 30) // 2 = 5
    assert not tall[:, :5].any() and not tall[:, 35:].any()
    wide = asked(parser, padded(picture(1, (40, 30))))
    assert wide is not None and np.array_equal(wide[5:35], labels_for((40, 30))) and not wide[:5].any()


def test_unknown_pixels_have_no_map(stored: Path) -> None:
    assert asked(PrecomputedParser(stored / "index.json"), picture(77, (30, 41))) is None
    assert asked(PrecomputedParser(stored), Image.new("RGB", (8, 8), PAD_COLOUR)) is None


def test_a_map_at_another_resolution_is_resized(tmp_path: Path) -> None:
    picture(0, (40, 60)).save(tmp_path / "i.png")
    half = labels_for((20, 30))
    write_map(tmp_path / "m.png", half)
    index([(tmp_path / "i.png", tmp_path / "m.png")], tmp_path)
    parser = PrecomputedParser(tmp_path)
    expected = half.repeat(2, axis=0).repeat(2, axis=1)
    plain, square = asked(parser, picture(0, (40, 60))), asked(parser, padded(picture(0, (40, 60))))
    assert plain is not None and np.array_equal(plain, expected)
    assert square is not None and np.array_equal(square[:, 10:50], expected)


def test_a_map_of_another_shape_is_refused(tmp_path: Path) -> None:
    picture(0, (40, 60)).save(tmp_path / "i.png")
    write_map(tmp_path / "m.png", labels_for((60, 40)))
    with pytest.raises(FaceDataError, match=r"60x40 is not the shape of its image .*i\.png \(40x60\)"):
        index([(tmp_path / "i.png", tmp_path / "m.png")], tmp_path)
    assert not (tmp_path / "index.json").exists()


@pytest.mark.parametrize("size", [(1000, 774), (777, 1000)])
def test_a_small_map_of_a_padded_image_is_rounded_to_its_own_pixels(tmp_path: Path, size: tuple[int, int]) -> None:
    picture(0, size).save(tmp_path / "i.png")
    write_map(tmp_path / "m.png", np.full((size[1] // 10, size[0] // 10), 3, dtype=np.uint8))
    index([(tmp_path / "i.png", tmp_path / "m.png")], tmp_path)
    found = asked(PrecomputedParser(tmp_path), padded(picture(0, size)))
    assert found is not None and found.shape == (1000, 1000)
    assert abs(found.astype(bool).mean() - size[0] * size[1] / 1e6) < 0.01


def test_a_map_of_another_shape_is_not_taken_for_one_of_a_padded_image(tmp_path: Path) -> None:
    """400 x 100 for 512 x 512: only where the image itself is padded that way."""
    flat = labels_for((400, 100))
    write_map(tmp_path / "maps/a.png", flat)
    by_name = PrecomputedParser(tmp_path / "maps")
    with pytest.raises(FaceDataError, match=r"the map of a\.jpg is 400x100, .* 512x512"):
        asked(by_name, picture(0, (512, 512)), "a.jpg")
    with pytest.raises(FaceDataError, match="400x100"):
        asked(by_name, padded(picture(0, (400, 100))), "a.jpg")  # names are of images as they are stored
    assert fit_padded(flat, picture(0, (512, 512))) is None
    assert fit_padded(flat, picture(0, (400, 100))) is None
    fitted = fit_padded(flat, padded(picture(0, (400, 100))))
    assert fitted is not None and np.array_equal(fitted[150:250], flat) and not fitted[:150].any()


def test_equal_pixels_keep_the_first_map(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(0, (8, 8)).save(tmp_path / f"{name}.png")
        write_map(tmp_path / f"map_{name}.png", labels_for((8, 8)))
    done = index([(tmp_path / f"{n}.png", tmp_path / f"map_{n}.png") for n in "ab"], tmp_path)
    assert (done.maps, done.duplicates) == (1, 1)
    assert list(json.loads(done.path.read_text())["maps"].values()) == ["map_a.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("{", "not JSON"),
        ("[]", "version None"),
        ('{"version": 2}', "version 2, this release reads version 1"),
        ('{"version": 1, "pad_colour": [1, 2, 3]}', "'maps'"),
    ],
)
def test_a_bad_index_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "index.json").write_text(text)
    with pytest.raises(FaceDataError, match=message):
        PrecomputedParser(tmp_path / "index.json")


def test_a_map_that_vanished_is_named(stored: Path) -> None:
    (stored.parent / "maps" / "0.png").unlink()
    with pytest.raises(FaceDataError, match=r"maps/0\.png.*no such file"):
        asked(PrecomputedParser(stored), picture(0, (30, 41)))


def test_same_padding_as_upstream() -> None:
    expand = pytest.importorskip("llava.mm_utils", reason="llava is not installed").expand2square
    image = picture(3, (31, 50))
    assert np.array_equal(np.asarray(expand(image, PAD_COLOUR)), np.asarray(padded(image)))


def test_a_folder_of_maps_is_looked_up_by_name(tmp_path: Path) -> None:
    labels = labels_for((20, 30))
    write_map(tmp_path / "maps" / "a" / "1.png", labels)
    np.save(tmp_path / "maps" / "2.npy", labels.astype(np.int64))
    write_map(tmp_path / "maps" / "3.jpg.png", labels)
    parser = PrecomputedParser(tmp_path / "maps")
    image = picture(0, (20, 30))
    for name in ("a/1.jpg", "2.webp", "3.jpg"):
        assert np.array_equal(asked(parser, image, name), labels), name
    assert asked(parser, image, "4.jpg") is None and asked(parser, image) is None
    with pytest.raises(FaceDataError, match=r"the map of 3\.jpg is 20x30, which is not the shape .* 30x20"):
        asked(parser, picture(0, (30, 20)), "3.jpg")


def test_maps_in_another_vocabulary_become_canonical(tmp_path: Path) -> None:
    np.save(tmp_path / "1.npy", np.array([[0, 10], [17, 255]], dtype=np.uint8))
    found = asked(PrecomputedParser(tmp_path, "bisenet"), picture(0, (2, 2)), "1.jpg")
    assert found is not None and found.tolist() == [[0, 2], [13, 255]]  # nose, hair
    with pytest.raises(FaceDataError, match=r"ids \[17\] are not in the vocabulary 'lapa'"):
        asked(PrecomputedParser(tmp_path, "lapa"), picture(0, (2, 2)), "1.jpg")


def test_nothing_there_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(FaceDataError, match="no such file or folder"):
        PrecomputedParser(tmp_path / "nowhere")


@pytest.mark.parametrize("struct", [False, True])
def test_a_parquet_column_of_maps(tmp_path: Path, struct: bool) -> None:
    pa = pytest.importorskip("pyarrow", reason="needs the extra [maps]")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra [maps]")
    labels = labels_for((20, 30))
    write_map(tmp_path / "m.png", labels)
    data = (tmp_path / "m.png").read_bytes()
    values = [None, data, b"no png", data]
    names = ["none.jpg", "a/1.jpg", "bad.jpg", "2.jpg"]
    column = [None if v is None else {"bytes": v, "path": "x"} for v in values] if struct else values
    parquet.write_table(pa.table({"image": names, "map": column}), tmp_path / "m.parquet", row_group_size=2)
    parser = pickle.loads(pickle.dumps(PrecomputedParser(tmp_path / "m.parquet")))
    image = picture(0, (20, 30))
    for name in ("a/1.jpg", "2.jpg"):
        assert np.array_equal(asked(parser, image, name), labels)
    assert asked(parser, image, "none.jpg") is None and asked(parser, image, "3.jpg") is None
    with pytest.raises(FaceDataError, match=r"face map of bad\.jpg in .*m\.parquet: not a readable PNG"):
        asked(parser, image, "bad.jpg")
    parquet.write_table(pa.table({"image": names}), tmp_path / "n.parquet")
    with pytest.raises(FaceDataError, match=r"no column \['map'\]"):
        PrecomputedParser(tmp_path / "n.parquet")
    (tmp_path / "o.parquet").write_bytes(b"PAR1")
    with pytest.raises(FaceDataError, match="cannot be read as parquet"):
        PrecomputedParser(tmp_path / "o.parquet")
