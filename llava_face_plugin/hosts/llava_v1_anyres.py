"""Anyres tiles (``image_aspect_ratio: anyres``, LLaVA 1.6 checkpoints) with the map cut as the image is."""

from __future__ import annotations

import ast
import functools
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from . import label_channel
from .patching import Patches


def patch_anyres(mm_utils: Any, patches: Patches) -> None:
    """Wraps ``process_anyres_image``: the parser sees the whole image, once, and not its tiles."""
    plain = mm_utils.process_anyres_image

    @functools.wraps(plain)
    def process_anyres_image(image: Image.Image, processor: Any, grid_pinpoints: Any) -> Tensor:
        if not isinstance(processor, label_channel.FaceImageProcessor):
            return plain(image, processor, grid_pinpoints)
        with processor.without_parser():
            tiles = plain(image, processor, grid_pinpoints)
        labels = processor.parse([image])[0]
        if labels is None:
            return tiles
        resolutions = grid_pinpoints if isinstance(grid_pinpoints, list) else ast.literal_eval(grid_pinpoints)
        resolution = mm_utils.select_best_resolution(image.size, resolutions)
        maps = label_channel.anyres(labels, resolution, processor.crop_size["height"])
        joined = [
            label_channel.join(tile, label_channel.through_processor(part, processor))
            for tile, part in zip(tiles, maps, strict=True)
        ]
        return torch.stack(joined, dim=0)

    patches.set(mm_utils, "process_anyres_image", process_anyres_image)
