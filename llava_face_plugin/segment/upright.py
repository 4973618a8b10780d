"""Between the image as it is stored, which is what LLaVA sees, and upright as EXIF asks for, which parsers need."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from ..maps.vocabularies import mirrored
from ..parsing.base import Box

_T = Image.Transpose
UPRIGHT: dict[int, Image.Transpose] = {
    2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM, 5: _T.TRANSPOSE,
    6: _T.ROTATE_270, 7: _T.TRANSVERSE, 8: _T.ROTATE_90,
}  # fmt: skip
"""What brings a stored image of each EXIF orientation upright; orientation 1 is."""

_STORED = {**UPRIGHT, 6: _T.ROTATE_90, 8: _T.ROTATE_270}
"""The inverse."""

MIRRORED = (2, 4, 5, 7)
"""EXIF orientations in which the stored image is a mirror image of the upright one."""

_POINTS: dict[int, Callable[[float, float, int, int], tuple[float, float]]] = {
    1: lambda x, y, w, h: (x, y),
    2: lambda x, y, w, h: (w - x, y),
    3: lambda x, y, w, h: (w - x, h - y),
    4: lambda x, y, w, h: (x, h - y),
    5: lambda x, y, w, h: (y, x),
    6: lambda x, y, w, h: (y, h - x),
    7: lambda x, y, w, h: (w - y, h - x),
    8: lambda x, y, w, h: (w - y, x),
}
"""A point of the upright image -> the same point of the stored one, which is (w, h) large."""


def stored_map(labels: np.ndarray, orientation: int) -> np.ndarray:
    """The (H, W) canonical map of the upright image, turned to fit the stored one.

    Left and right go by the picture's sides (see ``labels``): where the stored image is mirrored they change places,
    as they do in training on mirrored images.
    """
    if orientation not in _STORED:
        return labels
    turned = np.asarray(Image.fromarray(labels).transpose(_STORED[orientation]))
    return mirrored(turned[:, ::-1]) if orientation in MIRRORED else turned


def stored_box(box: Box, orientation: int, size: tuple[int, int]) -> Box:
    """A box of the upright image in pixels of the stored one, whose (width, height) is ``size``."""
    point = _POINTS[orientation]
    (xa, ya), (xb, yb) = point(box[0], box[1], *size), point(box[2], box[3], *size)
    return min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)
