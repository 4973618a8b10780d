"""Where a processor's label maps come from: given with the images, from the map store, or from the parser."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ...config import FaceConfig
from ...errors import FaceDataError
from ...maps.files import check_ids, read_map, same_aspect
from ...maps.lookup import Maps, open_maps
from ...parsing.base import Parser
from ..parsers import build_parser

AS_IDS = {
    "resample": Image.Resampling.NEAREST,
    "do_rescale": False,
    "do_normalize": False,
    "return_tensors": "pt",
}
"""Has an image or video processor treat pictures of ids as such."""


class MapSource:
    """Store and parser of a ``face`` block, opened at first need; None: neither."""

    def __init__(self, config: FaceConfig | None) -> None:
        self.config = config
        self._maps: Maps | None = None
        self._parser: Parser | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what it has opened, which a worker process opens for itself."""
        return {"config": self.config, "_maps": None, "_parser": None}

    @property
    def parses(self) -> bool:
        """Whether a parser is configured, which is shown the images without a map."""
        return self.config is not None and self.config.segmentation.parser is not None

    def of(self, images: Sequence[Any], given: Any, names: Sequence[str] = ()) -> list[np.ndarray | None]:
        """One (H, W) uint8 map for each image, None where nothing is known. ``names``: what an error calls each map.

        Raises ``FaceDataError`` if the numbers differ or a map does not fit its image, naming the map.
        """
        each = list(given) if isinstance(given, list | tuple) else [given] * (1 if given is not None else len(images))
        if len(each) != len(images):
            raise FaceDataError(f"{len(each)} segmentation_maps for {len(images)} images; give None for one without")
        names = names or [f"segmentation_maps[{index}]" for index in range(len(each))]
        maps = [None if one is None else self._read(one, name) for one, name in zip(each, names, strict=True)]
        for index, (labels, image) in enumerate(zip(maps, images, strict=True)):
            if labels is not None:
                _check_shape(labels, image, each[index], names[index])
        return self._parsed(images, maps)

    def _read(self, one: Any, where: str) -> np.ndarray | None:
        if isinstance(one, str | os.PathLike):
            path = Path(one)
            if path.is_file():
                return read_map(path, sample=where)
            found = self._by_name(str(one))
            if found is None:
                raise FaceDataError(f"{where} {str(one)!r}: no such file, and no such name in face.segmentation.maps")
            return found
        array = np.asarray(one.cpu() if isinstance(one, Tensor) else one)
        if isinstance(one, Image.Image) and one.mode not in ("P", "L"):
            raise FaceDataError(f"{where}: a picture of mode {one.mode} holds colours, not part ids (palette or gray)")
        if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
            raise FaceDataError(f"{where}: expected (H, W) integer ids, got {array.shape} {array.dtype}")
        if array.size == 0 or array.min() < 0 or array.max() > 255:
            raise FaceDataError(f"{where}: ids must be 0 to 255")
        labels = array.astype(np.uint8)
        check_ids(labels, where)
        return labels

    def _by_name(self, name: str) -> np.ndarray | None:
        store = self.config.segmentation.maps if self.config is not None else None
        if store is None:
            return None
        if self._maps is None:
            self._maps = open_maps(store)
        return self._maps.by_name(name)

    def _parsed(self, images: Sequence[Any], maps: list[np.ndarray | None]) -> list[np.ndarray | None]:
        """The gaps filled by the parser, if one is configured."""
        gaps = [index for index, labels in enumerate(maps) if labels is None]
        if not gaps or self.config is None or not self.parses:
            return maps
        if self._parser is None:
            self._parser = build_parser(self.config)
        parsed = self._parser.parse([_rgb(images[index]) for index in gaps]) if self._parser else []
        for index, result in zip(gaps, parsed, strict=True):
            maps[index] = result.labels
        return maps


def _check_shape(labels: np.ndarray, image: Any, given: Any, where: str) -> None:
    height, width = size_of(image)
    if not same_aspect((labels.shape[1], labels.shape[0]), (width, height)):
        name = f" {given}" if isinstance(given, str | os.PathLike) else ""
        raise FaceDataError(
            f"{where}{name}: the map is {labels.shape[1]}x{labels.shape[0]}, its image {width}x{height}: another shape"
        )


def as_picture(labels: np.ndarray | None, image: Any) -> Image.Image:
    """(H, W) ids as a gray RGB picture of the image's own size, for an image or video processor; None: all 0."""
    height, width = size_of(image)
    if labels is None:
        return Image.new("RGB", (width, height))
    picture = Image.fromarray(labels)
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.NEAREST)
    return picture.convert("RGB")


def _rgb(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    from transformers.image_transforms import to_pil_image

    return to_pil_image(image).convert("RGB")


def size_of(image: Any) -> tuple[int, int]:
    """(height, width) of a PIL image, array or tensor."""
    if isinstance(image, Image.Image):
        return image.height, image.width
    from transformers.image_utils import get_image_size, to_numpy_array

    return get_image_size(to_numpy_array(image))
