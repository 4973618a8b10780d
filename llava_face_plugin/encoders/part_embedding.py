"""``part-embedding``: histograms of face parts per patch, a linear embedding and a light mixer.

Our default for cost, not the paper's: about a million parameters at LLaVA-7B's width, and no second ViT.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import SegmentationConfig
from ..labels import NUM_PARTS
from .base import ENCODERS, Vit, part_ids


@ENCODERS.register("part-embedding")
class PartEmbedding(nn.Module):
    """Label map (B, H, W) -> (B, grid^2, out_width). A patch is read as ``cells`` x ``cells`` histograms."""

    def __init__(self, config: SegmentationConfig, vision_width: int, out_width: int) -> None:
        super().__init__()
        self.cells = config.cells
        width = config.width
        self.embed = nn.Linear(self.cells**2 * (NUM_PARTS + 1), width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Conv2d(width, width, kernel_size=3, padding=1, groups=width)
        self.widen = nn.Linear(width, 2 * width)
        self.project = nn.Linear(2 * width, out_width)

    def forward(self, label_map: Tensor, grid: int, vit: Vit | None = None) -> Tensor:
        histograms = part_histograms(label_map, grid, self.cells)
        x = self.embed(histograms.to(self.norm.weight.dtype))  # (B, P, width)
        image = self.norm(x).transpose(1, 2).unflatten(2, (grid, grid))
        x = x + self.mix(image).flatten(2).transpose(1, 2)
        return self.project(F.gelu(self.widen(x)))

    def reset_parameters(self) -> None:
        """Fresh weights, for hosts that overwrite what the constructor made."""
        for module in (self.embed, self.norm, self.mix, self.widen, self.project):
            module.reset_parameters()


def part_histograms(label_map: Tensor, grid: int, cells: int) -> Tensor:
    """(B, H, W) -> (B, grid^2, cells^2 * 20) float32: the share of each part in each cell of each patch.

    The shares of a cell sum to 1, or to 0 where a small map has no pixel in it. Counted by scatter: a one-hot
    map would take 20 times the image's memory.
    """
    batch, height, width = label_map.shape
    fine, classes = grid * cells, NUM_PARTS + 1
    device = label_map.device
    row = torch.arange(height, device=device) * fine // height
    column = torch.arange(width, device=device) * fine // width
    cell = row[:, None] * fine + column[None, :]  # (H, W)
    index = (cell * classes + part_ids(label_map)).flatten(1)  # (B, H * W)
    counts = torch.zeros(batch, fine * fine * classes, device=device)
    counts.scatter_add_(1, index, torch.ones_like(index, dtype=counts.dtype))
    counts = counts.view(batch, grid, cells, grid, cells, classes)
    counts = counts / counts.sum(dim=-1, keepdim=True).clamp(min=1.0)
    return counts.permute(0, 1, 3, 2, 4, 5).reshape(batch, grid * grid, cells * cells * classes)
