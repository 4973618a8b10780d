"""``FaceCausalLM``: the mixin that gives LLaVA's language model class its face branch, as upstream's scripts see it."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ...config import FaceConfig
from ...encoders.backbones import FrozenVit, denormalise, normalise
from ...errors import FaceHostError
from ...fusion import FUSIONS, Auxiliary, Prompt
from ...labels import NO_MAP
from .. import label_channel
from ..knowledge_losses import knowledge_losses
from ..parsers import build_parser
from ..prompts import Texts, prompt_of, rows_of
from .tower import wrap_image_processor

IMAGE_PLACE = -200
"""``IMAGE_TOKEN_INDEX`` of both packages."""

_LOG = logging.getLogger("llava_face_plugin")


class FaceCausalLM:
    """Mixin over upstream's ``Llava...ForCausalLM``.

    Reads the 4th image channel as a label map, and adds the knowledge losses in training.
    """

    is_face_model = True
    markup: frozenset[int] = frozenset()
    """Ids that the training's template supervises in questions, too; see ``Texts``."""
    # Upstream's.
    training: bool
    get_model: Callable[[], Any]

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)  # type: ignore[call-arg]
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
        self._auxiliary: Auxiliary | None = None
        self._reads_prompt = FUSIONS[face.fusion.type].reads_prompt  # type: ignore[attr-defined]
        self._asked: dict[str, Any] | None = None
        self._loss_sums: dict[str, Tensor] = {}
        self._loss_count = 0
        self._told = False

    # --- images -------------------------------------------------------------------------------------------

    def get_vision_tower(self) -> Any:
        """Upstream's tower, its image processor wrapped so that it adds the label map."""
        tower = super().get_vision_tower()  # type: ignore[misc]
        if tower is not None:
            wrap_image_processor(tower, functools.partial(build_parser, self.face_config))
        return tower

    def encode_images(self, images: Tensor) -> Tensor:
        """(N, 3 or 4, H, W) images, tiles or frames -> (N, P, D) visual tokens; the 4th channel holds part ids."""
        pixels, label_map = label_channel.split(images)
        if label_map is None:
            label_map = torch.full_like(pixels[:, 0], NO_MAP)
        tower, projector = self.get_model().get_vision_tower(), self.get_model().mm_projector
        features = tower(pixels)
        rgb = None
        if projector.face.reads_pixels:
            processor = tower.image_processor
            rgb = denormalise(pixels, processor.image_mean, processor.image_std).to(features.device)
        tokens = projector(
            features,
            label_map.to(features.device),
            self._read_palette,
            rgb=rgb,
            prompt=self._prompt(),
            auxiliary=self._auxiliary,
        )
        if self._fused is not None:
            self._fused.append(tokens)
        return tokens

    def prepare_inputs_labels_for_multimodal(self, *args: Any, **kwargs: Any) -> Any:
        """As upstream's, which encodes the images here, in training and for ``generate``."""
        upstream = super().prepare_inputs_labels_for_multimodal  # type: ignore[misc]
        if not self._reads_prompt:
            return upstream(*args, **kwargs)
        self._asked = inspect.signature(upstream).bind(*args, **kwargs).arguments
        try:
            return upstream(*args, **kwargs)
        finally:
            self._asked = None

    def _prompt(self) -> Prompt | None:
        """Of the images that upstream encodes just now; None for a caller of ``encode_images`` of another kind."""
        if self._asked is None:
            return None
        asked = self._asked
        texts = Texts(asked["input_ids"], asked["attention_mask"], asked["labels"], self.markup)
        embed, training = self.get_model().embed_tokens, self.training and torch.is_grad_enabled()
        return prompt_of(texts, rows_of_visuals(texts, asked["images"]), [IMAGE_PLACE], embed, training)

    def _read_palette(self, rgb: Tensor) -> Tensor:
        """The frozen ViT of ``vit-palette``: its own, or the image tower's weights."""
        if self._own_vit is not None:
            return self._own_vit(rgb)
        tower = self.get_model().get_vision_tower()
        processor = tower.image_processor
        return tower(normalise(rgb, processor.image_mean, processor.image_std))

    # --- losses -------------------------------------------------------------------------------------------

    def _face_forward(self, upstream: Callable[..., Any], arguments: dict[str, Any], attributes: Tensor | None) -> Any:
        """Upstream's forward, and L = L_lm + w_b L_bce + w_c L_c where ``arguments`` hold ``labels``."""
        with self._collect_fused() as fused:
            auxiliary = self._auxiliary = Auxiliary()
            output = upstream(**arguments)
        if arguments.get("labels") is None or not fused:
            return output
        fusion_loss = auxiliary.weighted() if self.training else None
        if self.face_config.knowledge is None and fusion_loss is None:
            return output
        if arguments.get("dpo_forward"):
            raise FaceHostError("face mode's losses are not for DPO training: use neither --knowledge nor moe there")
        loss = output[0] if isinstance(output, tuple) else output.loss
        parts = {"loss_lm": loss, **{f"loss_{name}": value for name, value in auxiliary.losses.items()}}
        total = loss
        if fusion_loss is not None:
            total = total + fusion_loss.to(loss)
        if self.face_config.knowledge is not None:
            tokens = whole_visuals(torch.cat(fused), arguments["images"], arguments.get("modalities"))
            weighted, losses = self._knowledge_losses(tokens, attributes)
            total = total + weighted.to(loss)
            parts |= {f"loss_{name}": value for name, value in losses.items()}
        if self.training:
            self._record(parts)
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
            self._fused = self._auxiliary = None

    def _knowledge_losses(self, tokens: Tensor, attributes: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        head = self.get_model().mm_projector.face.knowledge
        losses = knowledge_losses(head, head(tokens, self._embedded_prompts(head, tokens)), attributes)
        return head.weighted(losses), losses

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
        return super().generate(inputs, images=images, **kwargs)  # type: ignore[misc]

    @torch.no_grad()
    def attribute_probabilities(self, images: Any, modalities: Sequence[str] | None = None) -> Tensor:
        """Preprocessed images -> (B, A) float32 probabilities in [0, 1], in the order of ``knowledge.vocabulary``.

        Args:
            images: (B, 3 or 4, H, W), or B of them as tiles or frames, (T, 3 or 4, H, W) each.
            modalities: ``"image"`` or ``"video"`` for each of those B; all images if None.

        A fusion that reads the prompt is in its neutral state. Raises ``FaceHostError`` without knowledge.
        """
        if self.face_config.knowledge is None:
            raise FaceHostError("this model has no knowledge block: enable face mode with --knowledge FILE")
        head = self.get_model().mm_projector.face.knowledge
        flat = torch.cat([_tiles(x) for x in images]) if _is_tiled(images) else images
        tokens = whole_visuals(self.encode_images(flat), images, modalities)
        return head(tokens, self._embedded_prompts(head, tokens)).sigmoid()


def whole_visuals(tokens: Tensor, images: Any, modalities: Sequence[str] | str | None) -> Tensor:
    """What the knowledge head looks at: one set of tokens for each image or video (our default).

    Of an image cut into tiles the first tile, which holds the whole image; of a video the mean of its frames.

    Args:
        tokens: (N, P, D) of all tiles and frames, in order.
        images: as upstream's forward takes them: (B, C, H, W), or B of (T, C, H, W) or (C, H, W).
        modalities: ``"image"``, ``"video"`` or ``"text"`` for each of the B; all images if None.

    Returns:
        (B, P, D).
    """
    if not _is_tiled(images):
        return tokens
    kinds = [modalities] if isinstance(modalities, str) else list(modalities or ())
    parts = tokens.split([len(_tiles(x)) for x in images])
    kinds += ["image"] * (len(parts) - len(kinds))  # upstream's default names one image, however many there are
    return torch.stack([part.mean(0) if kind == "video" else part[0] for part, kind in zip(parts, kinds, strict=False)])


def rows_of_visuals(texts: Texts, images: Any) -> list[int]:
    """The text that each image, tile or frame is shown with, as upstream puts them together.

    A text without a place for an image has one of its own all the same, which upstream skips. ``images`` as in
    ``whole_visuals``. Raises ``FaceHostError`` if there are more or fewer images than places.
    """
    ids, mask = texts.input_ids, texts.attention_mask
    assert ids is not None  # upstream, too, goes by them
    there = (ids == IMAGE_PLACE) if mask is None else (ids == IMAGE_PLACE) & mask.bool()
    places = [max(1, count) for count in there.sum(dim=1).tolist()]
    tiles = [len(_tiles(x)) for x in images] if _is_tiled(images) else [1] * len(images)
    rows = rows_of(places, [1] * len(tiles))
    return [row for row, count in zip(rows, tiles, strict=True) for _ in range(count)]


def signed_forward(upstream: type) -> Callable[..., Any]:
    """The face forward over ``upstream.forward``: its signature, and ``face_attributes`` (B, A) int8, 1 / 0 / -1."""
    plain = upstream.forward  # type: ignore[attr-defined]
    signature = inspect.signature(plain)

    @functools.wraps(plain)
    def forward(self: Any, *args: Any, face_attributes: Tensor | None = None, **kwargs: Any) -> Any:
        arguments = signature.bind(self, *args, **kwargs).arguments
        arguments.pop("self")
        return self._face_forward(functools.partial(plain, self), dict(arguments), face_attributes)

    # No **kwargs in what the Trainer reads: it would believe that the model scales the loss itself.
    added = inspect.Parameter("face_attributes", inspect.Parameter.KEYWORD_ONLY, default=None)
    forward.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), added]
    )
    return forward


def _is_tiled(images: Any) -> bool:
    return isinstance(images, list | tuple) or images.ndim == 5


def _tiles(images: Tensor) -> Tensor:
    """(C, H, W) or (T, C, H, W) -> (T, C, H, W)."""
    return images[None] if images.ndim == 3 else images


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
