"""The label map as the 4th channel of an image: how a map travels through upstream's unchanged data path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..labels import NO_MAP
from ..parsing.base import Parser


def split(images: Tensor) -> tuple[Tensor, Tensor | None]:
    """(B, 3 or 4, H, W) -> pixels (B, 3, H, W) and label map (B, H, W), None where no channel came."""
    return images[:, :3], images[:, 3] if images.shape[1] > 3 else None


def join(pixels: Tensor, label_map: Tensor | None) -> Tensor:
    """(..., 3 or 4, H, W) and (H, W) or None (no map) -> (..., 4, H, W), dtype of the pixels."""
    pixels = pixels[..., :3, :, :]
    channel = torch.full_like(pixels[..., :1, :, :], NO_MAP)
    if label_map is not None:
        channel = channel.copy_(label_map)
    return torch.cat([pixels, channel], dim=-3)


def parser_asleep(processor: Any, asleep: bool) -> AbstractContextManager[None]:
    """Keeps a face image processor from parsing while ``asleep``; any other processor is left alone."""
    if asleep and isinstance(processor, FaceImageProcessor):
        return processor.without_parser()
    return nullcontext()


def square(labels: np.ndarray) -> np.ndarray:
    """The map as upstream's ``expand2square`` pads its image: centred on a square of background."""
    height, width = labels.shape
    side = max(height, width)
    out = np.zeros((side, side), dtype=labels.dtype)
    top, left = (side - height) // 2, (side - width) // 2
    out[top : top + height, left : left + width] = labels
    return out


def through_processor(labels: np.ndarray, processor: Any) -> Tensor:
    """(H, W) uint8 ids -> (H', W') float32 ids, resized (nearest) and cropped as the processor does images.

    The processor itself is run, so that no geometry is written twice.
    """
    if isinstance(processor, FaceImageProcessor):
        processor = processor.processor  # no parser is to look at a painted map
    image = Image.fromarray(labels).convert("RGB")
    out = processor.preprocess(
        image, resample=Image.Resampling.NEAREST, do_rescale=False, do_normalize=False, return_tensors="pt"
    )["pixel_values"]
    return out[0][0].float()


class FaceImageProcessor:
    """Upstream's image processor with the label map added: ``pixel_values`` has 4 channels.

    The map comes from the parser, on the very pixels handed over; without a parser, or where it knows nothing
    of the image, the channel says "no map". Everything else is the wrapped processor's.
    """

    def __init__(self, processor: Any, parser: Parser | None) -> None:
        self.processor = processor
        self.parser = parser

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("processor", "parser"):
            raise AttributeError(name)
        return getattr(self.processor, name)

    def __call__(self, images: Any, **kwargs: Any) -> Any:
        return self.preprocess(images, **kwargs)

    def preprocess(self, images: Any, **kwargs: Any) -> Any:
        """As the wrapped ``preprocess``, with ``pixel_values`` (B, 4, H, W).

        ``images`` is a PIL image or a list of them. Raises ``ValueError`` unless ``return_tensors="pt"``,
        which LLaVA passes everywhere.
        """
        if kwargs.get("return_tensors") != "pt":
            raise ValueError("face mode's image processor returns torch tensors: pass return_tensors='pt'")
        batch = self.processor.preprocess(images, **kwargs)
        each = images if isinstance(images, list | tuple) else [images]
        pixels = batch["pixel_values"]
        joined = [join(p, self._map(image)) for p, image in zip(pixels, each, strict=True)]
        batch["pixel_values"] = torch.stack(joined)
        return batch

    @contextmanager
    def without_parser(self) -> Iterator[None]:
        """For images whose map is at hand: the channel then says "no map", at no cost."""
        parser, self.parser = self.parser, None
        try:
            yield
        finally:
            self.parser = parser

    def _map(self, image: Any) -> Tensor | None:
        if self.parser is None or not isinstance(image, Image.Image):
            return None
        labels = self.parser.parse(image)
        return None if labels is None else through_processor(labels, self.processor)
