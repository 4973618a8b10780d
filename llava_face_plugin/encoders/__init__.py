"""Segmentation encoders: a label map becomes one token per patch of the image.

A segmentation encoder is a module built as ``Encoder(config, vision_width, out_width)`` and called as
``encoder(label_map, grid, vit) -> (B, grid * grid, out_width)``; see ``SegmentationEncoder``.
"""

from .base import ENCODERS, SegmentationEncoder, Vit
from .part_embedding import PartEmbedding
from .vit_palette import VitPalette

__all__ = ["ENCODERS", "PartEmbedding", "SegmentationEncoder", "Vit", "VitPalette"]
