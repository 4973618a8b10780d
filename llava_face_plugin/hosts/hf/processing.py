"""Processors with ``segmentation_maps``: the map as 4th channel of the pixels, in the geometry of its image."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    LlavaNextProcessor,
    LlavaNextVideoProcessor,
    LlavaOnevisionProcessor,
    LlavaProcessor,
    PretrainedConfig,
)
from transformers.image_utils import load_image, make_flat_list_of_images

from ...config import FaceConfig
from ...errors import FaceDataError
from ...fusion import FUSIONS
from ...labels import NO_MAP
from ...model_files import mark_code
from .. import label_channel
from . import videos as video_maps
from .carried import NotCopied, brings_code
from .maps import AS_IDS, MapSource, as_picture

_HUB = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
_GEOMETRY = (
    "do_resize", "size", "do_center_crop", "crop_size", "do_pad", "image_grid_pinpoints", "do_convert_rgb",
)  # fmt: skip


class FaceProcessor(NotCopied):
    """Mixin over ``LlavaProcessor`` and its kin. ``from_pretrained`` reads the model's ``face`` block."""

    face_config: FaceConfig | None = None
    map_source: MapSource | None = None
    brings_code = False
    """Whether its directory has ``auto_map``."""
    image_processor: Any  # upstream's

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """As upstream's. Raises ``FaceConfigError`` for a ``face`` block that is wrong."""
        hub = {key: kwargs[key] for key in _HUB if key in kwargs}
        processor = super().from_pretrained(pretrained_model_name_or_path, **kwargs)  # type: ignore[misc]
        try:
            config, _ = PretrainedConfig.get_config_dict(pretrained_model_name_or_path, **hub)
        except OSError:  # a folder with a processor alone
            return processor
        processor.use(FaceConfig.of(config, str(pretrained_model_name_or_path)))
        processor.brings_code = brings_code(config)
        return processor

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        """As upstream's, with what ``auto_map`` needs."""
        saved = super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]
        if self.brings_code:
            mark_code(Path(save_directory), type(self).__name__, on=True)
        return saved

    def use(self, face_config: FaceConfig | None) -> None:
        """Takes the parser and the map store of this block from now on; None: neither."""
        self.face_config = face_config
        self.map_source = MapSource(face_config) if face_config is not None else None

    def __call__(self, images: Any = None, text: Any = None, segmentation_maps: Any = None, **kwargs: Any) -> Any:
        """As upstream's, with ``pixel_values`` (..., 4, H, W): the 4th channel holds part ids, 255 = no map.

        Args:
            segmentation_maps: one map or a list with one for each image, None where there is none. A map is (H, W)
                part ids (PIL image, array, tensor), the path of a map file, or a name in the store that
                ``face.segmentation.maps`` names. Images without one are shown to ``face.segmentation.parser``.

        Raises ``FaceDataError`` for a map that cannot be read, is not found or does not fit its image.
        """
        images = _loaded(images)
        counting = copy.copy(self)
        counting._count_face_tokens()
        batch = super(FaceProcessor, counting).__call__(images=images, text=text, **kwargs)  # type: ignore[misc]
        if "pixel_values" in batch:
            source = self.map_source or MapSource(None)
            maps = source.of(_flat(images), segmentation_maps)
            geometry = {key: value for key, value in _options(kwargs, "images").items() if key in _GEOMETRY}
            channel = self._as_images(images, maps, geometry)
            batch["pixel_values"] = _joined(batch["pixel_values"], channel)
        return batch

    def _count_face_tokens(self) -> None:
        """For families whose placeholders can count tokens that a fusion adds."""

    def _as_images(self, images: Any, maps: Sequence[np.ndarray | None], geometry: dict[str, Any]) -> Tensor | None:
        """The maps through the image processor, as pictures of ids: (B, [tiles,] H, W); None for no map at all."""
        if all(labels is None for labels in maps):
            return None
        flat = _flat(images)
        pictures = iter([as_picture(labels, image) for labels, image in zip(maps, flat, strict=True)])
        nested = isinstance(images, list | tuple) and images and isinstance(images[0], list | tuple)
        # Nesting tells LLaVA-OneVision's processor how many images a sample has, and so how to cut them.
        as_given = [[next(pictures) for _ in sample] for sample in images] if nested else list(pictures)
        processor = copy.copy(self.image_processor)
        # Some pad with their mean colour. A map's padding is background, as in LLaVA 1.5's own image processing.
        processor.image_mean = [0.0, 0.0, 0.0]
        channel = processor(as_given, **{**geometry, **AS_IDS})["pixel_values"][..., 0, :, :].round()
        for index, labels in enumerate(maps):
            if labels is None:
                channel[index] = NO_MAP  # the padding too
        return channel


class FaceVideoProcessor(FaceProcessor):
    """Mixin over the processors that read videos, too."""

    video_processor: Any  # upstream's

    def __call__(
        self,
        images: Any = None,
        text: Any = None,
        segmentation_maps: Any = None,
        video_segmentation_maps: Any = None,
        **kwargs: Any,
    ) -> Any:
        """As ``FaceProcessor``'s, and ``pixel_values_videos`` (B, frames, 4, H, W).

        Args:
            video_segmentation_maps: a list with one item for each video: None; a list with one map for each frame of
                the video as it was given, None where there is none, maps as in ``segmentation_maps``; or an array or
                tensor (frames, H, W) of ids. For one video the array alone will do. Where the video processor takes
                some of the frames, their maps are taken. Frames without one are shown to
                ``face.segmentation.parser``, each of those that are taken.

        Raises ``FaceDataError`` as ``FaceProcessor``'s, and where a video has not as many maps as frames.
        """
        source = self.map_source or MapSource(None)
        videos: Any = kwargs.get("videos")
        if videos is None and video_segmentation_maps is not None:
            raise FaceDataError("video_segmentation_maps were given, but no videos")
        mapped = videos is not None and (video_segmentation_maps is not None or source.parses)
        if mapped:
            videos, known = video_maps.decoded(videos, self.video_processor)
            kwargs = {**kwargs, "videos": videos, **known}
        batch = super().__call__(images, text, segmentation_maps, **kwargs)
        if "pixel_values_videos" in batch:
            pixels = batch["pixel_values_videos"]
            channels: list[Tensor | None] = [None] * len(pixels)
            if mapped:
                options = _options(kwargs, "videos")
                channels = video_maps.channels(videos, video_segmentation_maps, self.video_processor, source, options)
            batch["pixel_values_videos"] = video_maps.joined(pixels, channels)
        return batch


def _options(kwargs: dict[str, Any], modality: str) -> dict[str, Any]:
    """What the processor of images or videos was called with, through the whole processor's arguments."""
    return {**kwargs, **(kwargs.get(f"{modality}_kwargs") or {})}


def _loaded(images: Any) -> Any:
    """Paths and addresses as pictures, at any depth: once, and not again for the map."""
    if isinstance(images, list | tuple):
        return [_loaded(image) for image in images]
    return load_image(images) if isinstance(images, str) else images


def _flat(images: Any) -> list[Any]:
    """One list, whether it was one image, a list, or a list for each sample."""
    return list(make_flat_list_of_images(images))  # type: ignore[arg-type]


def _joined(pixels: Any, channel: Tensor | None) -> Any:
    if isinstance(pixels, Tensor):
        return label_channel.join(pixels, channel)
    each = [torch.as_tensor(np.asarray(one)) for one in pixels]
    return [label_channel.join(one, None if channel is None else channel[i]) for i, one in enumerate(each)]


class FaceLlavaProcessor(FaceProcessor, LlavaProcessor):  # type: ignore[misc]
    """LLaVA 1.5's processor with label maps."""

    def _count_face_tokens(self) -> None:
        face = self.face_config
        if face is None or not FUSIONS[face.fusion.type].adds_tokens:  # type: ignore[attr-defined]
            return
        size = dict(getattr(self.image_processor, "crop_size", None) or self.image_processor.size)
        grid = size["height"] // self.patch_size
        self.num_additional_image_tokens += math.ceil(grid / face.fusion.pool) ** 2


class FaceLlavaNextProcessor(FaceProcessor, LlavaNextProcessor):  # type: ignore[misc]
    """LLaVA-NeXT's processor with label maps, one for each tile."""


class FaceLlavaOnevisionProcessor(FaceVideoProcessor, LlavaOnevisionProcessor):  # type: ignore[misc]
    """LLaVA-OneVision's processor with label maps, one for each tile of an image and each frame of a video."""


class FaceLlavaNextVideoProcessor(FaceVideoProcessor, LlavaNextVideoProcessor):  # type: ignore[misc]
    """LLaVA-NeXT-Video's processor with label maps, one for each tile of an image and each frame of a video."""
