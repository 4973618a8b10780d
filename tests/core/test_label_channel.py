"""The label map's way through upstream's image path: the same geometry as the image, to the pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from llava_face_plugin.hosts.label_channel import (
    FaceImageProcessor,
    anyres,
    join,
    put,
    split,
    square,
    through_processor,
)
from llava_face_plugin.labels import NO_MAP
from llava_face_plugin.parsing.base import Parsed
from tests.core.standin import HAIR

SIZES = [(80, 60), (60, 80), (217, 333), (30, 41), (56, 56), (1, 7)]  # (width, height)


def processor(side: int) -> Any:
    transformers = pytest.importorskip("transformers", reason="needs the host's image processor")
    return transformers.CLIPImageProcessor(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=[0.48, 0.46, 0.41],
        image_std=[0.27, 0.26, 0.28],
        resample=3,
    )


def separated(width: int, height: int, seed: int = 0) -> np.ndarray:
    """(H, W) uint8 blocks of ids that lie far apart: an average of two would be none of them."""
    blocks = np.random.default_rng(seed).choice(np.array([0, 6, 12, 18, 255], np.uint8), size=(5, 5))
    rows, columns = np.arange(height) * 5 // height, np.arange(width) * 5 // width
    return blocks[rows[:, None], columns[None, :]]


def test_split_and_join_are_inverse() -> None:
    pixels, labels = torch.randn(2, 3, 4, 4), torch.full((2, 4, 4), 7.0)
    images = torch.stack([join(p, m) for p, m in zip(pixels, labels, strict=True)])
    assert images.shape == (2, 4, 4, 4)
    again, found = split(images)
    assert found is not None and torch.equal(again, pixels) and torch.equal(found, labels)
    assert split(pixels)[1] is None


def test_join_without_a_map_says_no_map_and_replaces_a_channel_that_is_there() -> None:
    pixels = torch.randn(3, 4, 4)
    none = join(pixels, None)
    assert (none[3] == NO_MAP).all()
    replaced = join(none, torch.full((4, 4), 5))
    assert replaced.shape == (4, 4, 4) and (replaced[3] == 5).all()


def test_put_writes_in_place_where_the_channel_is_there() -> None:
    pixels, labels = torch.randn(3, 4, 4), torch.full((4, 4), 5, dtype=torch.uint8)
    four = join(pixels, None)
    assert put(four, labels) is four and (four[3] == 5).all() and torch.equal(four[:3], pixels)
    assert torch.equal(put(pixels, labels), four) and (put(four, None)[3] == NO_MAP).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_id_survives_half_precision(dtype: torch.dtype) -> None:
    ids = torch.arange(256).view(16, 16)
    joined = join(torch.zeros(3, 16, 16, dtype=dtype), ids)
    assert joined.dtype == dtype and torch.equal(joined[3].long(), ids)


@pytest.mark.parametrize("size", [*SIZES, (7, 4), (4, 7), (8, 5)])
def test_square_pads_as_expand2square_does(size: tuple[int, int]) -> None:
    """Against PIL: pasted at half the difference, rounded down, as upstream pads its image."""
    width, height = size
    labels = separated(width, height)
    side = max(size)
    expected = Image.new("L", (side, side), 0)
    expected.paste(Image.fromarray(labels), ((side - width) // 2, (side - height) // 2))
    found = square(labels)
    assert found.dtype == np.uint8 and np.array_equal(found, np.asarray(expected))


@pytest.mark.contract
def test_square_pads_as_llava_does() -> None:
    mm_utils = pytest.importorskip("llava.mm_utils", reason="needs the host package llava")
    for width, height in [*SIZES, (8, 5), (5, 8)]:
        labels = separated(width, height)
        expected = mm_utils.expand2square(Image.fromarray(labels), 0)
        assert np.array_equal(square(labels), np.asarray(expected))


@pytest.mark.contract
@pytest.mark.parametrize("side", [56, 336])
@pytest.mark.parametrize("size", SIZES[:-1])
def test_map_is_resized_by_nearest_and_cropped_as_an_image(size: tuple[int, int], side: int) -> None:
    """Against PIL: shortest edge to ``side``, then the central square."""
    labels = separated(*size)
    scale = side / min(size)
    new = [side if edge == min(size) else int(edge * scale) for edge in size]
    resized = np.asarray(Image.fromarray(labels).resize(new, Image.Resampling.NEAREST))
    top, left = (new[1] - side) // 2, (new[0] - side) // 2
    found = through_processor(labels, processor(side))
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), resized[top : top + side, left : left + side])


@pytest.mark.contract
@pytest.mark.parametrize("side", [56, 336])
@pytest.mark.parametrize("size", [(80, 60), (60, 80), (217, 333)])
def test_a_block_lands_at_the_same_place_in_image_and_map(size: tuple[int, int], side: int) -> None:
    width, height = size
    box = (slice(height // 3, height // 2), slice(width // 3, 3 * width // 5))
    picture, labels = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
    picture[box], labels[box] = 255, HAIR
    made = processor(side)
    image = made.preprocess(Image.fromarray(picture), return_tensors="pt")["pixel_values"][0][0]
    bright = image > (image.max() + image.min()) / 2
    found = through_processor(labels, made) == HAIR
    where = [[axis.nonzero().flatten() for axis in (m.any(1), m.any(0))] for m in (bright, found)]
    for in_image, in_map in zip(*where, strict=True):
        assert abs(in_image[0] - in_map[0]) <= 1 and abs(in_image[-1] - in_map[-1]) <= 1
    assert (bright != found).float().mean() < 0.02


@pytest.mark.contract
@pytest.mark.parametrize("side", [56, 336])
def test_the_short_cut_for_clip_gives_what_the_processor_itself_gives(side: int) -> None:
    """Whatever the shape: the same ids, pixel by pixel, as CLIP's own code run on the map as a picture."""
    made, rng = processor(side), np.random.default_rng(side)
    for width, height in [*SIZES, *((int(w), int(h)) for w, h in rng.integers(20, 700, (25, 2)))]:
        labels = separated(width, height, seed=width)
        expected = made.preprocess(
            Image.fromarray(labels).convert("RGB"), resample=Image.Resampling.NEAREST, do_rescale=False,
            do_normalize=False, return_tensors="pt",
        )["pixel_values"][0][0]  # fmt: skip
        assert torch.equal(through_processor(labels, made), expected.to(torch.uint8)), (width, height)


@pytest.mark.contract
def test_any_other_processor_is_run_itself() -> None:
    class Halves:
        """Not CLIP's: halves the picture."""

        def preprocess(self, image: Image.Image, **kwargs: Any) -> dict[str, torch.Tensor]:
            half = image.resize((image.width // 2, image.height // 2), kwargs["resample"])
            return {"pixel_values": torch.from_numpy(np.asarray(half).copy()).permute(2, 0, 1)[None]}

    labels = separated(40, 60)
    found = through_processor(labels, Halves())
    assert torch.equal(found, torch.from_numpy(labels[1::2, 1::2].copy()))


@pytest.mark.contract
@pytest.mark.parametrize("size", [(80, 60), (217, 333), (60, 60), (300, 41)])
def test_anyres_tiles_are_cut_as_llava_cuts_its_image(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream's own functions on the map as a picture, made to resize by nearest."""
    mm_utils = pytest.importorskip("llava.mm_utils", reason="needs the host package llava")
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, size, *_, **__: resize(self, size, Image.Resampling.NEAREST)
    )
    labels, tile = separated(*size), 56
    resolution = mm_utils.select_best_resolution(size, [(56, 112), (112, 56), (112, 112), (168, 56)])
    picture = Image.fromarray(labels).convert("RGB")
    whole = picture.resize((tile, tile))
    patches = mm_utils.divide_to_patches(mm_utils.resize_and_pad_image(picture, resolution), tile)
    found = anyres(labels, resolution, tile)
    assert len(found) == 1 + len(patches)
    for part, expected in zip(found, [whole, *patches], strict=True):
        assert np.array_equal(part, np.asarray(expected)[..., 0])


class KnowsOne:
    """A parser that knows one size of picture."""

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels

    name, digest = "knows-one", ""

    def parse(self, images: Sequence[Image.Image], names: Sequence[str] | None = None) -> list[Parsed]:
        return [Parsed(self.labels if image.size == self.labels.shape[::-1] else None) for image in images]


@pytest.mark.contract
def test_processor_adds_the_parsers_map() -> None:
    labels, plain = separated(80, 60), processor(56)
    made = FaceImageProcessor(plain, lambda: KnowsOne(labels))
    known = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))
    unknown = Image.new("RGB", (50, 70), (200, 10, 10))
    batch = made.preprocess([known, unknown], return_tensors="pt")["pixel_values"]
    assert batch.shape == (2, 4, 56, 56)
    assert torch.equal(batch[:, :3], plain.preprocess([known, unknown], return_tensors="pt")["pixel_values"])
    assert torch.equal(batch[0, 3], through_processor(labels, plain).float())
    assert (batch[1, 3] == NO_MAP).all()
    single = made(known, return_tensors="pt")["pixel_values"]
    assert torch.equal(single, batch[:1])


@pytest.mark.contract
def test_processor_without_a_parser_says_no_map() -> None:
    made = FaceImageProcessor(processor(56), lambda: None)
    batch = made(Image.new("RGB", (50, 70)), return_tensors="pt")["pixel_values"]
    assert batch.shape == (1, 4, 56, 56) and (batch[:, 3] == NO_MAP).all()


@pytest.mark.contract
def test_processor_takes_pixels_that_are_no_picture_for_unknown() -> None:
    made = FaceImageProcessor(processor(56), lambda: KnowsOne(separated(60, 60)))
    batch = made([np.zeros((60, 60, 3), np.float32)], return_tensors="pt")["pixel_values"]
    assert (batch[:, 3] == NO_MAP).all()


@pytest.mark.contract
def test_processor_parses_the_frames_of_a_video() -> None:
    labels = separated(60, 60)
    made = FaceImageProcessor(processor(56), lambda: KnowsOne(labels))
    frames = np.zeros((2, 60, 60, 3), np.uint8)
    batch = made(frames, return_tensors="pt")["pixel_values"]
    assert batch.shape == (2, 4, 56, 56)
    assert torch.equal(batch[0, 3].to(torch.uint8), through_processor(labels, processor(56)))


@pytest.mark.contract
def test_everything_else_is_the_wrapped_processors() -> None:
    plain = processor(56)
    made = FaceImageProcessor(plain, lambda: None)
    assert made.crop_size["height"] == 56 and list(made.image_mean) == list(plain.image_mean)
    with pytest.raises(AttributeError):
        _ = made.no_such_setting
    with pytest.raises(ValueError, match="return_tensors='pt'"):
        made.preprocess(Image.new("RGB", (8, 8)))
    with pytest.raises(ValueError, match="return_tensors='pt'"):
        made.preprocess(Image.new("RGB", (8, 8)), return_tensors="np")
