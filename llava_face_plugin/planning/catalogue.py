"""Models and vision towers by name. Sizes only; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .shapes import Shapes

_CLIP_L_336 = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "patch_size": 14, "image_size": 336, "projection_dim": 768,
}  # fmt: skip
_SIGLIP_384 = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 26,
    "num_attention_heads": 16, "patch_size": 14, "image_size": 384, "vision_use_head": False,
}  # fmt: skip

TOWERS: Mapping[str, Mapping[str, Any]] = {
    # Radford et al. 2021 (arXiv 2103.00020), ViT-L/14 and its 336 px version.
    "clip-vit-large-patch14-336": _CLIP_L_336,
    "clip-vit-large-patch14": {**_CLIP_L_336, "image_size": 224},
    # Alabdulmohsin et al. 2023 (arXiv 2305.13035), So400m/14. LLaVA leaves out its 27th layer and its head.
    "siglip-so400m-patch14-384": _SIGLIP_384,
}
"""By the last part of their hub name, as ``mm_vision_tower`` says it."""

DEFAULT_TOWER = "clip-vit-large-patch14-336"
"""LLaVA 1.5's."""

# Touvron et al. 2023 (Llama 2, arXiv 2307.09288), which Vicuna 1.5 starts from.
_VICUNA_7B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096,
}  # fmt: skip
_VICUNA_13B = {
    **_VICUNA_7B, "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40,
    "num_attention_heads": 40, "num_key_value_heads": 40,
}  # fmt: skip
# Yang et al. 2024 (Qwen2, arXiv 2407.10671), table 1; the rows of the embedding as in its config.json.
_QWEN2_7B = {
    "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}  # fmt: skip
_QWEN2_05B = {
    **_QWEN2_7B, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip

# LLaVA-NeXT (1.6) at 336 px; OneVision's (1x1),...,(6x6) at 384 px.
_NEXT_PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
_ONEVISION_PINPOINTS = tuple((384 * rows, 384 * columns) for rows in range(1, 7) for columns in range(1, 7))

_LLAMA = "Llama 2 (arXiv 2307.09288) and CLIP ViT-L/14-336 (arXiv 2103.00020)"
_QWEN = "Qwen2 (arXiv 2407.10671, table 1) and SigLIP So400m/14-384 (arXiv 2305.13035)"

MODELS: Mapping[str, Shapes] = {
    shapes.name: shapes
    for shapes in (
        Shapes("7b", "llava", "llava-v1", _VICUNA_7B, _CLIP_L_336, f"LLaVA 1.5 (arXiv 2310.03744): {_LLAMA}"),
        Shapes("13b", "llava", "llava-v1", _VICUNA_13B, _CLIP_L_336, f"LLaVA 1.5 (arXiv 2310.03744): {_LLAMA}"),
        Shapes(
            "next-7b", "llava_next", "hf-llava-next", _VICUNA_7B, _CLIP_L_336,
            f"LLaVA-NeXT (1.6), Vicuna 7B: {_LLAMA}", pinpoints=_NEXT_PINPOINTS,
        ),
        Shapes(
            "onevision-7b", "llava_onevision", "hf-llava-onevision", _QWEN2_7B, _SIGLIP_384,
            f"LLaVA-OneVision (arXiv 2408.03326): {_QWEN}", pinpoints=_ONEVISION_PINPOINTS, most_tiles=9,
        ),
        Shapes(
            "onevision-0.5b", "llava_onevision", "hf-llava-onevision", _QWEN2_05B, _SIGLIP_384,
            f"LLaVA-OneVision (arXiv 2408.03326): {_QWEN}", pinpoints=_ONEVISION_PINPOINTS, most_tiles=9,
        ),
    )
}  # fmt: skip
