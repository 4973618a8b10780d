"""``LlavaFaceLlamaForCausalLM``: LLaVA 1.5 with the face branch, as upstream's scripts see it.

Imported only once face mode is asked for, when ``llava`` itself has been imported.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from llava.model.language_model.llava_llama import LlavaLlamaForCausalLM
from torch import Tensor

from ..config import FaceConfig
from ..encoders.backbones import FrozenVit, normalise
from ..errors import FaceDataError, FaceHostError
from ..labels import NO_MAP
from ..parsing.base import Parser
from . import label_channel
from .parsers import build_parser

_LOG = logging.getLogger("llava_face_plugin")
BuildParser = Callable[[], Parser | None]


class LlavaFaceLlamaForCausalLM(LlavaLlamaForCausalLM):  # type: ignore[misc]
    """Reads the 4th image channel as a label map, and adds the knowledge losses in training."""

    is_face_model = True

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        face = FaceConfig.of(config)
        if face is None:
            raise FaceHostError("this class is for configurations with face mode on")
        self.face_config = face
        segmentation = face.segmentation
        self._own_vit = (
            FrozenVit(segmentation.vision_tower, segmentation.vision_select_layer)
            if segmentation.vision_tower
            else None
        )
        self._fused: list[Tensor] | None = None
        self._loss_sums: dict[str, Tensor] = {}
        self._loss_count = 0
        self._told = False

    # --- images -------------------------------------------------------------------------------------------

    def get_vision_tower(self) -> Any:
        """Upstream's tower, its image processor wrapped so that it adds the label map."""
        tower = super().get_vision_tower()
        if tower is not None:
            _wrap_image_processor(tower, functools.partial(build_parser, self.face_config))
        return tower

    def encode_images(self, images: Tensor) -> Tensor:
        """(B, 3 or 4, H, W) -> (B, P, D) visual tokens; the 4th channel holds part ids."""
        pixels, label_map = label_channel.split(images)
        if label_map is None:
            label_map = torch.full_like(pixels[:, 0], NO_MAP)
        features = self.get_model().get_vision_tower()(pixels)
        tokens = self.get_model().mm_projector(features, label_map.to(features.device), self._read_palette)
        if self._fused is not None:
            self._fused.append(tokens)
        return tokens

    def _read_palette(self, rgb: Tensor) -> Tensor:
        """The frozen ViT of ``vit-palette``: its own, or the image tower's weights."""
        if self._own_vit is not None:
            return self._own_vit(rgb)
        tower = self.get_model().get_vision_tower()
        processor = tower.image_processor
        return tower(normalise(rgb, processor.image_mean, processor.image_std))

    # --- losses -------------------------------------------------------------------------------------------

    def forward(self, *args: Any, face_attributes: Tensor | None = None, **kwargs: Any) -> Any:
        """As upstream's, plus ``face_attributes`` (B, A) int8, 1 / 0 / -1 = unknown.

        With ``labels`` the loss is L = L_lm + w_b L_bce + w_c L_c.
        """
        labels = args[_LABELS] if len(args) > _LABELS else kwargs.get("labels")
        with self._collect_fused() as fused:
            output = super().forward(*args, **kwargs)
        if labels is None or not fused or self.face_config.knowledge is None:
            return output
        loss = output[0] if isinstance(output, tuple) else output.loss
        total = loss + self._knowledge_loss(loss, fused, face_attributes)
        if isinstance(output, tuple):
            return (total, *output[1:])
        output.loss = total
        return output

    @contextmanager
    def _collect_fused(self) -> Iterator[list[Tensor]]:
        # Upstream's forward hands nothing back from encode_images, which it calls on the way.
        fused: list[Tensor] = []
        self._fused = fused
        try:
            yield fused
        finally:
            self._fused = None

    def _knowledge_loss(self, lm_loss: Tensor, fused: list[Tensor], attributes: Tensor | None) -> Tensor:
        head = self.get_model().mm_projector.face.knowledge
        tokens = torch.cat(fused, dim=0)
        logits = head(tokens, self._embedded_prompts(head, tokens))
        if attributes is None:
            attributes = torch.full(logits.shape, -1, dtype=torch.int8, device=logits.device)
        if attributes.shape != logits.shape:
            raise FaceDataError(
                f"face_attributes has shape {tuple(attributes.shape)}, but the batch has {logits.shape[0]} "
                f"images and the knowledge {logits.shape[1]} attributes; one image a sample is needed"
            )
        losses = head.losses(logits, attributes.to(logits.device))
        if self.training:
            self._record({"loss_lm": lm_loss, "loss_bce": losses["bce"], "loss_logic": losses["logic"]})
        return head.weighted(losses).to(lm_loss)

    @torch.no_grad()
    def _embedded_prompts(self, head: Any, tokens: Tensor) -> Tensor:
        # Without gradient: T^0 are given text features; the losses must not move the LLM's vocabulary.
        ids, _ = head.prompt_tokens(tokens.device)
        return self.get_model().embed_tokens(ids).to(tokens.dtype)

    def _record(self, parts: dict[str, Tensor]) -> None:
        for name, value in parts.items():
            self._loss_sums[name] = self._loss_sums.get(name, 0.0) + value.detach().float()
        self._loss_count += 1

    def pop_loss_parts(self) -> dict[str, Tensor]:
        """Mean of each loss part since the last call, scalars on the model's device; then starts anew."""
        parts = {name: total / max(self._loss_count, 1) for name, total in self._loss_sums.items()}
        self._loss_sums, self._loss_count = {}, 0
        return parts

    # --- inference ----------------------------------------------------------------------------------------

    def generate(self, inputs: Tensor | None = None, images: Any = None, **kwargs: Any) -> Any:
        """As upstream's; says once where the label maps come from."""
        if images is not None and not self._told:
            self._told = True
            _LOG.warning("face mode: %s", _map_source(images, self.face_config))
        return super().generate(inputs, images=images, **kwargs)

    @torch.no_grad()
    def attribute_probabilities(self, images: Tensor) -> Tensor:
        """(B, 3 or 4, H, W) preprocessed images -> (B, A) float32 probabilities in [0, 1].

        The columns follow ``face_config.knowledge.vocabulary``. Raises ``FaceHostError`` without knowledge.
        """
        if self.face_config.knowledge is None:
            raise FaceHostError("this model has no knowledge block: enable face mode with --knowledge FILE")
        head = self.get_model().mm_projector.face.knowledge
        tokens = self.encode_images(images)
        return head(tokens, self._embedded_prompts(head, tokens)).sigmoid()


_SIGNATURE = inspect.signature(LlavaLlamaForCausalLM.forward)
_LABELS = list(_SIGNATURE.parameters).index("labels") - 1  # position after self

# No **kwargs in what the Trainer reads: it would believe that the model scales the loss itself.
LlavaFaceLlamaForCausalLM.forward.__signature__ = _SIGNATURE.replace(  # type: ignore[attr-defined]
    parameters=[
        *_SIGNATURE.parameters.values(),
        inspect.Parameter("face_attributes", inspect.Parameter.KEYWORD_ONLY, default=None),
    ]
)


def _map_source(images: Any, config: FaceConfig) -> str:
    """One line on the maps of the first images that are asked about."""
    first = images[0] if isinstance(images, list) else images
    known = first.shape[-3] > 3 and bool((first[..., 3, :, :] != NO_MAP).any())
    parser = config.segmentation.parser
    if parser is None:
        if known:
            return "label maps come with the images"
        return "no parser is configured (face.segmentation.parser): the learned no-map state is used"
    if known:
        return f"label maps come from the parser {parser.type!r}, or with the images"
    return f"the parser {parser.type!r} has no map for this image: the learned no-map state is used"


def _wrap_image_processor(tower: Any, build: BuildParser) -> None:
    """Makes the tower load its image processor with the label channel, now or whenever it loads."""
    if getattr(tower, "_face_wrapped", False):
        return
    tower._face_wrapped = True
    if tower.is_loaded:
        _wrap_now(tower, build)
    else:
        tower.load_model = _LoadAndWrap(tower, build)


def _wrap_now(tower: Any, build: BuildParser) -> None:
    if not isinstance(tower.image_processor, label_channel.FaceImageProcessor):
        tower.image_processor = label_channel.FaceImageProcessor(tower.image_processor, build)


class _LoadAndWrap:
    """The tower's ``load_model`` and the wrapping after it; an object, for a closure could not be pickled."""

    def __init__(self, tower: Any, build: BuildParser) -> None:
        self.tower, self.build = tower, build

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        type(self.tower).load_model(self.tower, *args, **kwargs)
        _wrap_now(self.tower, self.build)
