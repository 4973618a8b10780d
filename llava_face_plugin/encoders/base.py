"""What every segmentation encoder shares: its interface, its registry, and the reading of a label map."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import SegmentationConfig
from ..labels import NUM_PARTS
from ..registry import Registry

Vit = Callable[[Tensor], Tensor]
"""A frozen vision transformer handed in by the host: RGB (B, 3, H, W) in [0, 1] -> features (B, P, C)."""


class SegmentationEncoder(Protocol):
    """Label map -> tokens. Every parameter takes part in every forward, with or without a map."""

    def __call__(self, label_map: Tensor, grid: int, vit: Vit | None) -> Tensor:
        """``label_map`` (B, H, W), any dtype, ids as in labels.py, 255 = no map -> (B, grid^2, out_width)."""
        ...

    def reset_parameters(self) -> None: ...


ENCODERS: Registry[Callable[[SegmentationConfig, int, int], SegmentationEncoder]] = Registry("segmentation encoder")


def part_ids(label_map: Tensor) -> Tensor:
    """(B, H, W), float or integer -> int64 ids in 0..19, where 19 stands for "no map" and any unknown id.

    Wrong ids are refused where maps are read (parsing/maps.py); here nothing may branch on data.
    """
    ids = label_map.round().long()
    return torch.where((ids >= 0) & (ids < NUM_PARTS), ids, NUM_PARTS)


def has_map(label_map: Tensor) -> Tensor:
    """(B, H, W) -> (B,) bool: whether any pixel of the map is known."""
    return (part_ids(label_map) < NUM_PARTS).flatten(1).any(dim=1)


def resample(tokens: Tensor, grid: int) -> Tensor:
    """(B, P, C) tokens of a square grid -> (B, grid^2, C), bilinear; unchanged where the grids agree."""
    batch, patches, width = tokens.shape
    side = math.isqrt(patches)
    if side == grid:
        return tokens
    image = tokens.transpose(1, 2).reshape(batch, width, side, side)
    image = F.interpolate(image.float(), size=(grid, grid), mode="bilinear", align_corners=False)
    return image.flatten(2).transpose(1, 2).to(tokens.dtype)
