"""The image tower's normalisation, and the tower as the frozen ViT that ``vit-palette`` reads painted maps with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.image_utils import IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from ...encoders.backbones import denormalise, normalise
from ...errors import FaceHostError

# What the towers were trained with; a model does not know its image processor.
_NORMALISATION = {
    "clip_vision_model": (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
    "siglip_vision_model": (IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD),
}


@torch.no_grad()
def read_palette(backbone: Any, rgb: Tensor) -> Tensor:
    """RGB (B, 3, H, W) in [0, 1] -> (B, P, C): the features that upstream would hand to the projector.

    Raises ``FaceHostError`` for a tower whose normalisation is not known.
    """
    config = backbone.config
    pixels = normalise(rgb, *_normalisation(backbone))
    hidden = backbone.vision_tower(pixels, output_hidden_states=True, return_dict=True).hidden_states
    layers = config.vision_feature_layer
    features = torch.cat([hidden[layer] for layer in ([layers] if isinstance(layers, int) else layers)], dim=-1)
    return features[:, 1:] if config.vision_feature_select_strategy == "default" else features


def shown_rgb(backbone: Any, pixels: Tensor) -> Tensor:
    """What the tower is given (B, 3, H, W) -> RGB in [0, 1], for a facial encoder.

    Raises ``FaceHostError`` for a tower whose normalisation is not known.
    """
    return denormalise(pixels, *_normalisation(backbone))


def _normalisation(backbone: Any) -> tuple[Any, Any]:
    kind = backbone.config.vision_config.model_type
    if kind not in _NORMALISATION:
        raise FaceHostError(
            f"the normalisation of a tower of type {kind!r} is not known; known are {', '.join(_NORMALISATION)}. A "
            "facial encoder needs it; for vit-palette name a checkpoint in face.segmentation.vision_tower"
        )
    return _NORMALISATION[kind]
