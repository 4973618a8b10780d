"""``channel``: face features beside the image features, channel by channel, before the projector.

A projector over [g; f] with weight [W_g, W_f] is W_g g + W_f f: the host keeps its own first layer, and only
the new columns W_f are ours, starting at zero.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import FusionConfig
from .base import FUSIONS, Layers
from .inputs import FaceInputs, Sources


@FUSIONS.register("channel")
class Channel(nn.Module):
    """New zero columns for the projector's first layer."""

    reads_taps = reads_prompt = False
    adds_tokens = False

    def __init__(self, config: FusionConfig, vision_width: int, llm_width: int, sources: Sources) -> None:
        super().__init__()
        self.face_width = vision_width
        self.columns = nn.Parameter(torch.zeros(llm_width, vision_width))

    def forward(self, layers: Layers, features: Tensor, face: FaceInputs) -> Tensor:
        hidden = layers.first(features)  # (B, P, D)
        hidden = hidden + F.linear(face.tokens.to(self.columns.dtype), self.columns).to(hidden.dtype)
        return layers.rest(hidden)

    def reset_parameters(self) -> None:
        """Zero columns: the base model again."""
        nn.init.zeros_(self.columns)
