"""Llava, LlavaNext and LlavaOnevision with the face branch: transformers' own classes, and one mechanism for all.

The label map rides as the 4th channel of ``pixel_values``. Just before the vision tower a hook takes it off, and just
before the projector another hands it on: whatever upstream does in between (tiles, packing, ``generate()``, caches)
stays as it is. The branch hangs under ``multi_modal_projector.face``.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    LlavaForConditionalGeneration,
    LlavaModel,
    LlavaNextForConditionalGeneration,
    LlavaNextModel,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionModel,
    PreTrainedModel,
)
from transformers.models.llava.modeling_llava import LlavaModelOutputWithPast
from transformers.models.llava_next.modeling_llava_next import LlavaNextModelOutputWithPast
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModelOutputWithPast

from ...config import FaceConfig
from ...encoders.backbones import FrozenVit
from ...errors import FaceDataError, FaceHostError
from ...labels import NO_MAP
from .. import label_channel
from .config import FaceLlavaConfig, FaceLlavaNextConfig, FaceLlavaOnevisionConfig
from .palette import read_palette
from .projector import FaceMultiModalProjector, start_fresh


class FaceFromPretrained:
    """Nothing but face weights may be missing from a checkpoint; those that are start fresh, gates closed."""

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """As upstream's. Raises ``FaceHostError`` if other weights are missing, which upstream leaves random."""
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)  # type: ignore[misc]
        start_fresh(model, info["missing_keys"])
        return (model, info) if output_loading_info else model


class FaceBackbone(FaceFromPretrained):
    """Mixin over ``LlavaModel`` and its kin: vision tower, projector and language model."""

    _no_split_modules = ["FaceMultiModalProjector"]

    def __init__(self, config: Any) -> None:
        super().__init__(config)  # type: ignore[call-arg]
        self.face_config = FaceConfig.of(config)
        self._listeners: list[list[Any]] = []
        self._fused: list[Tensor] | None = None
        self._own_vit: FrozenVit | None = None
        if self.face_config is None:
            return
        segmentation = self.face_config.segmentation
        if segmentation.vision_tower:
            self._own_vit = FrozenVit(segmentation.vision_tower, segmentation.vision_select_layer)
        self.multi_modal_projector = FaceMultiModalProjector(self.multi_modal_projector, self.face_config)
        self._check_fusion()

    def _check_fusion(self) -> None:
        """For families that cannot take every fusion."""

    # --- images -------------------------------------------------------------------------------------------

    def get_image_features(self, *args: Any, **kwargs: Any) -> Any:
        """As upstream's; ``pixel_values`` (..., 3 or 4, H, W), the 4th channel part ids."""
        with self._label_maps():
            return super().get_image_features(*args, **kwargs)  # type: ignore[misc]

    @contextmanager
    def _label_maps(self) -> Iterator[None]:
        """Between tower and projector the label map goes round upstream's code.

        Hooks and not attributes of the projector: PEFT may have put a wrapper around it.
        """
        if self.face_config is None:
            yield
            return
        maps: list[Tensor] = []

        def split(tower: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            pixels, label_map = label_channel.split(args[0])
            if not maps:  # the palette that vit-palette shows to the tower comes later, and is no image
                maps.append(torch.full_like(pixels[:, 0], NO_MAP) if label_map is None else label_map)
            return (pixels, *args[1:])

        def hand_on(projector: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
            return args, {**kwargs, "label_map": maps[0], "vit": self._read_palette}

        handles = [
            self.vision_tower.register_forward_pre_hook(split),
            self.multi_modal_projector.register_forward_pre_hook(hand_on, with_kwargs=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _read_palette(self, rgb: Tensor) -> Tensor:
        return self._own_vit(rgb) if self._own_vit is not None else read_palette(self, rgb)

    def _keep(self, tokens: Tensor) -> None:
        """(B, P, D) fused tokens of whole images, which the knowledge head looks at."""
        if self._fused is not None:
            self._fused.append(tokens)

    @contextmanager
    def _collect_fused(self) -> Iterator[list[Tensor]]:
        self._fused = fused = []
        try:
            yield fused
        finally:
            self._fused = None

    # --- knowledge ----------------------------------------------------------------------------------------

    def forward(self, *args: Any, face_attributes: Tensor | None = None, **kwargs: Any) -> Any:
        """As upstream's, plus ``face_attributes`` (B, A) int8: 1, 0 or -1 = unknown, a row for each image.

        The output has ``face_loss`` = w_b L_bce + w_c L_c and its parts ``face_losses``, in training or where
        attributes are given. It is for the caller to add: ``Face...ForConditionalGeneration`` and ``FaceLossMixin``
        do.
        """
        if self.face_config is None:
            return super().forward(*args, **kwargs)  # type: ignore[misc]
        as_tuple = kwargs.pop("return_dict", None) is False
        with self._collect_fused() as fused:
            plain = super().forward(*args, return_dict=True, **kwargs)  # type: ignore[misc]
        output = self.output_class(**plain)
        if fused and self.face_config.knowledge and (face_attributes is not None or self.training):
            output.face_loss, output.face_losses = self._knowledge_losses(torch.cat(fused), face_attributes)
            if self.training and face_attributes is not None and not self._listeners:
                warnings.warn(
                    "face_attributes were given, but no loss takes them up: this trainer goes past the model's own "
                    "loss. Mix llava_face_plugin.hosts.hf.FaceLossMixin into it",
                    stacklevel=2,
                )
        for outputs in self._listeners:
            outputs.append(output)
        return output.to_tuple() if as_tuple else output

    @contextmanager
    def listen(self) -> Iterator[list[Any]]:
        """The outputs of this backbone's forwards while the context is open, for one who adds their ``face_loss``."""
        outputs: list[Any] = []
        self._listeners.append(outputs)
        try:
            yield outputs
        finally:
            self._listeners = [other for other in self._listeners if other is not outputs]

    def attribute_logits(self, tokens: Tensor) -> Tensor:
        """(B, P, D) fused tokens -> (B, A) float32 logits, in the order of ``knowledge.vocabulary``."""
        head = self.multi_modal_projector.face.knowledge
        with torch.no_grad():  # T^0 are given text features; the losses must not move the LLM's vocabulary
            ids, _ = head.prompt_tokens(tokens.device)
            prompts = self.get_input_embeddings()(ids).to(tokens)  # type: ignore[attr-defined]
        return head(tokens, prompts)

    def _knowledge_losses(self, tokens: Tensor, attributes: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        logits = self.attribute_logits(tokens)
        if attributes is None:
            attributes = torch.full(logits.shape, -1, dtype=torch.int8, device=logits.device)
        if attributes.shape != logits.shape:
            raise FaceDataError(
                f"face_attributes has shape {tuple(attributes.shape)}, but the batch has {logits.shape[0]} images and "
                f"the knowledge {logits.shape[1]} attributes; a row for each image is needed"
            )
        head = self.multi_modal_projector.face.knowledge
        losses = head.losses(logits, attributes.to(logits.device))
        return head.weighted(losses), losses


class FaceTiles(FaceBackbone):
    """Anyres: every tile has its map; the knowledge head looks at the first tile, which holds the whole image."""

    def pack_image_features(self, image_features: Any, *args: Any, **kwargs: Any) -> Any:
        """As upstream's, of (tiles, P, D) an image."""
        self._keep(torch.stack([tiles[0] for tiles in image_features]))
        return super().pack_image_features(image_features, *args, **kwargs)  # type: ignore[misc]

    def _check_fusion(self) -> None:
        if self.multi_modal_projector.face.fusion.adds_tokens:
            raise FaceHostError(
                f"face.fusion.type {self.face_config.fusion.type!r} adds tokens, but {self.config.model_type} lays its tiles out by their "
                "number of tokens: use gated_add or channel"
            )


class FaceHead(FaceFromPretrained):
    """Mixin over ``LlavaForConditionalGeneration`` and its kin: L = L_lm + w_b L_bce + w_c L_c."""

    # With True, or by the **kwargs of its forward, a Trainer would not divide the face losses by its accumulation steps.
    accepts_loss_kwargs = False
    _no_split_modules = ["FaceMultiModalProjector"]

    def __init__(self, config: Any) -> None:
        PreTrainedModel.__init__(self, config)  # not upstream's own, which would build the plain backbone first
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
        with listening as outputs:
            output = upstream(*args, face_attributes=face_attributes, **kwargs)
        face_loss = take_loss(outputs)
        if face_loss is None:
            return output
        if isinstance(output, tuple):
            return (output[0] + face_loss.to(output[0]), *output[1:])
        output.loss = output.loss + face_loss.to(output.loss)
        return output

    @torch.no_grad()
    def attribute_probabilities(self, pixel_values: Tensor, **kwargs: Any) -> Tensor:
        """Preprocessed images -> (B, A) float32 probabilities in [0, 1], in the order of ``knowledge.vocabulary``.

        ``kwargs`` are what else the processor made for images (``image_sizes``, ...). Raises ``FaceHostError``
        without knowledge.
        """
        if self.model.face_config is None or self.model.face_config.knowledge is None:
            raise FaceHostError("this model has no knowledge block: enable face mode with --knowledge FILE")
        with self.model._collect_fused() as fused:
            self.model.get_image_features(pixel_values, **kwargs)
        return self.model.attribute_logits(torch.cat(fused)).sigmoid()


def take_loss(outputs: list[Any]) -> Tensor | None:
    """The sum of the outputs' ``face_loss``. It is theirs no more: who comes later does not add it again."""
    losses = [output.face_loss for output in outputs if output.face_loss is not None]
    for output in outputs:
        output.face_loss = None
    return torch.stack(losses).sum() if losses else None


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


# --- the families ---------------------------------------------------------------------------------------------


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


class FaceLlavaModel(FaceBackbone, LlavaModel):
    """LLaVA 1.5's backbone with the face branch."""

    config_class = FaceLlavaConfig
    output_class = FaceLlavaOutput
    forward = signed(FaceBackbone.forward, LlavaModel.forward, "face_attributes")

    def _image_features(self, *args: Any, **kwargs: Any) -> Any:
        output = FaceBackbone.get_image_features(self, *args, **kwargs)
        if self._fused is not None:
            self._keep(torch.stack(list(getattr(output, "pooler_output", output))))  # 5.x; a list on 4.x
        return output

    get_image_features = signed(_image_features, LlavaModel.get_image_features)


class FaceLlavaNextModel(FaceTiles, LlavaNextModel):
    """LLaVA-NeXT's backbone with the face branch."""

    config_class = FaceLlavaNextConfig
    output_class = FaceLlavaNextOutput
    forward = signed(FaceBackbone.forward, LlavaNextModel.forward, "face_attributes")
    get_image_features = signed(FaceBackbone.get_image_features, LlavaNextModel.get_image_features)


class FaceLlavaOnevisionModel(FaceTiles, LlavaOnevisionModel):
    """LLaVA-OneVision's backbone with the face branch."""

    config_class = FaceLlavaOnevisionConfig
    output_class = FaceLlavaOnevisionOutput
    forward = signed(FaceBackbone.forward, LlavaOnevisionModel.forward, "face_attributes")
    get_image_features = signed(FaceBackbone.get_image_features, LlavaOnevisionModel.get_image_features)

    def _video_features(self, *args: Any, **kwargs: Any) -> Any:
        with self._label_maps():
            return LlavaOnevisionModel.get_video_features(self, *args, **kwargs)

    get_video_features = signed(_video_features, LlavaOnevisionModel.get_video_features)


class FaceLlavaForConditionalGeneration(FaceHead, LlavaForConditionalGeneration):
    """LLaVA 1.5 with the face branch."""

    config_class = FaceLlavaConfig
    backbone_class = FaceLlavaModel
    forward = signed(FaceHead.forward, LlavaForConditionalGeneration.forward, "face_attributes")


class FaceLlavaNextForConditionalGeneration(FaceHead, LlavaNextForConditionalGeneration):
    """LLaVA-NeXT with the face branch."""

    config_class = FaceLlavaNextConfig
    backbone_class = FaceLlavaNextModel
    forward = signed(FaceHead.forward, LlavaNextForConditionalGeneration.forward, "face_attributes")


class FaceLlavaOnevisionForConditionalGeneration(FaceHead, LlavaOnevisionForConditionalGeneration):
    """LLaVA-OneVision with the face branch."""

    config_class = FaceLlavaOnevisionConfig
    backbone_class = FaceLlavaOnevisionModel
    forward = signed(FaceHead.forward, LlavaOnevisionForConditionalGeneration.forward, "face_attributes")
