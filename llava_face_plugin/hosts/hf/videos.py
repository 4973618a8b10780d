"""Label maps of videos: which frames the video processor takes, and their maps in its geometry."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.image_utils import load_image
from transformers.video_utils import make_batched_videos

from ...errors import FaceDataError
from ...labels import NO_MAP
from .. import label_channel
from .maps import AS_IDS, MapSource, as_picture

_SAMPLING = ("do_sample_frames", "num_frames", "fps", "video_metadata")
_GEOMETRY = ("do_resize", "size", "default_to_square", "do_center_crop", "crop_size", "do_pad", "size_divisor")
_UNTOUCHED = {
    "do_resize": False,
    "do_center_crop": False,
    "do_convert_rgb": False,
    "do_rescale": False,
    "do_normalize": False,
}


def decoded(videos: Any, processor: Any) -> tuple[list[Any], dict[str, Any]]:
    """One array (frames, ...) for each video, and what else the video processor must be told of them.

    Videos by path or address are decoded whole, by transformers' own decoder; frames by path are read.
    """
    flat: list[Any] = list(make_batched_videos(videos))
    if flat and isinstance(flat[0], str):
        fetched = [processor.fetch_videos(path) for path in flat]
        return [video for video, _ in fetched], {"video_metadata": [[metadata] for _, metadata in fetched]}
    return [_frames_of(video) for video in flat], {}


def _frames_of(video: Any) -> Any:
    if not isinstance(video, list | tuple):
        return video
    return np.stack([np.asarray(load_image(frame)) for frame in video])


def channels(
    videos: Sequence[Any], given: Any, processor: Any, source: MapSource, options: Mapping[str, Any]
) -> list[Tensor | None]:
    """For each video the maps of the frames that the processor takes, (frames, H, W) as it makes its pixels.

    Args:
        videos: as ``decoded`` gives them.
        given: one item a video, see ``FaceVideoProcessor``.
        options: what the video processor was called with.

    None for a video without any map. Raises ``FaceDataError`` if maps and frames do not go together.
    """
    each = _one_a_video(given, len(videos))
    maps = [_one_a_frame(item, len(videos[i]), f"video_segmentation_maps[{i}]") for i, item in enumerate(each)]
    taken = _frames_taken(processor, [len(video) for video in videos], options)
    geometry = {name: options[name] for name in _GEOMETRY if name in options}
    out: list[Tensor | None] = []
    for index, (video, labels, numbers) in enumerate(zip(videos, maps, taken, strict=True)):
        frames = [video[number] for number in numbers]
        names = [f"video_segmentation_maps[{index}][{number}]" for number in numbers]
        found = source.of(frames, [labels[number] for number in numbers], names)
        out.append(_as_frames(frames, found, processor, geometry))
    return out


def _one_a_video(given: Any, count: int) -> list[Any]:
    if given is None:
        return [None] * count
    each = list(given) if isinstance(given, list | tuple) else [given]  # of the only video
    if len(each) != count:
        raise FaceDataError(f"{len(each)} video_segmentation_maps for {count} videos; give None for one without")
    return each


def _one_a_frame(given: Any, count: int, where: str) -> list[Any]:
    if given is None:
        return [None] * count
    if isinstance(given, Tensor):
        given = given.cpu().numpy()
    if not (isinstance(given, list | tuple) or (isinstance(given, np.ndarray) and given.ndim == 3)):
        kind = f"an array {given.shape}" if isinstance(given, np.ndarray) else type(given).__name__
        raise FaceDataError(f"{where}: expected a list with a map for each frame, or (frames, H, W) ids, got {kind}")
    if len(given) != count:
        raise FaceDataError(f"{where}: {len(given)} maps for {count} frames; give None for a frame without")
    return list(given)


def _frames_taken(processor: Any, counts: Sequence[int], options: Mapping[str, Any]) -> list[list[int]]:
    """Numbers of the frames that the processor takes of videos so long: frames of their own numbers go through it."""
    # How sampling is called differs between releases; what it does to a video does not.
    sampling = {name: copy.deepcopy(options[name]) for name in _SAMPLING if name in options}
    clips = [np.broadcast_to(np.arange(count).reshape(-1, 1, 1, 1), (count, 3, 2, 2)).copy() for count in counts]
    out = processor(clips, **{**sampling, **_UNTOUCHED})["pixel_values_videos"]
    return [[int(frame[0, 0, 0]) for frame in clip] for clip in out]


def _as_frames(
    frames: Sequence[Any], maps: Sequence[np.ndarray | None], processor: Any, geometry: Mapping[str, Any]
) -> Tensor | None:
    """The maps through the video processor, as frames of ids: (frames, H, W); None for no map at all."""
    if all(labels is None for labels in maps):
        return None
    clip = np.stack([np.asarray(as_picture(labels, frame)) for labels, frame in zip(maps, frames, strict=True)])
    channel: Tensor = processor([clip], **{**geometry, **AS_IDS, "do_sample_frames": False})["pixel_values_videos"][0]
    channel = channel[:, 0].clone()
    for index, labels in enumerate(maps):
        if labels is None:
            channel[index] = NO_MAP
    return channel


def joined(pixels: Any, maps: Sequence[Tensor | None]) -> Any:
    """(B, frames, 3, H, W), or a list of videos -> the same with 4 channels."""
    each = [video if isinstance(video, Tensor) else torch.as_tensor(np.asarray(video)) for video in pixels]
    with_maps = [label_channel.join(video, channel) for video, channel in zip(each, maps, strict=True)]
    return torch.stack(with_maps) if isinstance(pixels, Tensor) else with_maps
