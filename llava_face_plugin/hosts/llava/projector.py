"""``FaceProjector``: upstream's projector with the face branch under it.

Upstream trains, saves, reloads and rates (``mm_projector_lr``) everything named ``mm_projector`` in every
stage, and keeps it out of LoRA's targets. Being there is all a face parameter needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ...branch import FaceBranch
from ...config import FaceConfig
from ...encoders import Vit
from ...errors import FaceHostError
from ...fusion import Auxiliary, Layers, Prompt

PREFIX = "face."


class FaceProjector(nn.Sequential):
    """Keeps upstream's keys (``0.weight``, ``2.weight``, ...) and adds ``face.*``."""

    face: FaceBranch

    def forward(
        self,
        features: Tensor,
        label_map: Tensor | None = None,
        vit: Vit | None = None,
        rgb: Tensor | None = None,
        prompt: Prompt | None = None,
        auxiliary: Auxiliary | None = None,
    ) -> Tensor:
        """Features (B, P, C) and what goes with them -> LLM tokens; see ``FaceBranch.forward``."""
        layers = [module for name, module in self._modules.items() if name != "face" and module is not None]
        return self.face(Layers(layers), features, label_map, vit, rgb=rgb, prompt=prompt, auxiliary=auxiliary)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As ``nn.Module``'s, except that a plain LLaVA adapter, with no ``face.*`` key, is accepted.

        Raises ``RuntimeError``, as ``nn.Module`` does, for keys that are missing or unexpected.
        """
        if not strict or any(key.startswith(PREFIX) for key in state_dict):
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        result = super().load_state_dict(state_dict, strict=False, assign=assign)
        missing = [key for key in result.missing_keys if not key.startswith(PREFIX)]
        if missing or result.unexpected_keys:
            raise RuntimeError(
                f"mm_projector weights do not fit: missing {missing}, unexpected {result.unexpected_keys}"
            )
        return result


def face_projector(plain: nn.Module, config: FaceConfig, vision_width: int, llm_width: int) -> FaceProjector:
    """Hangs a new face branch under a projector that upstream has just built.

    Raises ``FaceHostError`` for a projector that is not an MLP: its keys could not be kept.
    """
    if not isinstance(plain, nn.Sequential):
        raise FaceHostError(
            f"face mode needs an MLP projector such as LLaVA 1.5's --mm_projector_type mlp2x_gelu, "
            f"not {type(plain).__name__}"
        )
    projector = FaceProjector(*plain.children())
    projector.add_module("face", FaceBranch(config, vision_width, llm_width))
    return projector
