"""The label map as the 4th channel of an image: how a map travels through upstream's unchanged data path."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import FaceDataError
from ..labels import NO_MAP
from ..parsing.base import Parser


def split(images: Tensor) -> tuple[Tensor, Tensor | None]:
    """(B, 3 or 4, H, W) -> pixels (B, 3, H, W) and label map (B, H, W), None where no channel came."""
    return images[:, :3], images[:, 3] if images.shape[1] > 3 else None


def join(pixels: Tensor, label_map: Tensor | None) -> Tensor:
    """(..., 3 or 4, H, W) and (H, W) or None (no map) -> (..., 4, H, W), dtype of the pixels."""
    *leading, _, height, width = pixels.shape
    joined = pixels.new_empty((*leading, 4, height, width))
    joined[..., :3, :, :] = pixels[..., :3, :, :]
    joined[..., 3, :, :] = NO_MAP if label_map is None else label_map
    return joined


def put(images: Tensor, label_map: Tensor | None) -> Tensor:
    """As ``join``; a channel that is there already is written in place, which saves a copy of the pixels."""
    if images.shape[-3] == 3:
        return join(images, label_map)
    images[..., 3, :, :] = NO_MAP if label_map is None else label_map
    return images


def parser_asleep(processor: Any, asleep: bool) -> AbstractContextManager[None]:
    """Keeps a face image processor from parsing while ``asleep``; any other processor is left alone."""
    if asleep and isinstance(processor, FaceImageProcessor):
        return processor.without_parser()
    return nullcontext()


def square(labels: np.ndarray) -> np.ndarray:
    """The map as upstream's ``expand2square`` pads its image: centred on a square of background."""
    height, width = labels.shape
    side = max(height, width)
    if height == width:
        return labels
    out = np.zeros((side, side), dtype=labels.dtype)
    top, left = (side - height) // 2, (side - width) // 2
    out[top : top + height, left : left + width] = labels
    return out


def anyres(labels: np.ndarray, resolution: tuple[int, int], tile: int) -> list[np.ndarray]:
    """The tiles of a map as upstream's ``process_anyres_image`` cuts its image: first the whole, squeezed into one
    tile, then (in rows) the tiles of the map scaled to fit ``resolution`` (width, height), centred on background.

    (H, W) uint8 -> 1 + n maps of (tile, tile).
    """
    height, width = labels.shape
    wide, high = resolution
    scale = min(wide / width, high / height)
    size = (min(math.ceil(width * scale), wide), min(math.ceil(height * scale), high))
    canvas = np.zeros((high, wide), dtype=labels.dtype)
    left, top = (wide - size[0]) // 2, (high - size[1]) // 2
    canvas[top : top + size[1], left : left + size[0]] = _resized(labels, size)
    rows, columns = range(0, high, tile), range(0, wide, tile)
    return [_resized(labels, (tile, tile)), *(canvas[y : y + tile, x : x + tile] for y in rows for x in columns)]


def through_processor(labels: np.ndarray, processor: Any) -> Tensor:
    """(H, W) uint8 ids -> (H', W') uint8 ids, resized (nearest) and cropped as the processor does images."""
    if isinstance(processor, FaceImageProcessor):
        processor = processor.processor  # no parser is to look at a painted map
    sides = _clip_sides(processor)
    if sides is not None:
        return torch.tensor(_as_clip(labels, *sides))
    if type(processor).__name__ == "SigLipImageProcessor":  # LLaVA-NeXT's own: squeezes the image into its size
        return torch.tensor(_resized(labels, tuple(processor.size)[::-1]))
    # Any other processor is run itself, on the map as a picture: slower, but no geometry is guessed.
    image = Image.fromarray(labels).convert("RGB")
    out = processor.preprocess(
        image, resample=Image.Resampling.NEAREST, do_rescale=False, do_normalize=False, return_tensors="pt"
    )["pixel_values"]
    return out[0][0].to(torch.uint8)


def _clip_sides(processor: Any) -> tuple[int, int] | None:
    """(shortest edge, crop side) of a CLIP processor that resizes and crops as usual; None for anything else."""
    if type(processor).__name__ not in ("CLIPImageProcessor", "CLIPImageProcessorPil"):
        return None
    if not (processor.do_resize and processor.do_center_crop):
        return None
    size, crop = dict(processor.size), dict(processor.crop_size)
    edge, side = size.get("shortest_edge"), crop.get("height")
    if edge is None or side is None or side != crop.get("width") or side > edge:
        return None
    return edge, side


def _as_clip(labels: np.ndarray, edge: int, side: int) -> np.ndarray:
    """CLIP's geometry: the shorter edge to ``edge``, then the centre of ``side`` x ``side``."""
    height, width = labels.shape
    short, long = sorted((width, height))
    other = int(edge * long / short)
    size = (edge, other) if width <= height else (other, edge)
    resized = _resized(labels, size)
    top, left = (size[1] - side) // 2, (size[0] - side) // 2
    return resized[top : top + side, left : left + side]


def _resized(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if labels.shape == (size[1], size[0]):
        return labels
    return np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))


class FaceImageProcessor:
    """Upstream's image processor with the label map added: ``pixel_values`` has 4 channels.

    The map comes from the parser, on the very pixels handed over; without a parser, or where it knows nothing
    of the image, the channel says "no map". Everything else is the wrapped processor's.
    """

    def __init__(self, processor: Any, build_parser: Callable[[], Parser | None]) -> None:
        """``build_parser`` is called at the first image, so that a training that never parses loads no weights."""
        self.processor = processor
        self._build_parser = build_parser
        self._parser: Parser | None = None
        self._built = False
        self._asleep = False
        self._given: np.ndarray | None = None
        self._failure: FaceDataError | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the parser, which may hold what cannot be copied: the copy builds its own when it needs one."""
        return vars(self) | {"_parser": None, "_built": False}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("processor", "_parser"):
            raise AttributeError(name)
        return getattr(self.processor, name)

    def __call__(self, images: Any, **kwargs: Any) -> Any:
        return self.preprocess(images, **kwargs)

    def preprocess(self, images: Any, **kwargs: Any) -> Any:
        """As the wrapped ``preprocess``, with ``pixel_values`` (B, 4, H, W).

        ``images`` is a PIL image, a list of them, or frames of a video, (F, H, W, 3) uint8. Raises ``ValueError``
        unless ``return_tensors="pt"``, which LLaVA passes everywhere.
        """
        if kwargs.get("return_tensors") != "pt":
            raise ValueError("face mode's image processor returns torch tensors: pass return_tensors='pt'")
        batch = self.processor.preprocess(images, **kwargs)
        frames = isinstance(images, list | tuple) or getattr(images, "ndim", 0) == 4
        each = list(images) if frames else [images]
        maps = [None if m is None else through_processor(m, self.processor) for m in self.parse(each)]
        batch["pixel_values"] = torch.stack([join(p, m) for p, m in zip(batch["pixel_values"], maps, strict=True)])
        return batch

    def parse(self, images: Sequence[Any]) -> list[np.ndarray | None]:
        """The maps of PIL images or (H, W, 3) uint8 frames, each (H, W) uint8; None where there is none.

        The one of ``with_map``, else the configured parser's.
        """
        if self._given is not None:
            return [self._given] * len(images)
        pictures = [picture for picture in map(_picture, images) if picture is not None]
        if self._asleep or len(pictures) < len(images):
            return [None] * len(images)
        if not self._built:
            self._parser, self._built = self._build_parser(), True
        if self._parser is None:
            return [None] * len(images)
        try:
            return [parsed.labels for parsed in self._parser.parse([image.convert("RGB") for image in pictures])]
        except FaceDataError as error:
            self._failure = error
            raise

    def raise_failure(self) -> None:
        """Raises the parser's last ``FaceDataError`` once more: for a caller of whom upstream keeps it."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    @contextmanager
    def without_parser(self) -> Iterator[None]:
        """For images whose map is at hand: the channel then says "no map", at no cost."""
        before = self._asleep, self._given
        self._asleep, self._given = True, None
        try:
            yield
        finally:
            self._asleep, self._given = before

    @contextmanager
    def with_map(self, labels: np.ndarray | None) -> Iterator[None]:
        """For one image whose map, (H, W) uint8 in the image's own geometry, is at hand; None changes nothing."""
        given, self._given = self._given, labels
        try:
            yield
        finally:
            self._given = given


def _picture(image: Any) -> Image.Image | None:
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3:
        return Image.fromarray(image)
    return image if isinstance(image, Image.Image) else None
