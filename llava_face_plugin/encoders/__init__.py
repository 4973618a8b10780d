"""Encoders: a label map, or the pixels of a face, become features on the grid of the image's patches.

A segmentation encoder is a module built as ``Encoder(config, vision_width, out_width)`` and called as
``encoder(label_map, grid, vit) -> (B, grid * grid, out_width)``; see ``SegmentationEncoder``. The facial encoder is one
module for every vision transformer (facial.py); what differs is how its weights are read (``READERS``).
"""

from .base import ENCODERS, SegmentationEncoder, Vit
from .facial import FacialEncoder, TapAdapter
from .part_embedding import PartEmbedding
from .vit_palette import VitPalette
from .vit_weights import READERS

__all__ = [
    "ENCODERS", "READERS", "FacialEncoder", "PartEmbedding", "SegmentationEncoder", "TapAdapter", "Vit", "VitPalette",
]  # fmt: skip
