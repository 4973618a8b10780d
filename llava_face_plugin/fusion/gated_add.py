"""``gated_add``: tokens + gate * face tokens, the gate starting at zero. Our default: no extra LLM token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import FusionConfig
from .base import FUSIONS, Layers


@FUSIONS.register("gated_add")
class GatedAdd(nn.Module):
    """One gate per channel. At gate 0 the result is the base model's, and only the gate gets a gradient."""

    adds_tokens = False

    def __init__(self, config: FusionConfig, vision_width: int, llm_width: int) -> None:
        super().__init__()
        self.face_width = llm_width
        self.gate = nn.Parameter(torch.zeros(llm_width))

    def forward(self, layers: Layers, features: Tensor, face: Tensor) -> Tensor:
        tokens = layers(features)  # (B, P, D)
        return tokens + (self.gate * face).to(tokens.dtype)

    def reset_parameters(self) -> None:
        """Closes the gate."""
        nn.init.zeros_(self.gate)
