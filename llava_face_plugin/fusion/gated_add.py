"""``gated_add``: tokens + gate * face tokens, the gate starting at zero. Our default: no extra LLM token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import FusionConfig
from .base import FUSIONS, Layers
from .inputs import FaceInputs, Sources


@FUSIONS.register("gated_add")
class GatedAdd(nn.Module):
    """One gate per channel. At gate 0 the result is the base model's, and only the gate gets a gradient."""

    reads_taps = reads_prompt = False
    adds_tokens = False

    def __init__(self, config: FusionConfig, vision_width: int, llm_width: int, sources: Sources) -> None:
        super().__init__()
        self.face_width = llm_width
        self.gate = nn.Parameter(torch.zeros(llm_width))

    def forward(self, layers: Layers, features: Tensor, face: FaceInputs) -> Tensor:
        return self.add(layers(features), face.tokens)

    def add(self, tokens: Tensor, face: Tensor) -> Tensor:
        """(B, P, D) both -> tokens + gate * face."""
        return tokens + (self.gate * face).to(tokens.dtype)

    def reset_parameters(self) -> None:
        """Closes the gate."""
        nn.init.zeros_(self.gate)
