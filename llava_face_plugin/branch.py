"""``FaceBranch``: the whole method in one place, from a ``FaceConfig``.

label map -> segmentation encoder -> face tokens -+
pixels    -> facial encoder ------> taps ---------+-> fusion -> LLM tokens -> (LLM)
image     -> host's tower --------> features -----+               |
prompt    -> (fusions that read it) --------------+               +-> knowledge head -> L_bce, L_c
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .config import FaceConfig
from .encoders import ENCODERS, FacialEncoder, TapAdapter, Vit
from .errors import FaceHostError
from .fusion import FUSIONS, Auxiliary, FaceInputs, Layers, Prompt, Sources
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
        facial = FacialEncoder(config.facial) if config.facial else None
        fusion = FUSIONS[config.fusion.type]
        reads_taps = fusion.reads_taps  # type: ignore[attr-defined]
        sources = Sources(tokens=config.segmentation.encoder is not None)
        if facial is not None:
            taps, width = facial.shape
            sources = Sources(sources.tokens, taps, width) if reads_taps else Sources()
        self.fusion = fusion(config.fusion, vision_width, llm_width, sources)
        self.segmentation = None
        if config.segmentation.encoder is not None:
            encoder = ENCODERS[config.segmentation.encoder]
            self.segmentation = encoder(config.segmentation, vision_width, self.fusion.face_width)
        self.facial = facial
        self.adapter = None
        if config.facial is not None and not reads_taps:
            self.adapter = TapAdapter(config.facial, self.fusion.face_width)
        self.knowledge = KnowledgeHead(config.knowledge, llm_width) if config.knowledge else None

    @property
    def reads_pixels(self) -> bool:
        """Whether ``forward`` needs ``rgb``."""
        return self.facial is not None

    @property
    def reads_prompt(self) -> bool:
        """Whether ``forward`` makes use of ``prompt``: the tokens of an image are then good for that prompt only."""
        return self.fusion.reads_prompt

    def forward(
        self,
        layers: Layers,
        features: Tensor,
        label_map: Tensor | None,
        vit: Vit | None = None,
        rgb: Tensor | None = None,
        prompt: Prompt | None = None,
        auxiliary: Auxiliary | None = None,
    ) -> Tensor:
        """The LLM's visual tokens.

        Args:
            layers: the layers of the host's own projector, in order.
            features: (B, P, C) of the host's vision tower, P a square number.
            label_map: (B, H, W) part ids, 255 where no map is known; None for no map at all.
            vit: the frozen ViT that ``vit-palette`` reads the map with.
            rgb: (B, 3, H, W) in [0, 1], the pixels the tower saw, without its normalisation (``denormalise`` in
                encoders/backbones.py); needed if ``reads_pixels``.
            prompt: the text each image is shown with, if ``reads_prompt``; None for the learned neutral state.
            auxiliary: collects the fusion's losses and statistics, where somebody wants them.

        Returns:
            (B, P, D), or (B, P + added, D) for a fusion that adds tokens. Same dtype as without face mode.
        """
        batch, patches, _ = features.shape
        grid = math.isqrt(patches)
        if grid * grid != patches:
            raise FaceHostError(f"face mode needs a square grid of patch features, got {patches} per image")
        taps = features.new_zeros(batch, patches, 0, 0)
        if self.facial is not None:
            taps = self.facial(rgb, grid, like=features)
        tokens = self._tokens(features, label_map, vit, taps, grid)
        return self.fusion(layers, features, FaceInputs(tokens, taps, prompt, auxiliary))

    def _tokens(self, features: Tensor, label_map: Tensor | None, vit: Vit | None, taps: Tensor, grid: int) -> Tensor:
        """(B, P, face_width): the sum of what the encoders give; (B, P, 0) where none gives any."""
        batch = len(features)
        found = []
        if self.segmentation is not None:
            if label_map is None:
                label_map = features.new_full((batch, 8 * grid, 8 * grid), NO_MAP)
            found.append(self.segmentation(label_map, grid, vit))
        if self.adapter is not None:
            found.append(self.adapter(taps.to(self.adapter.widen.weight.dtype)))
        if not found:
            return features.new_zeros(batch, grid * grid, 0)
        return found[0] if len(found) == 1 else torch.stack(found).sum(dim=0)

    def reset_parameters(self) -> None:
        """Fresh weights for every parameter, gates closed; a trained facial encoder starts from its path."""
        for part in (self.segmentation, self.facial, self.adapter, self.fusion, self.knowledge):
            if part is not None:
                part.reset_parameters()
