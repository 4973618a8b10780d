"""``FaceBranch``: the whole method in one place, from a ``FaceConfig``.

label map -> segmentation encoder -> face tokens -+-> fusion -> LLM tokens -> (LLM)
image     -> host's tower --------> features -----+               |
                                                                  +-> knowledge head -> L_bce, L_c
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from .config import FaceConfig
from .encoders import ENCODERS, Vit
from .errors import FaceHostError
from .fusion import FUSIONS, Layers
from .knowledge.head import KnowledgeHead
from .labels import NO_MAP


class FaceBranch(nn.Module):
    """Everything face mode adds to a model. Hangs under the host's multimodal projector.

    Args:
        config: the ``face`` block.
        vision_width: C, width of the host's vision features.
        llm_width: D, width of the LLM's tokens.
    """

    def __init__(self, config: FaceConfig, vision_width: int, llm_width: int) -> None:
        super().__init__()
        self.config = config
        self.fusion = FUSIONS[config.fusion.type](config.fusion, vision_width, llm_width)
        encoder = ENCODERS[config.segmentation.encoder]
        self.segmentation = encoder(config.segmentation, vision_width, self.fusion.face_width)
        self.knowledge = KnowledgeHead(config.knowledge, llm_width) if config.knowledge else None

    def forward(self, layers: Layers, features: Tensor, label_map: Tensor | None, vit: Vit | None = None) -> Tensor:
        """The LLM's visual tokens.

        Args:
            layers: the layers of the host's own projector, in order.
            features: (B, P, C) of the host's vision tower, P a square number.
            label_map: (B, H, W) part ids, 255 where no map is known; None for no map at all.
            vit: the frozen ViT that ``vit-palette`` reads the map with.

        Returns:
            (B, P, D), or (B, P + added, D) for a fusion that adds tokens. Same dtype as without face mode.
        """
        batch, patches, _ = features.shape
        grid = math.isqrt(patches)
        if grid * grid != patches:
            raise FaceHostError(f"face mode needs a square grid of patch features, got {patches} per image")
        if label_map is None:
            label_map = features.new_full((batch, 8 * grid, 8 * grid), NO_MAP)
        face = self.segmentation(label_map, grid, vit)
        return self.fusion(layers, features, face)

    def reset_parameters(self) -> None:
        """Fresh weights for every parameter, gates closed."""
        for part in (self.segmentation, self.fusion, self.knowledge):
            if part is not None:
                part.reset_parameters()
