"""``FaceBackbone``: the mixin that gives a Llava backbone of transformers its face branch.

The label map rides as the 4th channel of ``pixel_values`` and ``pixel_values_videos``. Just before the vision tower a
hook takes it off, and just before the projector another hands it on: whatever upstream does in between (tiles, packing,
``generate()``, caches) stays as it is. The branch hangs under ``multi_modal_projector.face``.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...config import FaceConfig
from ...encoders.backbones import FrozenVit
from ...errors import FaceHostError
from ...fusion import Auxiliary, Prompt
from ...labels import NO_MAP
from .. import label_channel
from ..knowledge_losses import knowledge_losses
from .asked import FaceAsked, FaceAskedTiles
from .carried import NotCopied
from .palette import read_palette, shown_rgb
from .projector import FaceMultiModalProjector, check_whole, refuse_quantised, start_fresh


class FaceFromPretrained(NotCopied):
    """Nothing but face weights may be missing from a checkpoint; those that are start fresh, gates closed."""

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """As upstream's.

        Raises ``FaceHostError`` if other weights are missing, which upstream leaves random, and for a projector in 4 or
        8 bits.
        """
        refuse_quantised(cls, args, kwargs)
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)  # type: ignore[misc]
        check_whole(model)
        start_fresh(model, info["missing_keys"])
        return (model, info) if output_loading_info else model


class FaceBackbone(FaceAsked, FaceFromPretrained):
    """Mixin over ``LlavaModel`` and its kin: vision tower, projector and language model."""

    _no_split_modules: ClassVar[list[str]] = ["FaceMultiModalProjector"]
    output_class: Any
    """Upstream's output with ``face_loss`` and ``face_losses``."""
    # Upstream's.
    config: Any
    training: bool
    vision_tower: nn.Module
    multi_modal_projector: Any
    get_input_embeddings: Any

    def __init__(self, config: Any) -> None:
        super().__init__(config)  # type: ignore[call-arg]
        self.face_config = FaceConfig.of(config)
        self._listeners: list[list[Any]] = []
        self._fused: list[Tensor] | None = None
        self._auxiliary: Auxiliary | None = None
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
        upstream = super().get_image_features  # type: ignore[misc]
        prompt = None
        if self.reads_prompt:
            prompt = self._image_prompt(inspect.signature(upstream).bind(*args, **kwargs).arguments)
        with self._label_maps(prompt):
            return upstream(*args, **kwargs)

    @contextmanager
    def _label_maps(self, prompt: Prompt | None) -> Iterator[None]:
        """Between tower and projector the label map goes round upstream's code, and the prompt with it.

        Hooks and not attributes of the projector: PEFT may have put a wrapper around it.
        """
        if self.face_config is None:
            yield
            return
        maps: list[Tensor] = []
        shown: list[Tensor] = []

        def split(tower: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            pixels, label_map = label_channel.split(args[0])
            if not maps:  # the palette that vit-palette shows to the tower comes later, and is no image
                maps.append(torch.full_like(pixels[:, 0], NO_MAP) if label_map is None else label_map)
                shown.append(pixels)
            return (pixels, *args[1:])

        def hand_on(projector: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
            rgb = shown_rgb(self, shown[0]) if self.face_branch.reads_pixels else None
            given = {"label_map": maps[0], "vit": self._read_palette, "rgb": rgb, "prompt": prompt}
            return args, {**kwargs, **given, "auxiliary": self._auxiliary}

        handles = [
            self.vision_tower.register_forward_pre_hook(split),
            self.multi_modal_projector.register_forward_pre_hook(hand_on, with_kwargs=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @property
    def face_branch(self) -> Any:
        """The ``FaceBranch``; PEFT's wrapper around the projector answers for it."""
        return self.multi_modal_projector.face

    def _read_palette(self, rgb: Tensor) -> Tensor:
        return self._own_vit(rgb) if self._own_vit is not None else read_palette(self, rgb)

    def _keep(self, tokens: Tensor) -> None:
        """(B, P, D) fused tokens of whole images or videos, whose mean (B, 1, D) the knowledge head looks at."""
        if self._fused is not None:
            self._fused.append(tokens.mean(dim=1, keepdim=True))  # P differs between images and videos

    @contextmanager
    def _collect_fused(self) -> Iterator[list[Tensor]]:
        fused: list[Tensor] = []
        self._fused = fused
        try:
            yield fused
        finally:
            self._fused = self._auxiliary = None

    # --- knowledge ----------------------------------------------------------------------------------------

    def forward(self, *args: Any, face_attributes: Tensor | None = None, **kwargs: Any) -> Any:
        """As upstream's, plus ``face_attributes`` (B, A) int8: 1, 0 or -1 = unknown, a row for each image.

        Rows: first the images in the order of ``pixel_values``, then the videos in that of ``pixel_values_videos``,
        whichever texts they stand in (in this order upstream encodes them).

        The output has ``face_loss`` = w_b L_bce + w_c L_c and its parts ``face_losses``, in training or where
        attributes are given. It is for the caller to add: ``Face...ForConditionalGeneration`` and ``FaceLossMixin``
        do.
        """
        if self.face_config is None:
            return super().forward(*args, **kwargs)  # type: ignore[misc]
        if getattr(self, "_is_replica", False):
            raise FaceHostError(
                "plain `python` on several GPUs makes torch's DataParallel, whose replicas would mix up their face "
                "losses: start with torchrun, accelerate or deepspeed, or set CUDA_VISIBLE_DEVICES to one GPU"
            )
        as_tuple = kwargs.pop("return_dict", None) is False
        upstream = super().forward  # type: ignore[misc]
        with self._collect_fused() as fused, self._shown(upstream, args, kwargs):
            auxiliary = self._auxiliary = Auxiliary()
            plain = upstream(*args, return_dict=True, **kwargs)
        output = self.output_class(**plain)
        if fused and self.face_config.knowledge and (face_attributes is not None or self.training):
            output.face_loss, output.face_losses = self._knowledge_losses(torch.cat(fused), face_attributes)
        if self.training and (weighted := auxiliary.weighted()) is not None:
            output.face_loss = weighted if output.face_loss is None else output.face_loss + weighted
            output.face_losses = {**(output.face_losses or {}), **auxiliary.losses}
        wanted = face_attributes is not None or auxiliary.losses  # without either the knowledge losses are 0
        learning = self.training and torch.is_grad_enabled()
        if learning and wanted and output.face_loss is not None and not self._listeners:
            warnings.warn(
                "face mode has losses for this batch, but no loss takes them up: this trainer goes past the model's "
                "own loss. Mix llava_face_plugin.hosts.hf.FaceLossMixin into it",
                stacklevel=2,
            )
        for outputs in self._listeners:
            outputs.append(output)
        return output.to_tuple() if as_tuple else output

    def _shown(self, upstream: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AbstractContextManager[None]:
        if not self.reads_prompt:
            return nullcontext()
        given = inspect.signature(upstream).bind_partial(*args, **kwargs).arguments
        return self.shown_with(given.get("input_ids"), given.get("attention_mask"))

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
            prompts = self.get_input_embeddings()(ids).to(tokens)
        return head(tokens, prompts)

    def _knowledge_losses(self, tokens: Tensor, attributes: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        head = self.multi_modal_projector.face.knowledge
        losses = knowledge_losses(head, self.attribute_logits(tokens), attributes)
        return head.weighted(losses), losses


class FaceTiles(FaceAskedTiles, FaceBackbone):
    """Anyres: every tile has its map; the knowledge head looks at the first tile, which holds the whole image."""

    def pack_image_features(self, image_features: Any, *args: Any, **kwargs: Any) -> Any:
        """As upstream's, of (tiles, P, D) an image."""
        self._keep(torch.stack([tiles[0] for tiles in image_features]))
        return super().pack_image_features(image_features, *args, **kwargs)  # type: ignore[misc]

    def _check_fusion(self) -> None:
        face = self.multi_modal_projector.face
        if face.fusion.adds_tokens:
            raise FaceHostError(
                f"face.fusion.type {face.config.fusion.type!r} adds tokens, but {self.config.model_type} lays its "
                "tiles out by their number of tokens: use gated_add or channel"
            )


class FaceVideos(FaceTiles):
    """Anyres images and videos: every frame has its map; the knowledge head looks at the mean over all frames.

    Each frame is fused on the patches that upstream hands to its projector: OneVision pools after it, so all of them;
    LLaVA-NeXT-Video before it, so the pooled ones.
    """

    def get_video_features(self, *args: Any, **kwargs: Any) -> Any:
        """As upstream's; pixels (B, frames, 3 or 4, H, W), the 4th channel part ids."""
        # Its name differs between releases.
        pixels = args[0] if args else next(value for name, value in kwargs.items() if name.startswith("pixel_values"))
        with self._label_maps(self._video_prompt(pixels)), self._frames_kept(len(pixels)):
            return super().get_video_features(*args, **kwargs)  # type: ignore[misc]

    @contextmanager
    def _frames_kept(self, videos: int) -> Iterator[None]:
        def keep(projector: nn.Module, args: tuple[Any, ...], tokens: Tensor) -> None:
            self._keep(tokens.unflatten(0, (videos, -1)).flatten(1, 2))

        handle = self.multi_modal_projector.register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()


def take_loss(outputs: list[Any]) -> Tensor | None:
    """The sum of the outputs' ``face_loss``. It is theirs no more: who comes later does not add it again."""
    losses = [output.face_loss for output in outputs if output.face_loss is not None]
    for output in outputs:
        output.face_loss = None
    return torch.stack(losses).sum() if losses else None
