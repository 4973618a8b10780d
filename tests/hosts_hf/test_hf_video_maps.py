"""``video_segmentation_maps``: maps lie where their frames do, and belong to the frames that are taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from PIL import Image
from transformers.utils import is_torchvision_available
from transformers.video_utils import make_batched_videos

from llava_face_plugin.config import FaceConfig
from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.hosts.hf import FaceLlavaNextVideoProcessor, FaceLlavaOnevisionProcessor
from llava_face_plugin.hosts.hf import maps as hf_maps
from llava_face_plugin.hosts.hf.processing import FaceVideoProcessor
from llava_face_plugin.labels import NO_MAP
from llava_face_plugin.maps.files import write_map
from llava_face_plugin.parsing.base import Parsed

from .test_hf_processing import assert_lies_as_seen, onevision_images, pair, seen_ids
from .tiny_hf import FRAMES, PATCH, SIDE, VIDEO_FAMILIES, VIDEO_TOKEN, load, next_images, open_gates, switched_on
from .tiny_hf import _tokenizer as tokenizer

pytestmark = pytest.mark.contract

needs_torchvision = pytest.mark.skipif(
    not is_torchvision_available(), reason="transformers' video processors need torchvision"
)
from_4_56 = pytest.mark.skipif(
    transformers.__version__.startswith("4.55."), reason="transformers 4.55 takes no such video"
)
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]


class SmallVideos:
    """What we ask of a video processor, without torchvision: samples, resizes, scales and normalises."""

    image_mean, image_std = MEAN, STD

    def __call__(self, videos: Any, return_tensors: str | None = None, **options: Any) -> dict[str, Any]:
        out = [self._one(torch.as_tensor(np.asarray(video)), options) for video in make_batched_videos(videos)]
        return {"pixel_values_videos": torch.stack(out) if return_tensors else out}

    def _one(self, video: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        video = video if video.shape[1] == 3 else video.permute(0, 3, 1, 2)
        if options.get("do_sample_frames"):
            wanted = options.get("num_frames") or int(len(video) / options["video_metadata"][0]["fps"] * options["fps"])
            video = video[torch.arange(0, len(video), len(video) / wanted).int().long()]
        if options.get("do_resize", True):
            mode = "nearest-exact" if options.get("resample") == Image.Resampling.NEAREST else "bilinear"
            video = F.interpolate(video.float(), (SIDE, SIDE), mode=mode)
        if options.get("do_rescale", True):
            video = video / 255
        if options.get("do_normalize", True):
            video = (video - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        return video


class SmallProcessor:
    """The whole processor around it."""

    def __call__(self, images: Any = None, text: Any = None, videos: Any = None, **options: Any) -> dict[str, Any]:
        return dict(self.video_processor(videos, **options)) if videos is not None else {}


class Small(FaceVideoProcessor, SmallProcessor):  # type: ignore[misc]
    def __init__(self) -> None:
        self.video_processor = SmallVideos()


def real(family: str) -> Any:
    """The family's own."""
    size = {"size": {"height": SIDE, "width": SIDE}}
    if family == "llava_onevision":
        videos = transformers.LlavaOnevisionVideoProcessor(**size)
        return FaceLlavaOnevisionProcessor(
            onevision_images(), tokenizer(), videos, num_image_tokens=16, vision_feature_select_strategy="full"
        )
    cropped = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    videos = transformers.LlavaNextVideoVideoProcessor(**cropped)
    words = tokenizer(transformers.LlamaTokenizerFast) if transformers.__version__.startswith("4.") else tokenizer()
    return FaceLlavaNextVideoProcessor(
        videos, next_images(), words, patch_size=PATCH, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )  # fmt: skip


@pytest.fixture(params=["small", *(pytest.param(family, marks=needs_torchvision) for family in VIDEO_FAMILIES)])
def processor(request: pytest.FixtureRequest) -> Any:
    return Small() if request.param == "small" else real(request.param)


def clip(height: int, width: int, frames: int = FRAMES) -> tuple[np.ndarray, np.ndarray]:
    """Frames (F, H, W, 3) and their maps (F, H, W): of the same picture, each part one further at each frame."""
    image, labels = pair(height, width)
    maps = np.stack([(labels + number) % 19 for number in range(frames)]).astype(np.uint8)
    return np.stack([maps * 10, *[np.stack([np.asarray(image)[..., 1]] * frames)] * 2], axis=-1), maps


def numbered(frames: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Frame n has the colour 10 n and the map n throughout."""
    numbers = np.arange(frames, dtype=np.uint8)
    colours = np.broadcast_to((10 * numbers)[:, None, None, None], (frames, 60, 60, 3)).copy()
    return colours, np.broadcast_to(numbers[:, None, None], (frames, 60, 60)).copy()


def ask(processor: Any, videos: Any, given: Any = None, **options: Any) -> Any:
    """``pixel_values_videos``; options as every release takes them."""
    text = ["<video>a"] * (len(videos) if isinstance(videos, list) and not isinstance(videos[0], Image.Image) else 1)
    batch = processor(text=text, videos=videos, video_segmentation_maps=given, return_tensors="pt", **options)
    return batch["pixel_values_videos"]


@pytest.mark.parametrize("size", [(60, 90), (130, 70), (56, 56)])
def test_the_map_lies_where_its_frame_does(processor: Any, size: tuple[int, int]) -> None:
    video, maps = clip(*size)
    pixels = ask(processor, [video], [maps])
    assert pixels.shape == (1, FRAMES, 4, SIDE, SIDE) and pixels.dtype == torch.float32
    for frame in pixels[0]:
        assert_lies_as_seen(frame[3], seen_ids(frame, processor.video_processor))


def test_every_way_to_give_the_maps_is_the_same(processor: Any, tmp_path: Path) -> None:
    video, maps = clip(60, 90)
    expected = ask(processor, [video], [maps])
    for number, labels in enumerate(maps):
        write_map(tmp_path / f"{number}.png", labels)
    paths = [str(tmp_path / f"{number}.png") for number in range(FRAMES)]
    pictures = [Image.fromarray(labels) for labels in maps]
    for given in (maps, torch.from_numpy(maps), [list(maps)], [torch.from_numpy(maps).long()], [pictures], [paths]):
        assert torch.equal(ask(processor, [video], given), expected)
    frames = [Image.fromarray(frame) for frame in video]
    first = video.transpose(0, 3, 1, 2).copy()  # channels first
    for same in (video, frames, [frames], [first], [torch.from_numpy(first)]):
        assert torch.equal(ask(processor, same, [maps]), expected)


def test_frames_and_videos_without_a_map(processor: Any) -> None:
    video, maps = clip(60, 90)
    whole = ask(processor, [video], [maps])[0]
    found = ask(processor, [video, video], [None, [maps[0], None, maps[2]]])
    assert bool((found[0, :, 3] == NO_MAP).all()) and bool((found[1, 1, 3] == NO_MAP).all())
    assert torch.equal(found[1, ::2], whole[::2])
    assert torch.equal(found[0, :, :3], whole[:, :3])
    for none in (None, [None], [[None] * FRAMES]):
        alone = ask(processor, [video], none)
        assert bool((alone[:, :, 3] == NO_MAP).all()) and torch.equal(alone[0, :, :3], whole[:, :3])


def seen_numbers(pixels: torch.Tensor, processor: Any) -> list[int]:
    """Of the frames of ``numbered``, as they are seen."""
    mean, std = processor.video_processor.image_mean[0], processor.video_processor.image_std[0]
    return [round(float(frame[0].mean() * std + mean) * 25.5) for frame in pixels]


@pytest.mark.parametrize("wanted", [2, 3, 4, 6])  # one: 4.57's own sampling fails
def test_the_frames_that_are_sampled_bring_their_maps(processor: Any, wanted: int) -> None:
    video, maps = numbered()
    pixels = ask(processor, [video, video[::-1].copy()], [maps, maps[::-1]], do_sample_frames=True, num_frames=wanted)
    assert pixels.shape == (2, wanted, 4, SIDE, SIDE)
    for one in pixels:
        assert one[:, 3].flatten(1).unique(dim=1).flatten().tolist() == seen_numbers(one, processor)
    assert seen_numbers(pixels[0], processor)[0] == 0 and seen_numbers(pixels[1], processor)[0] == 5


@from_4_56
def test_sampling_by_time(processor: Any) -> None:
    video, maps = numbered()
    metadata = [{"fps": 3.0, "total_num_frames": 6, "duration": 2.0, "video_backend": "none"}]
    pixels = ask(processor, [video], [maps], do_sample_frames=True, fps=1, video_metadata=metadata)
    assert pixels[0, :, 3, 0, 0].tolist() == seen_numbers(pixels[0], processor) == [0, 3]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([np.zeros((4, 60, 60), np.uint8)], r"video_segmentation_maps\[0\]: 4 maps for 6 frames"),
        ([None, None], "2 video_segmentation_maps for 1 videos"),
        (["clip.npy"], r"video_segmentation_maps\[0\]: expected a list with a map for each frame.* got str"),
        ([np.zeros((60, 60), np.uint8)], r"got an array \(60, 60\)"),
        ([[*[None] * 5, np.zeros((10, 40), np.uint8)]], r"maps\[0\]\[5\]: the map is 40x10, its image 60x60"),
        ([[*[None] * 5, np.full((60, 60), 77)]], r"video_segmentation_maps\[0\]\[5\].*77"),
        ([[*[None] * 5, "nowhere.png"]], r"maps\[0\]\[5\] 'nowhere.png': no such file"),
    ],
)
def test_maps_that_do_not_fit_are_refused(processor: Any, given: Any, message: str) -> None:
    with pytest.raises(FaceDataError, match=message):
        ask(processor, [numbered()[0]], given)


def test_maps_without_a_video_are_refused(processor: Any) -> None:
    with pytest.raises(FaceDataError, match="no videos"):
        processor(text=["a"], video_segmentation_maps=[numbered()[1]])


def test_the_parser_sees_the_taken_frames_that_have_no_map(processor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Thirteen:
        def parse(self, images: list[Image.Image]) -> list[Parsed]:
            asked.extend(np.asarray(image)[0, 0, 0] // 10 for image in images)
            return [Parsed(np.full((image.height, image.width), 13, dtype=np.uint8)) for image in images]

    monkeypatch.setattr(hf_maps, "build_parser", lambda config: Thirteen())
    processor.use(FaceConfig.parse({"segmentation": {"parser": {"type": "precomputed", "path": "/nowhere"}}}))
    video, maps = numbered()
    pixels = ask(processor, [video], [[maps[0], *[None] * 5]], do_sample_frames=True, num_frames=3)
    assert asked == [2, 4] and pixels[0, :, 3, 0, 0].tolist() == [0, 13, 13]
    asked.clear()
    assert bool((ask(processor, [video])[:, :, 3] == 13).all()) and asked == list(range(6))


def test_a_video_by_its_path(processor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded once, whole, by transformers; then as an array."""
    video, maps = numbered()
    fetched: list[str] = []

    def fetch(path: str) -> Any:
        fetched.append(path)
        return video, {"fps": 3.0, "total_num_frames": 6, "duration": 2.0, "video_backend": "none"}

    monkeypatch.setattr(processor.video_processor, "fetch_videos", fetch, raising=False)
    pixels = ask(processor, ["a.mp4"], [maps], do_sample_frames=True, num_frames=3)
    assert fetched == ["a.mp4"] and pixels[0, :, 3, 0, 0].tolist() == [0, 2, 4]


@from_4_56
def test_frames_by_their_paths(processor: Any, tmp_path: Path) -> None:
    video, maps = clip(60, 90)
    for number, frame in enumerate(video):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    paths = [str(tmp_path / f"{number}.png") for number in range(FRAMES)]
    assert torch.equal(ask(processor, [[paths]], [maps]), ask(processor, [video], [maps]))


def test_without_tensors_asked_for(processor: Any) -> None:
    short, long = numbered(2), numbered(3)
    if not isinstance(processor, Small):
        short = long  # upstream counts the tokens of the first video alone, on 4.x
    found = processor(text=["<video>a"] * 2, videos=[short[0], long[0]], video_segmentation_maps=[short[1], None])
    first, second = found["pixel_values_videos"]
    assert np.asarray(first)[:, 3, 0, 0].tolist() == list(range(len(short[0])))
    assert bool((np.asarray(second)[:, 3] == NO_MAP).all())


@needs_torchvision
@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_pixels_and_text_are_upstreams(family: str) -> None:
    ours = real(family)
    plain = getattr(transformers, type(ours).__name__.removeprefix("Face"))(**parts(ours))
    video, maps = clip(60, 90)
    image, labels = pair(80, 60)
    inputs = {"text": ["<image>a<video>b"], "images": [image], "videos": [video], "return_tensors": "pt"}
    expected = plain(**inputs)
    found = ours(**inputs, segmentation_maps=[labels], video_segmentation_maps=[maps])
    assert found.keys() == expected.keys() and torch.equal(found["input_ids"], expected["input_ids"])
    for name in ("pixel_values", "pixel_values_videos"):
        assert torch.equal(found[name][..., :3, :, :], expected[name])
        assert int(found[name][..., 3, :, :].max()) <= 18


def parts(processor: Any) -> dict[str, Any]:
    names = ("image_processor", "tokenizer", "video_processor", "vision_feature_select_strategy")
    own = ("num_image_tokens", "patch_size", "num_additional_image_tokens")
    return {name: getattr(processor, name) for name in (*names, *own) if hasattr(processor, name)}


@needs_torchvision
@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_generating_from_video_image_and_maps(root: Path, tmp_path: Path, family: str) -> None:
    """Saved with the model, found by AutoProcessor, through the model."""
    model = load(switched_on(family, root))
    open_gates(model)
    model.config.save_pretrained(tmp_path)
    real(family).save_pretrained(tmp_path)
    processor = transformers.AutoProcessor.from_pretrained(tmp_path)
    assert type(processor) is type(real(family)) and processor.face_config is not None
    video, maps = clip(60, 90)
    image, labels = pair(80, 60)
    asked = {"text": ["<image>a<video>b"], "images": [image], "videos": [video], "return_tensors": "pt"}
    inputs = processor(**asked, segmentation_maps=[labels], video_segmentation_maps=[maps])
    assert int((inputs["input_ids"] == VIDEO_TOKEN).sum()) == FRAMES * 4 + (family == "llava_onevision")
    attributes = torch.ones(2, 20, dtype=torch.int8)
    output = model.train()(**inputs, labels=inputs["input_ids"], face_attributes=attributes)
    output.loss.backward()
    with torch.no_grad():
        with_maps, without = model.eval()(**inputs).logits, model(**processor(**asked)).logits
    assert with_maps.shape == without.shape and not torch.allclose(with_maps, without, atol=1e-3)
    new = model.generate(**inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert new.shape[1] == inputs["input_ids"].shape[1] + 3
