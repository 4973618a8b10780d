"""LLaVA-NeXT's dataset, wrapped: maps cut as the images are, labels a visual, errors that name the sample."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from llava_face_plugin.config import FaceConfig
from llava_face_plugin.errors import FaceDataError, FaceHostError
from llava_face_plugin.hosts.llava.collator import FaceCollator
from llava_face_plugin.hosts.llava_next.data import FaceNextDataset
from llava_face_plugin.labels import NO_MAP
from llava_face_plugin.maps.files import read_map, write_map
from tests.hosts_next import next_models
from tests.hosts_next.conftest import Assets
from tests.hosts_next.next_assets import PINPOINTS, SIDE

pytestmark = pytest.mark.contract

SIGLIP_SIDE = 384
RANGE = "(1x1),...,(6x6)"


@pytest.fixture(scope="module")
def parts(assets: Assets) -> SimpleNamespace:
    from llava.model.multimodal_encoder.siglip_encoder import SigLipImageProcessor
    from transformers import AutoTokenizer, CLIPImageProcessor

    from llava_face_plugin.hosts import llava_next

    llava_next.activate()  # as loading a face model does
    return SimpleNamespace(
        tokenizer=AutoTokenizer.from_pretrained(str(assets.qwen)),
        clip=CLIPImageProcessor.from_pretrained(str(assets.clip)),
        siglip=SigLipImageProcessor(),
    )


@pytest.fixture
def make(parts: SimpleNamespace, assets: Assets) -> Callable[..., tuple[Any, FaceNextDataset]]:
    """``make(name or samples, vision, settings, ...)`` -> upstream's dataset and the face dataset around another."""
    from llava_face_plugin.hosts.label_channel import FaceImageProcessor
    from llava_face_plugin.hosts.parsers import build_parser
    from llava_face_plugin.switch import resolve_knowledge

    knowledge = resolve_knowledge(assets.qwen, "made", tau=0.4)

    def build(
        data: str | list[dict[str, Any]], vision: str = "clip", segmentation: dict[str, Any] | None = None,
        folder: Path = assets.data, **arguments: Any,
    ) -> tuple[Any, FaceNextDataset]:  # fmt: skip
        file = folder / f"{data}.json"
        if not isinstance(data, str):
            file = folder / "given.json"
            file.write_text(json.dumps(data))
        config = FaceConfig.parse({"knowledge": knowledge, "segmentation": segmentation or {}})
        plain = getattr(parts, vision)
        wrapped = FaceImageProcessor(plain, lambda: build_parser(config))
        base = next_models.dataset(file, parts.tokenizer, plain, **arguments)
        return base, FaceNextDataset(next_models.dataset(file, parts.tokenizer, wrapped, **arguments), config)

    return build


def nearest(image: Image.Image, width: int, height: int) -> Image.Image:
    return image.resize((width, height), Image.Resampling.NEAREST)


def expected_tiles(labels: np.ndarray, pinpoints: list[list[int]], side: int) -> np.ndarray:
    """LLaVA-NeXT's anyres written out with Pillow alone: best resolution, scaled to fit, centred, cut."""
    image = Image.fromarray(labels)
    width, height = image.size

    def fit(resolution: list[int]) -> tuple[int, int]:
        scale = min(resolution[0] / width, resolution[1] / height)
        effective = min(int(width * scale) * int(height * scale), width * height)
        return effective, effective - resolution[0] * resolution[1]

    wide, high = max(pinpoints, key=fit)
    if wide / width < high / height:
        size = (wide, min(math.ceil(height * wide / width), high))
    else:
        size = (min(math.ceil(width * high / height), wide), high)
    canvas = Image.new("L", (wide, high), 0)
    canvas.paste(nearest(image, *size), ((wide - size[0]) // 2, (high - size[1]) // 2))
    boxes = [(x, y, x + side, y + side) for y in range(0, high, side) for x in range(0, wide, side)]
    return np.stack([np.asarray(nearest(image, side, side)), *(np.asarray(canvas.crop(box)) for box in boxes)])


@pytest.mark.parametrize(
    ("vision", "aspect", "pinpoints"),
    [
        ("clip", "anyres", PINPOINTS),
        ("clip", "anyres_max_9", json.loads(PINPOINTS)),
        ("siglip", "anyres_max_9", [[384, 768], [768, 384]]),
        ("siglip", "anyres_max_9", RANGE),
    ],
)
def test_the_tiles_of_a_map_follow_those_of_its_image(
    make: Any, assets: Assets, vision: str, aspect: str, pinpoints: Any
) -> None:
    plain, face = make("images", vision, image_aspect_ratio=aspect, image_grid_pinpoints=pinpoints)
    side = SIDE if vision == "clip" else SIGLIP_SIDE
    sizes = json.loads(pinpoints) if isinstance(pinpoints, str) and pinpoints != RANGE else pinpoints
    if pinpoints == RANGE:
        sizes = [[side * i, side * j] for i in range(1, 7) for j in range(1, 7)]
    for i, sample in enumerate(plain.list_data_dict):
        (pixels, size, kind), (reference, *rest) = face[i]["image"][0], plain[i]["image"][0]
        assert torch.equal(pixels[:, :3], reference) and [size, kind] == rest
        if "face_map" not in sample:
            assert bool((pixels[:, 3] == NO_MAP).all())
            continue
        expected = expected_tiles(read_map(assets.data / sample["face_map"]), sizes, side)
        assert np.array_equal(pixels[:, 3].numpy(), expected), sample["id"]
        assert len(np.unique(expected)) > 3


def padded(labels: np.ndarray, side: int) -> np.ndarray:
    image = Image.fromarray(labels)
    canvas = Image.new("L", (max(image.size),) * 2, 0)
    canvas.paste(image, ((canvas.width - image.width) // 2, (canvas.height - image.height) // 2))
    return np.asarray(nearest(canvas, side, side))


@pytest.mark.parametrize("vision", ["clip", "siglip"])
@pytest.mark.parametrize("aspect", ["pad", "square"])
def test_a_map_is_padded_or_cropped_with_its_image(make: Any, assets: Assets, aspect: str, vision: str) -> None:
    plain, face = make("images", vision, image_aspect_ratio=aspect)
    side = SIDE if vision == "clip" else SIGLIP_SIDE
    for i, sample in enumerate(plain.list_data_dict[:3]):
        pixels = face[i]["image"][0][0]
        assert torch.equal(pixels[:3], plain[i]["image"][0][0])
        labels = read_map(assets.data / sample["face_map"])
        height, width = labels.shape
        if aspect == "pad":
            expected = padded(labels, side)
        elif vision == "siglip":  # squeezed
            expected = np.asarray(nearest(Image.fromarray(labels), side, side))
        else:
            scale = side / min(width, height)
            size = (side, int(height * scale)) if width <= height else (int(width * scale), side)
            resized = np.asarray(nearest(Image.fromarray(labels), *size))
            top, left = (resized.shape[0] - side) // 2, (resized.shape[1] - side) // 2
            expected = resized[top : top + side, left : left + side]
        assert np.array_equal(pixels[3].numpy(), expected), sample["id"]


def test_several_images_have_a_map_and_a_row_each(make: Any, assets: Assets) -> None:
    """Upstream pads several images, whatever --image_aspect_ratio says."""
    plain, face = make("multi_image")
    item = face[0]
    (first, *_), (second, *_) = item["image"]
    assert [torch.equal(image[0][:3], ref[0]) for image, ref in zip(item["image"], plain[0]["image"], strict=True)] == [
        True,
        True,
    ]
    assert np.array_equal(first[3].numpy(), padded(read_map(assets.data / "maps" / "face0.png"), SIDE))
    assert bool((second[3] == NO_MAP).all())
    vocabulary = face.vocabulary
    given = plain.list_data_dict[0]["face_attributes"]
    assert item["face_attributes"].tolist() == [[row[name] for name in vocabulary] for row in given]


@pytest.mark.parametrize("kind", ["video", "frames"])
def test_frames_find_their_maps_by_their_pixels(make: Any, assets: Assets, tmp_path: Path, kind: str) -> None:
    """A frame's map comes from the precomputed parser: here of the first and the last frame that upstream takes."""
    from llava_face_plugin.parsing.precomputed import index

    plain, _ = make(kind)
    if kind == "video":
        from decord import VideoReader

        video = VideoReader(str(assets.data / "clip.mp4"))
        frames = [video[int(i)].asnumpy() for i in np.linspace(0, len(video) - 1, 4, dtype=int)]
    else:
        files = sorted((assets.data / "shareVideoGPTV" / "clip").iterdir())
        frames = [np.asarray(Image.open(files[i])) for i in np.linspace(0, len(files) - 1, 4, dtype=int)]
    pairs, maps = [], []
    for i in (0, 3):
        labels = np.full(frames[i].shape[:2], i, dtype=np.uint8)
        labels[: 10 + i, : 20 + i] = 13
        Image.fromarray(frames[i]).save(tmp_path / f"frame{i}.png")
        write_map(tmp_path / f"map{i}.png", labels)
        pairs.append((tmp_path / f"frame{i}.png", tmp_path / f"map{i}.png"))
        maps.append(labels)
    parser = {"type": "precomputed", "path": str(index(pairs, tmp_path).path)}
    _, face = make(kind, segmentation={"parser": parser})
    pixels, _, modality = face[0]["image"][0]
    assert modality == "video" and tuple(pixels.shape) == (4, 4, SIDE, SIDE)
    assert torch.equal(pixels[:, :3], plain[0]["image"][0][0])
    assert bool((pixels[1:3, 3] == NO_MAP).all())
    for found, labels in zip((pixels[0, 3], pixels[3, 3]), maps, strict=True):
        width = int(labels.shape[1] * SIDE / labels.shape[0])
        left = (width - SIDE) // 2
        expected = np.asarray(nearest(Image.fromarray(labels), width, SIDE))[:, left : left + SIDE]
        assert np.array_equal(found.numpy(), expected)
    assert tuple(face[0]["face_attributes"].shape) == (1, next_models.VOCABULARY)


def test_a_broken_map_of_a_frame_stops_the_training(make: Any, assets: Assets, tmp_path: Path) -> None:
    """Upstream takes the next sample for a video that fails: not for a map that fails."""
    from llava_face_plugin.parsing.precomputed import index

    first = sorted((assets.data / "shareVideoGPTV" / "clip").iterdir())[0]
    write_map(tmp_path / "map.png", np.zeros(np.asarray(Image.open(first)).shape[:2], dtype=np.uint8))
    parser = {"type": "precomputed", "path": str(index([(first, tmp_path / "map.png")], tmp_path).path)}
    write_map(tmp_path / "map.png", np.zeros((10, 90), dtype=np.uint8))
    _, face = make("frames", segmentation={"parser": parser})
    with pytest.raises(FaceDataError, match="frames.*row 0"):
        face[0]


def test_the_collator_adds_a_row_for_each_visual(make: Any, parts: SimpleNamespace) -> None:
    _, face = make("mixed")
    samples = face.list_data_dict
    base = next_models.collator(parts.tokenizer)
    chosen = [
        next(i for i, s in enumerate(samples) if s["id"] == name) for name in ("several", "text", "video", "bare")
    ]
    batch = FaceCollator(base)([face[i] for i in chosen])
    assert set(batch) == {
        "input_ids", "labels", "attention_mask", "images", "image_sizes", "modalities", "face_attributes",
    }  # fmt: skip
    assert batch["modalities"] == ["image", "image", "text", "video", "image"]
    rows = batch["face_attributes"]
    assert rows.dtype == torch.int8 and tuple(rows.shape) == (len(batch["images"]), next_models.VOCABULARY)
    several, video = samples[chosen[0]]["face_attributes"], samples[chosen[2]]["face_attributes"]
    unknown = [-1] * next_models.VOCABULARY
    expected = [[given[name] for name in face.vocabulary] for given in (*several, video)]
    assert rows.tolist() == [expected[0], expected[1], unknown, expected[2], unknown]


TURNS = [{"from": "human", "value": "<image>\nWho?"}, {"from": "gpt", "value": "No one."}]


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"image": "face0.png", "face_attributes": {"Smilling": 1}}, "Smilling"),
        ({"image": "face0.png", "face_attributes": {"Smiling": 2}}, "Smiling"),
        ({"image": ["face0.png", "face1.png"], "face_attributes": [{}]}, "1 face_attributes for 2 images"),
        ({"video": "clip.mp4", "face_attributes": [{}, {}]}, "2 face_attributes"),
        ({"image": ["face0.png", "face1.png"], "face_map": ["maps/face0.png"]}, "1 face maps for 2 images"),
        ({"image": ["face0.png"], "face_map": [7]}, "face_map is"),
        ({"video": "clip.mp4", "face_map": "maps/face0.png"}, "a face_map for a video"),
        ({"face_map": "maps/face0.png"}, "1 face maps for 0 images"),
        ({"image": [7]}, "image is"),
        ({"video": ["clip.mp4"]}, "video is"),
    ],
)
def test_a_sample_that_cannot_be_meant_is_named_at_once(make: Any, sample: dict[str, Any], message: str) -> None:
    with pytest.raises(FaceDataError, match=f"'odd', row 0.*{message}"):
        make([{"id": "odd", "conversations": TURNS, **sample}])


@pytest.mark.parametrize("maps", [["maps/nowhere.png", "maps/face1.png"], ["maps/face1.png", "maps/face1.png"]])
def test_a_map_that_is_missing_or_of_another_shape_is_named(make: Any, maps: list[str]) -> None:
    sample = {"id": "odd", "conversations": TURNS, "image": ["face0.png", "face1.png"], "face_map": maps}
    _, face = make([sample])
    with pytest.raises(FaceDataError, match="odd"):
        face[0]
    _, face = make([sample], segmentation={"bad_map": "no-map"})
    with pytest.warns(UserWarning, match="without a map"):
        (first, *_), (second, *_) = face[0]["image"]
    assert bool((first[3] == NO_MAP).all()) and not bool((second[3] == NO_MAP).all())


@pytest.mark.parametrize("aspect", ["highres", "crop_split"])
def test_a_cutting_that_maps_do_not_follow_is_refused(make: Any, aspect: str) -> None:
    with pytest.raises(FaceHostError, match=aspect):
        make("images", image_aspect_ratio=aspect)


@pytest.mark.parametrize("kind", ["image", "video"])
def test_upstream_may_take_the_next_sample_for_a_broken_one(
    make: Any, assets: Assets, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # upstream waits a second between its tries
    (assets.data / "broken.png").write_bytes((assets.data / "face0.png").read_bytes()[:200])
    (assets.data / "broken.mp4").write_bytes(b"nothing")
    good = json.loads((assets.data / "images.json").read_text())[1]
    broken = {"id": "odd", "conversations": TURNS, kind: f"broken.{'png' if kind == 'image' else 'mp4'}"}
    _, face = make([{**broken, "face_attributes": {"Smiling": 1}}, good])
    with pytest.warns(UserWarning, match="'odd', row 0.*cannot be read"):
        item = face[0]
    expected = face[1]
    assert item["id"] == good["id"] == expected["id"]
    assert torch.equal(item["face_attributes"], expected["face_attributes"])
    assert torch.equal(item["image"][0][0], expected["image"][0][0])


def test_a_store_is_asked_by_the_images_path(make: Any, assets: Assets, tmp_path: Path) -> None:
    from llava_face_plugin.parsing.precomputed import PrecomputedParser, index
    from llava_face_plugin.segment.run import Options, segment

    samples = json.loads((assets.data / "mixed.json").read_text())
    known = index([(assets.data / f"face{i}.png", assets.data / "maps" / f"face{i}.png") for i in range(2)], tmp_path)
    data = assets.data / "to_segment.json"
    data.write_text(json.dumps([s for s in samples if isinstance(s.get("image"), str)][:2]))
    segment(data, tmp_path / "store", lambda: PrecomputedParser(known.path), Options(image_folder=assets.data))
    bare = [{key: value for key, value in s.items() if key != "face_map"} for s in samples]
    _, expected = make("mixed")
    _, face = make(bare, segmentation={"maps": str(tmp_path / "store")})
    for i, sample in enumerate(samples):
        if sample["id"] in ("image0", "image1"):
            assert torch.equal(face[i]["image"][0][0], expected[i]["image"][0][0])
        if sample["id"] == "several":
            found, given = face[i]["image"], expected[i]["image"]
            assert torch.equal(found[0][0], given[0][0]) and not bool((found[1][0][3] == NO_MAP).all())


def test_workers_make_the_same_batches(make: Any, parts: SimpleNamespace) -> None:
    from torch.utils.data import DataLoader

    _, face = make("mixed")
    collate = FaceCollator(next_models.collator(parts.tokenizer))
    batches = [list(DataLoader(face, batch_size=3, collate_fn=collate, num_workers=n)) for n in (0, 2)]
    for here, there in zip(*batches, strict=True):
        assert torch.equal(here["face_attributes"], there["face_attributes"])
        assert all(torch.equal(a, b) for a, b in zip(here["images"], there["images"], strict=True))
