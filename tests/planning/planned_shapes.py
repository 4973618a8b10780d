"""Small shapes for the tests of plans."""

from __future__ import annotations

from typing import Any

from llava_face_plugin.planning.shapes import Shapes
from llava_face_plugin.planning.tokens import Visual
from llava_face_plugin.planning.work import Work

HIDDEN, LAYERS, INTERMEDIATE, VOCABULARY = 64, 2, 96, 300
VISION_HIDDEN, VISION_LAYERS, SIDE, PATCH = 32, 3, 56, 14
PATCHES = (SIDE // PATCH) ** 2


def small(family: str = "llava", **changes: Any) -> Shapes:
    """A LLaVA of two layers of 64, four heads, and a tower of 16 patches."""
    text = {
        "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE, "num_hidden_layers": LAYERS,
        "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": VOCABULARY,
    }  # fmt: skip
    vision = {
        "model_type": "clip_vision_model", "hidden_size": VISION_HIDDEN, "intermediate_size": 48, "image_size": SIDE,
        "num_hidden_layers": VISION_LAYERS, "num_attention_heads": 4, "patch_size": PATCH,
    }  # fmt: skip
    settings: dict[str, Any] = {"host": "hf-llava", "text": text, "vision": vision, "source": "a test", **changes}
    return Shapes("small", family, **settings)


def work(**changes: Any) -> Work:
    """Two samples of one tile and 8 text tokens, float32, without checkpointing."""
    settings: dict[str, Any] = {
        "visual": Visual(1, PATCHES), "text": 8, "batch": 2, "dtype": "fp32", "checkpointing": False,
    }  # fmt: skip
    return Work(**{**settings, **changes})
