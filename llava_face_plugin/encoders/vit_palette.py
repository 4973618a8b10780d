"""``vit-palette``: the label map, painted in fixed colours, read by a frozen pre-trained ViT.

FaceInsight (arXiv 2504.15624): a pre-trained ViT encodes the segmentation map as a second visual modality,
and an MLP adapter brings it to the LLM. Palette, resolution and which ViT are our defaults.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import SegmentationConfig
from ..constants import Constants
from ..errors import FaceConfigError
from ..labels import PALETTE
from .base import ENCODERS, Vit, has_map, part_ids, resample

_NO_MAP_RGB = (122, 116, 104)  # CLIP's mean colour: nothing is there


@ENCODERS.register("vit-palette")
class VitPalette(nn.Module):
    """Label map (B, H, W) -> palette RGB -> frozen ViT (handed in) -> MLP -> (B, grid^2, out_width)."""

    def __init__(self, config: SegmentationConfig, vision_width: int, out_width: int) -> None:
        super().__init__()
        vit_width = config.vision_width if config.vision_tower else vision_width
        if vit_width is None:
            raise FaceConfigError("face.segmentation.vision_width is missing: run `llava-face enable` again")
        self.widen = nn.Linear(vit_width, config.width)
        self.project = nn.Linear(config.width, out_width)
        self.no_map = nn.Parameter(torch.zeros(out_width))
        self._constants = Constants()

    def forward(self, label_map: Tensor, grid: int, vit: Vit | None) -> Tensor:
        if vit is None:
            raise ValueError("vit-palette needs the host's ViT")
        features = resample(vit(self.paint(label_map)), grid)  # (B, P, C)
        # The ViT may live on another device, where a large model is spread over several.
        features = features.to(device=label_map.device, dtype=self.no_map.dtype)
        x = self.project(F.gelu(self.widen(features)))
        return torch.where(has_map(label_map)[:, None, None], x, self.no_map.to(x.dtype))

    def paint(self, label_map: Tensor) -> Tensor:
        """(B, H, W) ids -> (B, 3, H, W) float32 RGB in [0, 1]."""
        colours = self._constants.get("palette", PALETTE_RGB, label_map.device, torch.float32)
        return colours[part_ids(label_map)].permute(0, 3, 1, 2)

    def reset_parameters(self) -> None:
        """Fresh weights, for hosts that overwrite what the constructor made."""
        self.widen.reset_parameters()
        self.project.reset_parameters()
        nn.init.zeros_(self.no_map)


PALETTE_RGB = [[channel / 255 for channel in colour] for colour in [*PALETTE.tolist(), _NO_MAP_RGB]]
