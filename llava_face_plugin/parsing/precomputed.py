"""Stored maps, found by an image's pixels.

Upstream's inference scripts hand over pixels and no path, some of them already padded to a square. So a map
is filed under a hash of the image's pixels without any border in the padding colour: an image and its padded
form have the same key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..errors import FaceDataError
from ..maps.keys import PAD_COLOUR, pixel_key
from ..maps.files import atomic_path, open_image, read_map, same_aspect

INDEX_VERSION = 1
INDEX_NAME = "index.json"

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
    path = _index_path(out)

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


class PrecomputedParser:
    """Looks an image up in an index written by ``index``; a picture that is not in it has no map."""

    def __init__(self, index_path: str | Path) -> None:
        """Raises ``FaceDataError`` if the index is missing, no JSON, or of another version."""
        self.path = _index_path(index_path)
        self.pad_colour, self.maps = _read_index(self.path)

    def __len__(self) -> int:
        return len(self.maps)

    def parse(self, image: Image.Image) -> np.ndarray | None:
        """(H, W) uint8 ids of the image's own size; None if its pixels are unknown.

        For an image padded to a square the map is padded the same way with background (id 0); a map stored at
        another resolution is resized (nearest). Raises ``FaceDataError`` if the stored map cannot be read or
        does not have the image's shape.
        """
        relative = self.maps.get(pixel_key(image, self.pad_colour))
        if relative is None:
            return None
        path = self.path.parent / relative
        labels = fit_map(read_map(path), image.size)
        if labels is None:
            raise FaceDataError(f"face map {path}: its shape is not that of the image, {image.width}x{image.height}")
        return labels


def fit_map(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """A map brought to an image of ``size`` (width, height): as it is, resized, or square-padded with id 0.

    The padding is that of upstream's ``expand2square``: centred, the odd pixel at the end. None if the map
    has neither the image's shape nor, for a square image, that of its unpadded content.
    """
    width, height = size
    rows, columns = labels.shape
    if width != height or rows == columns:
        return _nearest(labels, size) if same_aspect((columns, rows), size) else None
    scale = width / max(labels.shape)
    content_w, content_h = (max(1, round(n * scale)) for n in (labels.shape[1], labels.shape[0]))
    square = np.zeros((height, width), dtype=np.uint8)
    top, left = (height - content_h) // 2, (width - content_w) // 2
    square[top : top + content_h, left : left + content_w] = _nearest(labels, (content_w, content_h))
    return square


def _nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if (labels.shape[1], labels.shape[0]) == tuple(size):
        return labels
    return np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))


def _index_path(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == ".json" else path / INDEX_NAME


def _read_index(path: Path) -> tuple[tuple[int, int, int], dict[str, str]]:
    if not path.is_file():
        raise FaceDataError(f"map index {path}: no such file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FaceDataError(f"map index {path}: not JSON ({error})") from error
    if not isinstance(content, dict) or content.get("version") != INDEX_VERSION:
        found = content.get("version") if isinstance(content, dict) else None
        raise FaceDataError(f"map index {path}: version {found!r}, this release reads version {INDEX_VERSION}")
    colour, maps = content.get("pad_colour"), content.get("maps")
    if not isinstance(maps, dict) or not isinstance(colour, list) or len(colour) != 3:
        raise FaceDataError(f"map index {path}: 'pad_colour' (3 numbers) or 'maps' (an object) is missing")
    return (int(colour[0]), int(colour[1]), int(colour[2])), maps
