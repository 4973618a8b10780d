"""Anyres tiles (``image_aspect_ratio: anyres``, LLaVA 1.6 checkpoints) with the map cut as the image is."""

from __future__ import annotations

import functools
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from .. import label_channel
from ..patching import Patches


def patch_anyres(module: Any, mm_utils: Any, patches: Patches) -> None:
    """Wraps ``process_anyres_image`` in ``module``: the parser sees the whole image, once, and not its tiles."""
    plain = module.process_anyres_image
    if hasattr(plain, "_face"):  # taken over from mm_utils once that was wrapped
        return

    @functools.wraps(plain)
    def process_anyres_image(image: Image.Image, processor: Any, grid_pinpoints: Any) -> Tensor:
        if not isinstance(processor, label_channel.FaceImageProcessor):
            return plain(image, processor, grid_pinpoints)
        with processor.without_parser():
            tiles = plain(image, processor, grid_pinpoints)
        labels = processor.parse([image])[0]
        if labels is None:
            return tiles
        side = processor.crop_size["height"]
        columns, rows = mm_utils.get_anyres_image_grid_shape(image.size, grid_pinpoints, side)
        maps = label_channel.anyres(labels, (columns * side, rows * side), side)
        joined = [
            label_channel.join(tile, label_channel.through_processor(part, processor))
            for tile, part in zip(tiles, maps, strict=True)
        ]
        return torch.stack(joined, dim=0)

    process_anyres_image._face = True  # type: ignore[attr-defined]
    patches.set(module, "process_anyres_image", process_anyres_image)
