"""``append``: [image tokens; face tokens] along the sequence, the literal reading of FaceInsight.

The one fusion that adds LLM tokens (as many as the image has, or a quarter of them with ``pool`` 2) and so
the one that cannot equal the base model at step 0.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import FusionConfig
from .base import FUSIONS, Layers
from .inputs import FaceInputs, Sources


@FUSIONS.register("append")
class Append(nn.Module):
    """Concatenates the sequences; no parameters of its own."""

    reads_taps = reads_prompt = False
    adds_tokens = True

    def __init__(self, config: FusionConfig, vision_width: int, llm_width: int, sources: Sources) -> None:
        super().__init__()
        self.face_width = llm_width
        self.pool = config.pool

    def forward(self, layers: Layers, features: Tensor, face: FaceInputs) -> Tensor:
        tokens, added = layers(features), face.tokens  # (B, P, D) both
        if self.pool > 1:
            side = math.isqrt(added.shape[1])
            image = added.transpose(1, 2).unflatten(2, (side, side))
            added = F.avg_pool2d(image, self.pool, ceil_mode=True).flatten(2).transpose(1, 2)
        return torch.cat([tokens, added.to(tokens.dtype)], dim=1)

    def reset_parameters(self) -> None:
        """Nothing to reset."""
