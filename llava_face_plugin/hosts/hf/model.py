"""Llava, LlavaNext, LlavaOnevision and LlavaNextVideo with the face branch: mixins over transformers' own classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LlavaForConditionalGeneration,
    LlavaModel,
    LlavaNextForConditionalGeneration,
    LlavaNextModel,
    LlavaNextVideoForConditionalGeneration,
    LlavaNextVideoModel,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionModel,
)
from transformers.models.llava.modeling_llava import LlavaModelOutputWithPast
from transformers.models.llava_next.modeling_llava_next import LlavaNextModelOutputWithPast
from transformers.models.llava_next_video.modeling_llava_next_video import LlavaNextVideoModelOutputWithPast
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModelOutputWithPast

from .backbone import FaceBackbone, FaceTiles, FaceVideos
from .config import FaceLlavaConfig, FaceLlavaNextConfig, FaceLlavaNextVideoConfig, FaceLlavaOnevisionConfig
from .head import FaceHead


def signed(ours: Callable[..., Any], upstream: Callable[..., Any], *names: str) -> Callable[..., Any]:
    """``ours`` with upstream's signature and ``names``: generate(), Trainer and PEFT find arguments by name."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return ours(self, *args, **kwargs)

    plain = inspect.signature(upstream)
    others = [p for p in plain.parameters.values() if p.kind is not p.VAR_KEYWORD]
    rest = [p for p in plain.parameters.values() if p.kind is p.VAR_KEYWORD]
    added = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in names]
    call.__name__, call.__doc__ = ours.__name__, ours.__doc__
    call.__signature__ = plain.replace(parameters=[*others, *added, *rest])  # type: ignore[attr-defined]
    return call


@dataclass
class FaceLlavaOutput(LlavaModelOutputWithPast):
    """With ``face_loss``, a scalar, and its unweighted parts ``bce`` and ``logic``."""

    face_loss: Tensor | None = None
    face_losses: dict[str, Tensor] | None = None


@dataclass
class FaceLlavaNextOutput(LlavaNextModelOutputWithPast):
    """As ``FaceLlavaOutput``."""

    face_loss: Tensor | None = None
    face_losses: dict[str, Tensor] | None = None


@dataclass
class FaceLlavaOnevisionOutput(LlavaOnevisionModelOutputWithPast):
    """As ``FaceLlavaOutput``."""

    face_loss: Tensor | None = None
    face_losses: dict[str, Tensor] | None = None


@dataclass
class FaceLlavaNextVideoOutput(LlavaNextVideoModelOutputWithPast):
    """As ``FaceLlavaOutput``."""

    face_loss: Tensor | None = None
    face_losses: dict[str, Tensor] | None = None


class FaceLlavaModel(FaceBackbone, LlavaModel):  # type: ignore[misc]
    """LLaVA 1.5's backbone with the face branch."""

    config_class = FaceLlavaConfig  # type: ignore[assignment]
    output_class = FaceLlavaOutput
    forward = signed(FaceBackbone.forward, LlavaModel.forward, "face_attributes")

    def _image_features(self, *args: Any, **kwargs: Any) -> Any:
        output = FaceBackbone.get_image_features(self, *args, **kwargs)
        if self._fused is not None:
            self._keep(torch.stack(list(getattr(output, "pooler_output", output))))  # 5.x; a list on 4.x
        return output

    get_image_features = signed(_image_features, LlavaModel.get_image_features)


class FaceLlavaNextModel(FaceTiles, LlavaNextModel):  # type: ignore[misc]
    """LLaVA-NeXT's backbone with the face branch."""

    config_class = FaceLlavaNextConfig  # type: ignore[assignment]
    output_class = FaceLlavaNextOutput
    forward = signed(FaceBackbone.forward, LlavaNextModel.forward, "face_attributes")
    get_image_features = signed(FaceBackbone.get_image_features, LlavaNextModel.get_image_features)


class FaceLlavaOnevisionModel(FaceVideos, LlavaOnevisionModel):  # type: ignore[misc]
    """LLaVA-OneVision's backbone with the face branch."""

    config_class = FaceLlavaOnevisionConfig  # type: ignore[assignment]
    output_class = FaceLlavaOnevisionOutput
    forward = signed(FaceBackbone.forward, LlavaOnevisionModel.forward, "face_attributes")
    get_image_features = signed(FaceBackbone.get_image_features, LlavaOnevisionModel.get_image_features)
    get_video_features = signed(FaceVideos.get_video_features, LlavaOnevisionModel.get_video_features)


class FaceLlavaNextVideoModel(FaceVideos, LlavaNextVideoModel):  # type: ignore[misc]
    """LLaVA-NeXT-Video's backbone with the face branch."""

    config_class = FaceLlavaNextVideoConfig  # type: ignore[assignment]
    output_class = FaceLlavaNextVideoOutput
    forward = signed(FaceBackbone.forward, LlavaNextVideoModel.forward, "face_attributes")
    get_image_features = signed(FaceBackbone.get_image_features, LlavaNextVideoModel.get_image_features)
    get_video_features = signed(FaceVideos.get_video_features, LlavaNextVideoModel.get_video_features)


class FaceLlavaForConditionalGeneration(FaceHead, LlavaForConditionalGeneration):  # type: ignore[misc]
    """LLaVA 1.5 with the face branch."""

    config_class = FaceLlavaConfig  # type: ignore[assignment]
    backbone_class = FaceLlavaModel
    forward = signed(FaceHead.forward, LlavaForConditionalGeneration.forward, "face_attributes")


class FaceLlavaNextForConditionalGeneration(FaceHead, LlavaNextForConditionalGeneration):  # type: ignore[misc]
    """LLaVA-NeXT with the face branch."""

    config_class = FaceLlavaNextConfig  # type: ignore[assignment]
    backbone_class = FaceLlavaNextModel
    forward = signed(FaceHead.forward, LlavaNextForConditionalGeneration.forward, "face_attributes")


class FaceLlavaOnevisionForConditionalGeneration(FaceHead, LlavaOnevisionForConditionalGeneration):  # type: ignore[misc]
    """LLaVA-OneVision with the face branch."""

    config_class = FaceLlavaOnevisionConfig  # type: ignore[assignment]
    backbone_class = FaceLlavaOnevisionModel
    forward = signed(FaceHead.forward, LlavaOnevisionForConditionalGeneration.forward, "face_attributes")


class FaceLlavaNextVideoForConditionalGeneration(FaceHead, LlavaNextVideoForConditionalGeneration):  # type: ignore[misc]
    """LLaVA-NeXT-Video with the face branch."""

    config_class = FaceLlavaNextVideoConfig  # type: ignore[assignment]
    backbone_class = FaceLlavaNextVideoModel
    forward = signed(FaceHead.forward, LlavaNextVideoForConditionalGeneration.forward, "face_attributes")
