"""``FaceHead``: the mixin over a Llava with its language model's head. Loss, and attributes at inference."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...errors import FaceHostError
from .backbone import FaceFromPretrained, take_loss

# Some of 4.x want them said.
_WHICH_FEATURES = ("vision_feature_layer", "vision_feature_select_strategy")


class FaceHead(FaceFromPretrained):
    """Mixin over ``LlavaForConditionalGeneration`` and its kin: L = L_lm + w_b L_bce + w_c L_c."""

    # Otherwise, by the **kwargs of the forward, a Trainer would not divide the face losses by its accumulation steps.
    accepts_loss_kwargs = False
    _no_split_modules: ClassVar[list[str]] = ["FaceMultiModalProjector"]
    backbone_class: Any
    # Upstream's.
    config: Any
    post_init: Any

    def __init__(self, config: Any) -> None:
        # Not upstream's own constructor, which would build the plain backbone first.
        PreTrainedModel.__init__(self, config)  # type: ignore[arg-type]
        self.model = self.backbone_class(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def forward(self, *args: Any, face_attributes: Tensor | None = None, **kwargs: Any) -> Any:
        """As upstream's, plus ``face_attributes`` (see ``FaceBackbone.forward``), which count where ``labels`` are."""
        if self.model.face_config is None:
            return super().forward(*args, **kwargs)  # type: ignore[misc]
        upstream = super().forward  # type: ignore[misc]
        labels = inspect.signature(upstream).bind_partial(*args, **kwargs).arguments.get("labels")
        listening = self.model.listen() if labels is not None else nullcontext([])
        with listening as outputs, self.model.supervised(labels):
            output = upstream(*args, face_attributes=face_attributes, **kwargs)
        face_loss = take_loss(outputs)
        if face_loss is None:
            return output
        if isinstance(output, tuple):
            return (output[0] + face_loss.to(output[0]), *output[1:])
        output.loss = output.loss + face_loss.to(output.loss)
        return output

    def generate(self, inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """As upstream's."""
        upstream = super().generate  # type: ignore[misc]
        if not self.model.reads_prompt:
            return upstream(inputs, *args, **kwargs)
        # 5.x encodes the images here, past every forward, and once for all beams of a text.
        ids = kwargs.get("input_ids") if inputs is None else inputs
        with self.model.generating(ids, kwargs.get("attention_mask")):
            return upstream(inputs, *args, **kwargs)

    @torch.no_grad()
    def attribute_probabilities(
        self, pixel_values: Tensor | None = None, pixel_values_videos: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """Preprocessed images and videos -> (B, A) float32 probabilities in [0, 1].

        Rows: the images, then the videos; columns in the order of ``knowledge.vocabulary``. ``kwargs`` are what else
        the processor made for images (``image_sizes``, ...). A fusion that reads the prompt is in its neutral state.
        Raises ``FaceHostError`` without knowledge.
        """
        if self.model.face_config is None or self.model.face_config.knowledge is None:
            raise FaceHostError("this model has no knowledge block: enable face mode with --knowledge FILE")
        with self.model._collect_fused() as fused:
            if pixel_values is not None:
                self.model.get_image_features(pixel_values, **kwargs)
            if pixel_values_videos is not None:
                which = {name: getattr(self.config, name) for name in _WHICH_FEATURES}
                self.model.get_video_features(pixel_values_videos, **which)
        if not fused:
            raise FaceHostError("there is no image and no video: give pixel_values or pixel_values_videos")
        return self.model.attribute_logits(torch.cat(fused)).sigmoid()
