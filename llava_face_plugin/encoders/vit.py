"""A vision transformer in plain torch: one code for CLIP, FaRL, SigLIP and DINOv2, frozen or trained.

transformers' own classes would do for the frozen case. A trained one hangs under the projector, where their leaf
names (``q_proj``, ``fc1``, ...) are those that LLaVA's LoRA takes for the language model's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..facial_config import VitConfig

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),  # Hendrycks and Gimpel (2016), as CLIP uses it
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


class VisionTransformer(nn.Module):
    """Normalised pixels (B, 3, S, S), S = grid * patch -> outputs of the tapped blocks.

    Args:
        config: its shape.
        grid: patches along a side.
        depth: how many of the blocks are built; those behind the last tap would have no gradient.
    """

    def __init__(self, config: VitConfig, grid: int, depth: int) -> None:
        super().__init__()
        width = config.width
        self.patches = nn.Conv2d(3, width, config.patch, stride=config.patch, bias=config.patch_bias)
        self.class_token = nn.Parameter(torch.zeros(width)) if config.class_token else None
        self.registers = nn.Parameter(torch.zeros(config.registers, width)) if config.registers else None
        self.positions = nn.Parameter(torch.zeros(config.class_token + grid * grid, width))
        self.norm = nn.LayerNorm(width, eps=config.eps) if config.first_norm else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(depth))
        self._draw_tokens()

    def forward(self, pixels: Tensor, taps: Sequence[int]) -> list[Tensor]:
        """(B, grid^2, width) of the patches behind each block of ``taps``, before any further norm."""
        x = self.patches(pixels).flatten(2).transpose(1, 2)  # (B, grid^2, width)
        count = x.shape[1]
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), 1, -1), x], dim=1)
        x = x + self.positions
        if self.registers is not None:  # they have no position, and need not stand first: attention knows no order
            x = torch.cat([self.registers.expand(len(x), -1, -1), x], dim=1)
        if self.norm is not None:
            x = self.norm(x)
        found = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in taps:
                found.append(x[:, -count:])
        return found

    def reset_parameters(self) -> None:
        """Fresh weights."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, Block):
                module.open_residuals()
        self._draw_tokens()

    def _draw_tokens(self) -> None:
        for token in (self.class_token, self.registers, self.positions):
            if token is not None:
                nn.init.normal_(token, std=0.02)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), each residual with its factor where the shape has one."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.activation = config.activation
        self.norm_1 = nn.LayerNorm(width, eps=config.eps)
        self.qkv = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width, eps=config.eps)
        self.widen = nn.Linear(width, config.hidden)
        self.project = nn.Linear(config.hidden, width)
        self.scale_1 = nn.Parameter(torch.ones(width)) if config.layer_scale else None
        self.scale_2 = nn.Parameter(torch.ones(width)) if config.layer_scale else None

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v)  # (B, heads, tokens, width / heads)
        x = x + _scaled(self.merge(seen.transpose(1, 2).flatten(2)), self.scale_1)
        hidden = ACTIVATIONS[self.activation](self.widen(self.norm_2(x)))
        return x + _scaled(self.project(hidden), self.scale_2)

    def open_residuals(self) -> None:
        """Sets the factors of the residuals to 1."""
        for scale in (self.scale_1, self.scale_2):
            if scale is not None:
                nn.init.ones_(scale)


def _scaled(x: Tensor, scale: Tensor | None) -> Tensor:
    return x if scale is None else x * scale
