"""Configurations with the ``face`` block: transformers' own, and one plain dict more."""

from __future__ import annotations

from typing import Any

from transformers import LlavaConfig, LlavaNextConfig, LlavaNextVideoConfig, LlavaOnevisionConfig

from ...config import KEY, FaceConfig
from .carried import CarriedConfig

# What a Trainer must not collect from the outputs in an evaluation: sizes differ from batch to batch.
_IGNORED = ["past_key_values", "image_hidden_states", "video_hidden_states"]

# Each class has an ``__init__`` of its own: 5.x makes dataclasses of configurations, and gives one without it a
# constructor that would skip its parent's. A ``model_type`` from a plain config.json must not stick to the instance:
# 5.x looks its conversion of weights up by it.


class FaceLlavaConfig(CarriedConfig, LlavaConfig):
    """LLaVA 1.5. ``face`` is the block that ``FaceConfig`` describes; None or ``enabled: false`` is plain LLaVA.

    Raises ``FaceConfigError`` for a block that is wrong, naming its keys.
    """

    model_type = "face_llava"
    keys_to_ignore_at_inference = _IGNORED

    def __init__(self, face: dict[str, Any] | None = None, **kwargs: Any) -> None:
        kwargs.pop("model_type", None)
        super().__init__(**kwargs)
        self.face = checked(face)


class FaceLlavaNextConfig(CarriedConfig, LlavaNextConfig):
    """LLaVA-NeXT (1.6), as ``FaceLlavaConfig``."""

    model_type = "face_llava_next"
    keys_to_ignore_at_inference = _IGNORED

    def __init__(self, face: dict[str, Any] | None = None, **kwargs: Any) -> None:
        kwargs.pop("model_type", None)
        super().__init__(**kwargs)
        self.face = checked(face)


class FaceLlavaOnevisionConfig(CarriedConfig, LlavaOnevisionConfig):
    """LLaVA-OneVision, as ``FaceLlavaConfig``."""

    model_type = "face_llava_onevision"
    keys_to_ignore_at_inference = _IGNORED

    def __init__(self, face: dict[str, Any] | None = None, **kwargs: Any) -> None:
        kwargs.pop("model_type", None)
        super().__init__(**kwargs)
        self.face = checked(face)


class FaceLlavaNextVideoConfig(CarriedConfig, LlavaNextVideoConfig):
    """LLaVA-NeXT-Video, as ``FaceLlavaConfig``."""

    model_type = "face_llava_next_video"
    keys_to_ignore_at_inference = _IGNORED

    def __init__(self, face: dict[str, Any] | None = None, **kwargs: Any) -> None:
        kwargs.pop("model_type", None)
        super().__init__(**kwargs)
        self.face = checked(face)


def checked(face: dict[str, Any] | None) -> dict[str, Any] | None:
    """The block as it was given, once ``FaceConfig`` has accepted it."""
    FaceConfig.of({KEY: face})
    return face
