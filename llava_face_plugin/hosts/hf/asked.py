"""``FaceAsked``: which text each image, tile and frame of a batch is shown with, in transformers' Llava families.

The processor has put as many placeholders into a text as its images take tokens. So the texts are filled with images in
order, and must come out even.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

from ...fusion import Prompt
from ..prompts import Texts, prompt_of, rows_of


class FaceAsked:
    """Mixin under ``FaceBackbone``. Nothing of it runs unless the fusion reads the prompt."""

    # Upstream's.
    config: Any
    training: bool
    get_input_embeddings: Any
    face_branch: Any
    face_config: Any

    _texts: Texts | None = None
    _labels: Tensor | None = None
    _given: int | None = None
    """How many tokens ``generate`` was given: assisted decoding shows a forward guesses behind them."""

    @property
    def reads_prompt(self) -> bool:
        """Whether an image's tokens are good for one prompt only."""
        return self.face_config is not None and self.face_branch.reads_prompt

    @contextmanager
    def supervised(self, labels: Tensor | None) -> Iterator[None]:
        """Forwards in this context are for these labels (S, L), -100 where nothing is supervised; None: no news."""
        before = self._labels
        self._labels = before if labels is None else labels
        try:
            yield
        finally:
            self._labels = before

    @contextmanager
    def generating(self, input_ids: Tensor | None, attention_mask: Tensor | None) -> Iterator[None]:
        """As ``shown_with``; forwards in this context read no token behind these."""
        before, self._given = self._given, None if input_ids is None else input_ids.shape[1]
        try:
            with self.shown_with(input_ids, attention_mask):
                yield
        finally:
            self._given = before

    @contextmanager
    def shown_with(self, input_ids: Tensor | None, attention_mask: Tensor | None) -> Iterator[None]:
        """Images that are encoded in this context belong to these texts; see ``Texts``."""
        if self._given is not None and input_ids is not None:
            input_ids = input_ids[:, : self._given]
            if attention_mask is not None and attention_mask.ndim == 2:
                attention_mask = attention_mask[:, : self._given]
        before, self._texts = self._texts, Texts(input_ids, attention_mask, self._labels)
        try:
            yield
        finally:
            self._texts = before

    def _image_prompt(self, given: Mapping[str, Any]) -> Prompt | None:
        """``given``: the arguments of ``get_image_features``. Outside of forward and generate: None."""
        if not self.reads_prompt or self._texts is None:
            return None
        tiles = self._tiles(given)
        return self._prompt(self.config.image_token_id, lambda total: self._lengths(given, tiles, total), tiles)

    def _video_prompt(self, pixels: Tensor) -> Prompt | None:
        """``pixels`` (B, frames, C, H, W): every video of a batch takes as many places."""
        if not self.reads_prompt or self._texts is None:
            return None
        videos, frames = pixels.shape[:2]
        return self._prompt(self.config.video_token_id, lambda total: _equal(total, videos), [frames] * videos)

    def _prompt(self, place: int, lengths: Callable[[int], list[int]], repeats: Sequence[int]) -> Prompt | None:
        """``lengths``: places in all -> those of each visual; ``repeats``: tiles or frames of each."""
        assert self._texts is not None
        rows: list[int] = []
        if self._texts.input_ids is not None:
            counts = (self._texts.input_ids == place).sum(dim=1).tolist()
            of_visual = rows_of(counts, lengths(sum(counts)))
            rows = [row for row, times in zip(of_visual, repeats, strict=True) for _ in range(times)]
        names = ("image_token_id", "video_token_id")
        places = [getattr(self.config, name) for name in names if hasattr(self.config, name)]
        training = self.training and torch.is_grad_enabled()
        return prompt_of(self._texts, rows, places, self.get_input_embeddings(), training)

    # --- LLaVA 1.5: whole images, all of the same number of tokens ---

    def _tiles(self, given: Mapping[str, Any]) -> list[int]:
        return [1] * len(given["pixel_values"])

    def _lengths(self, given: Mapping[str, Any], tiles: Sequence[int], total: int) -> list[int]:
        return _equal(total, len(tiles))


class FaceAskedTiles(FaceAsked):
    """Anyres: as many tiles, and places, as the image's size asks for."""

    def _tiles(self, given: Mapping[str, Any]) -> list[int]:
        sizes, vision = given["image_sizes"], self.config.vision_config
        several = given.get("batch_num_images")  # OneVision's: images that stand beside others are not cut
        cut = [True] * len(sizes) if several is None else [n == 1 for n in several for _ in range(n)]
        pinpoints, side = self.config.image_grid_pinpoints, vision.image_size
        return [
            image_size_to_num_patches(size, pinpoints, side) if tiled else 1
            for size, tiled in zip(sizes, cut, strict=True)
        ]

    def _lengths(self, given: Mapping[str, Any], tiles: Sequence[int], total: int) -> list[int]:
        """By upstream's own packing, of features that have a shape and no values."""
        vision = self.config.vision_config
        patches = (vision.image_size // vision.patch_size) ** 2
        features = [torch.empty(count, patches, 1, device="meta") for count in tiles]
        pack = super().pack_image_features  # type: ignore[misc]
        asked = inspect.signature(pack).parameters
        names = [name for name in ("vision_feature_select_strategy", "vision_aspect_ratio") if name in asked]
        options = {name: given.get(name) or getattr(self.config, name) for name in names}
        newline = torch.empty(1, device="meta")
        packed, _ = pack(features, given["image_sizes"], image_newline=newline, **options)
        return [len(tokens) for tokens in packed]


def _equal(total: int, count: int) -> list[int]:
    return [total // count] * count
