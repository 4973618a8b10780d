"""``precomputed``: maps that are on disk already, as a parser."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..errors import FaceDataError
from ..maps.files import atomic_path, open_image, read_map, same_aspect
from ..maps.keys import PAD_COLOUR, pixel_key
from ..maps.lookup import INDEX_VERSION, index_path, open_maps
from .base import Parsed


class PrecomputedParser:
    """Looks maps up by the images' names where they are given, else by their pixels.

    The digest is of the maps' place alone. A store that was segmented from them notices when one becomes younger than
    its own copy (see ``Maps.changed_since``), but not when one is deleted, or replaced by an older file.
    """

    name = "precomputed"

    def __init__(self, path: str | Path, vocabulary: str = "celebamask-hq") -> None:
        """``path`` is anything that ``maps.lookup.open_maps`` opens; the same errors."""
        self.path = Path(path)
        self.maps = open_maps(path, vocabulary)
        # the place and the ids' meaning: what lies there is not hashed, it may be millions of files
        self.digest = hashlib.sha256(f"precomputed:{self.path.resolve()}:{vocabulary}".encode()).hexdigest()

    def parse(self, images: Sequence[Image.Image], names: Sequence[str] | None = None) -> list[Parsed]:
        """Maps of the images' own sizes; ``labels`` is None for an image that has none.

        A map stored at another resolution is resized (nearest). For an image that is found by its pixels and is padded
        to a square the map is padded the same way with background (id 0). Raises ``FaceDataError`` if a stored map
        cannot be read or does not have its image's shape.
        """
        if names is None:
            return [Parsed(self._fitted(image, None)) for image in images]
        return [Parsed(self._fitted(image, name)) for image, name in zip(images, names, strict=True)]

    def _fitted(self, image: Image.Image, name: str | None) -> np.ndarray | None:
        labels = self.maps.by_name(name) if name is not None else None
        by_name = labels is not None
        if labels is None:
            labels = self.maps.by_pixels(pixel_key(image))
        if labels is None:
            return None
        fitted = fit_map(labels, image.size)
        if fitted is None and not by_name:
            fitted = fit_padded(labels, image)
        if fitted is None:
            raise FaceDataError(
                f"maps {self.path}: the map of {name or 'an image'} is {labels.shape[1]}x{labels.shape[0]}, which is "
                f"not the shape of the image, {image.width}x{image.height}"
            )
        return fitted


def fit_map(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """A map brought to an image of ``size`` (width, height): as it is, or resized. None if it has another shape."""
    return _nearest(labels, size) if same_aspect(labels.shape[::-1], size) else None


def fit_padded(labels: np.ndarray, image: Image.Image) -> np.ndarray | None:
    """A map brought to an image that upstream's ``expand2square`` has padded: padded likewise, with id 0.

    The content is centred, the odd pixel at the end. None if the image is no square, or is not in the padding colour
    where a content of the map's shape leaves room.
    """
    side = image.width
    if image.height != side:
        return None
    scale = side / max(labels.shape)
    height, width = (max(1, round(n * scale)) for n in labels.shape)
    top, left = (side - height) // 2, (side - width) // 2
    picture = np.any(np.asarray(image.convert("RGB")) != np.array(PAD_COLOUR, dtype=np.uint8), axis=2)
    slack = math.ceil(scale)  # a smaller map's shape is rounded to its own pixels
    picture[max(0, top - slack) : top + height + slack, max(0, left - slack) : left + width + slack] = False
    if picture.any():
        return None
    square = np.zeros((side, side), dtype=np.uint8)
    square[top : top + height, left : left + width] = _nearest(labels, (width, height))
    return square


class Indexed(NamedTuple):
    """What ``index`` did: the file, how many maps are in it, how many images had known pixels."""

    path: Path
    maps: int
    duplicates: int


def index(
    images: Iterable[tuple[str | Path, str | Path]],
    out: str | Path,
    workers: int = 4,
    progress: Callable[[int], None] | None = None,
) -> Indexed:
    """File the maps of (image path, map path) pairs under their images' pixels.

    Writes ``out`` (a ``.json`` file, or a folder that gets an ``index.json``): version, pad_colour and
    ``maps: {pixel key: map path relative to the index}``. Where two images have equal pixels the first map is
    kept. ``progress`` is told the number done. Raises ``FaceDataError`` for an unreadable image or map, or a
    map whose aspect is not its image's.
    """
    path = index_path(out)

    def entry(pair: tuple[str | Path, str | Path]) -> tuple[str, str]:
        image = open_image(pair[0])
        labels = read_map(pair[1], sample=str(pair[0]))
        if not same_aspect(image.size, labels.shape[::-1]):
            raise FaceDataError(
                f"face map {pair[1]}: {labels.shape[1]}x{labels.shape[0]} is not the shape of its image "
                f"{pair[0]} ({image.width}x{image.height})"
            )
        return pixel_key(image), os.path.relpath(pair[1], path.parent)

    maps: dict[str, str] = {}
    count = 0
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        for key, relative in pool.map(entry, images):
            maps.setdefault(key, relative)
            count += 1
            if progress is not None:
                progress(count)
    content = {"version": INDEX_VERSION, "pad_colour": list(PAD_COLOUR), "maps": maps}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return Indexed(path, len(maps), count - len(maps))


def _nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if (labels.shape[1], labels.shape[0]) == tuple(size):
        return labels
    return np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
