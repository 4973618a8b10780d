"""``segmentation_maps``: where maps come from, and that they lie where their images do."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import AutoProcessor

from llava_face_plugin.config import FaceConfig
from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.hosts.hf import FaceLlavaNextProcessor, FaceLlavaProcessor
from llava_face_plugin.hosts.hf import maps as hf_maps
from llava_face_plugin.hosts.hf.processing import FaceProcessor
from llava_face_plugin.labels import NO_MAP
from llava_face_plugin.maps.files import write_map
from llava_face_plugin.parsing.base import Parsed

from .tiny_hf import PINPOINTS, SIDE, load, next_images, open_gates, picture, switched_on

pytestmark = pytest.mark.contract

STEP = 10
"""Red value of a picture's pixel for each id of its map: what is seen can be compared with what is known."""


def pair(height: int, width: int) -> tuple[Image.Image, np.ndarray]:
    """A picture whose red is its map's ids times ``STEP``: blobs of parts on background."""
    random = np.random.default_rng(height * 1000 + width)
    coarse = random.integers(0, 19, (max(height // 16, 1), max(width // 16, 1)), dtype=np.uint8)
    labels = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST))
    return Image.fromarray(np.stack([labels * STEP, labels, labels], axis=-1).astype(np.uint8)), labels


def seen_ids(pixels: torch.Tensor, processor: Any) -> torch.Tensor:
    """(..., 4, H, W) -> the ids that the processed picture shows, (..., H, W)."""
    red = pixels[..., 0, :, :] * processor.image_std[0] + processor.image_mean[0]
    return (red * 255 / STEP).round()


def llava_images(**kwargs: Any) -> Any:
    return transformers.CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, **kwargs
    )


def padding_images() -> Any:
    """LLaVA 1.5's processor of transformers: padded to a square with the mean colour."""
    found = getattr(transformers, "LlavaImageProcessorPil", None) or transformers.LlavaImageProcessor
    return found(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, do_pad=True)


def onevision_images() -> Any:
    name = "LlavaOnevisionImageProcessorPil"
    found = getattr(transformers, name, None) or transformers.LlavaOnevisionImageProcessor
    return found(size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=PINPOINTS)


class Bare(FaceProcessor):
    """What the mixin needs of a processor."""

    def __init__(self, image_processor: Any) -> None:
        self.image_processor = image_processor

    def channel(self, images: Any, maps: list[np.ndarray | None]) -> torch.Tensor:
        found = self._as_images(images, maps, {})
        assert found is not None
        return found


@pytest.mark.parametrize("size", [(60, 90), (130, 70), (56, 56), (200, 180)])
@pytest.mark.parametrize("make", [llava_images, padding_images, next_images, onevision_images])
def test_the_map_lies_where_its_image_does(make: Any, size: tuple[int, int]) -> None:
    processor = make()
    image, labels = pair(*size)
    pixels = processor([image], return_tensors="pt")["pixel_values"]
    channel = Bare(processor).channel([image], [labels])
    assert channel.shape == (*pixels.shape[:-3], SIDE, SIDE)
    assert_lies_as_seen(channel, seen_ids(pixels, processor))


def assert_lies_as_seen(channel: torch.Tensor, seen: torch.Tensor) -> None:
    """Ids that are drawn here and there agree, except at the borders of parts, where bicubic and nearest resampling
    differ; ids moved by a few pixels do not."""
    assert set(channel.unique().tolist()) <= set(range(19))
    inside = channel != 0  # padding is the mean colour in some pictures
    agree = (seen == channel)[inside].float().mean()
    assert agree > 0.55
    for shift in (-8, 8):
        for axis in (-1, -2):
            moved = torch.roll(channel, shift, dims=axis)
            assert (seen == moved)[moved != 0].float().mean() < agree - 0.2


def test_onevision_cuts_the_maps_of_many_images_as_it_cuts_the_images() -> None:
    """With several images in a sample each is one padded tile; alone it is cut into tiles."""
    processor = onevision_images()
    images, maps = zip(*(pair(60, 90), pair(130, 70), pair(80, 80)), strict=True)
    nested = [[images[0], images[1]], [images[2]]]
    pixels = processor(nested, return_tensors="pt")["pixel_values"]
    channel = Bare(processor).channel(nested, list(maps))
    assert channel.shape == (*pixels.shape[:2], SIDE, SIDE)
    seen = seen_ids(pixels, processor)
    for index, tiles in ((0, 1), (1, 1), (2, 5)):
        assert_lies_as_seen(channel[index, :tiles], seen[index, :tiles])
    assert channel[0, 1:].abs().sum() == 0


@pytest.fixture
def processor(root: Path) -> FaceLlavaProcessor:
    return AutoProcessor.from_pretrained(switched_on("llava", root))


def one(processor: Any, given: Any, image: Image.Image) -> torch.Tensor:
    batch = processor(images=image, text="<image>a", segmentation_maps=given, return_tensors="pt")
    assert batch["pixel_values"].shape == (1, 4, SIDE, SIDE) and batch["pixel_values"].dtype == torch.float32
    return batch["pixel_values"][0, 3]


def test_every_way_to_give_a_map_is_the_same(processor: FaceLlavaProcessor, tmp_path: Path) -> None:
    image, labels = pair(80, 60)
    write_map(tmp_path / "m.png", labels)
    np.save(tmp_path / "m.npy", labels)
    expected = one(processor, labels, image)
    assert set(expected.unique().tolist()) <= set(labels.flatten().tolist())
    for given in (
        Image.fromarray(labels), torch.from_numpy(labels.copy()).long(), labels.astype(np.int64), [labels],
        tmp_path / "m.png", str(tmp_path / "m.npy"),
    ):  # fmt: skip
        assert torch.equal(one(processor, given, image), expected)
    smaller = Image.fromarray(labels).resize((30, 40), Image.Resampling.NEAREST)
    assert (one(processor, smaller, image) == expected).float().mean() > 0.8


def test_images_may_be_paths(processor: FaceLlavaProcessor, tmp_path: Path) -> None:
    image, labels = pair(80, 60)
    image.save(tmp_path / "face.png")
    path = str(tmp_path / "face.png")
    found = processor(images=[path], text=["<image>a"], segmentation_maps=[labels], return_tensors="pt")
    expected = processor(images=[image], text=["<image>a"], segmentation_maps=[labels], return_tensors="pt")
    assert torch.equal(found["pixel_values"], expected["pixel_values"])


def test_no_map_is_255_and_costs_no_second_pass(processor: FaceLlavaProcessor, monkeypatch: pytest.MonkeyPatch) -> None:
    image, labels = pair(80, 60)
    both = processor(
        images=[image, image], text=["<image>a", "<image>b"], segmentation_maps=[labels, None], return_tensors="pt"
    )
    assert torch.equal(both["pixel_values"][0, 3], one(processor, labels, image))
    assert bool((both["pixel_values"][1, 3] == NO_MAP).all())
    monkeypatch.setattr(FaceProcessor, "_as_images", lambda *args: None)
    assert bool((one(processor, None, image) == NO_MAP).all())


def test_pixels_and_text_are_upstreams(processor: FaceLlavaProcessor, root: Path) -> None:
    plain = AutoProcessor.from_pretrained(root / "llava")
    assert type(plain).__name__ == "LlavaProcessor"
    image, labels = pair(80, 60)
    expected = plain(images=image, text="<image>a", return_tensors="pt")
    found = processor(images=image, text="<image>a", segmentation_maps=labels, return_tensors="pt")
    assert torch.equal(found["input_ids"], expected["input_ids"])
    assert torch.equal(found["pixel_values"][:, :3], expected["pixel_values"])
    assert processor(text="a b").keys() == plain(text="a b").keys()
    untyped = processor(images=image, text="<image>a", segmentation_maps=labels)
    assert untyped["pixel_values"][0].shape == (4, SIDE, SIDE)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere.png", "no such file, and no such name"),
        (np.zeros((10, 40), dtype=np.uint8), "40x10, its image 60x80"),
        (np.zeros((80, 60), dtype=np.float32), "integer ids"),
        (np.full((80, 60), 77, dtype=np.uint8), "77"),
        (np.full((80, 60), 300), "0 to 255"),
        ([None, None], "2 segmentation_maps for 1 images"),
        (picture(80, 60), "mode RGB"),
    ],
)
def test_maps_that_are_none_are_refused(processor: FaceLlavaProcessor, given: Any, message: str) -> None:
    with pytest.raises(FaceDataError, match=message):
        one(processor, given, pair(80, 60)[0])


def test_names_are_looked_up_in_the_store(processor: FaceLlavaProcessor, tmp_path: Path) -> None:
    image, labels = pair(80, 60)
    write_map(tmp_path / "a" / "face.png", labels)
    expected = one(processor, labels, image)
    processor.use(FaceConfig.parse({"segmentation": {"maps": str(tmp_path)}}))
    assert torch.equal(one(processor, "a/face.jpg", image), expected)
    with pytest.raises(FaceDataError, match="no such name"):
        one(processor, "a/other.jpg", image)


def test_the_parser_fills_the_gaps(processor: FaceLlavaProcessor, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    class Thirteen:
        def parse(self, images: list[Image.Image]) -> list[Parsed]:
            asked.extend(image.size for image in images)
            return [Parsed(np.full((image.height, image.width), 13, dtype=np.uint8)) for image in images]

    monkeypatch.setattr(hf_maps, "build_parser", lambda config: Thirteen())
    processor.use(FaceConfig.parse({"segmentation": {"parser": {"type": "precomputed", "path": "/nowhere"}}}))
    image, labels = pair(80, 60)
    other = picture(56, 90)
    found = processor(
        images=[image, np.asarray(other)], text=["<image>a", "<image>b"], segmentation_maps=[labels, None],
        return_tensors="pt",
    )["pixel_values"]  # fmt: skip
    assert asked == [(90, 56)]
    assert bool((found[1, 3] == 13).all()) and not bool((found[0, 3] == 13).all())
    for duplicate in (copy.deepcopy(processor), pickle.loads(pickle.dumps(processor.map_source))):
        assert duplicate is not None  # without the parser, which cannot be copied


def test_saved_and_found_by_auto_processor(processor: FaceLlavaProcessor, tmp_path: Path, root: Path) -> None:
    assert type(processor) is FaceLlavaProcessor
    assert processor.face_config is not None and processor.face_config.enabled
    processor.save_pretrained(tmp_path)
    load(switched_on("llava", root)).config.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert type(again) is FaceLlavaProcessor and again.face_config == processor.face_config
    image, labels = pair(80, 60)
    assert torch.equal(one(again, labels, image), one(processor, labels, image))


@pytest.mark.parametrize("family", ["llava", "llava_next"])
@pytest.mark.parametrize("size", [(60, 90), (130, 70), (40, 160)])
def test_generating_from_picture_and_map(root: Path, family: str, size: tuple[int, int]) -> None:
    processor = AutoProcessor.from_pretrained(switched_on(family, root))
    assert type(processor) is {"llava": FaceLlavaProcessor, "llava_next": FaceLlavaNextProcessor}[family]
    model = load(switched_on(family, root))
    open_gates(model)
    image, labels = pair(*size)
    inputs = processor(images=[image], text=["<image>what"], segmentation_maps=[labels], return_tensors="pt")
    with torch.no_grad():
        with_map = model(**inputs).logits
        without = model(**processor(images=[image], text=["<image>what"], return_tensors="pt")).logits
    assert with_map.shape == without.shape and not torch.allclose(with_map, without, atol=1e-3)
    assert model.generate(**inputs, max_new_tokens=3, do_sample=False).shape[1] > inputs["input_ids"].shape[1]


@pytest.mark.parametrize("pool", [1, 2])
def test_append_is_counted_in_the_text(root: Path, pool: int) -> None:
    source = switched_on("llava", root, fusion="append")
    processor, model = AutoProcessor.from_pretrained(source), load(source)
    face = {**model.config.face, "fusion": {"type": "append", "pool": pool}}
    model = type(model).from_pretrained(source, face=face).eval()
    processor.use(FaceConfig.parse(face))
    inputs = processor(images=[pair(60, 90)[0]], text=["<image>a"], return_tensors="pt")
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == 16 + (16 if pool == 1 else 4)
    with torch.no_grad():
        assert model(**inputs).logits.shape[1] == inputs["input_ids"].shape[1]
