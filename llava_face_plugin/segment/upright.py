"""Between the image as it is stored, which is what LLaVA sees, and upright as EXIF asks for, which parsers need."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from ..labels import SIDES
from ..maps.vocabularies import by_image_side, exchanged
from ..parsing.base import Box

_T = Image.Transpose
UPRIGHT: dict[int, Image.Transpose] = {
    2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM, 5: _T.TRANSPOSE,
    6: _T.ROTATE_270, 7: _T.TRANSVERSE, 8: _T.ROTATE_90,
}  # fmt: skip
"""What brings a stored image of each EXIF orientation upright; orientation 1 is."""

_STORED = {**UPRIGHT, 6: _T.ROTATE_90, 8: _T.ROTATE_270}
"""The inverse."""

_COLUMNS_REVERSED = (2, 3)
_COLUMNS_ARE_ROWS = (5, 6, 7, 8)
"""EXIF orientations by what has become of the upright image's columns in the stored one; in 1 and 4 they are as they
were."""

_SIDES = tuple(part for pair in SIDES for part in pair)

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


def stored_map(labels: np.ndarray, orientation: int, boxes: Sequence[Sequence[float]] = ()) -> np.ndarray:
    """The (H, W) canonical map of the upright image, turned to fit the stored one.

    Left and right go by the stored picture's sides (see ``labels``): where its columns are the upright one's reversed,
    the two change places; where they are the upright one's rows, each face is looked at anew. ``boxes`` are the faces'
    in the stored picture; without any the map is of one face.
    """
    if orientation not in _STORED:
        return labels
    turned = np.asarray(Image.fromarray(labels).transpose(_STORED[orientation]))
    if orientation in _COLUMNS_REVERSED:
        return exchanged(turned)
    return _by_image_side(turned, boxes) if orientation in _COLUMNS_ARE_ROWS else turned


def _by_image_side(labels: np.ndarray, boxes: Sequence[Sequence[float]]) -> np.ndarray:
    """``by_image_side`` of each face: a part belongs to the face whose box is nearest, the first of equally near."""
    if len(boxes) < 2:
        return by_image_side(labels)
    rows, columns = np.nonzero(np.isin(labels, _SIDES))
    distances = [np.hypot(_outside(columns + 0.5, x0, x1), _outside(rows + 0.5, y0, y1)) for x0, y0, x1, y1 in boxes]
    nearest = np.argmin(distances, axis=0)
    out = labels.copy()
    for face in range(len(boxes)):
        mine = rows[nearest == face], columns[nearest == face]
        alone = np.zeros_like(labels)
        alone[mine] = labels[mine]
        out[mine] = by_image_side(alone)[mine]
    return out


def _outside(places: np.ndarray, low: float, high: float) -> np.ndarray:
    """How far places lie outside of an interval; 0 within it."""
    return np.maximum(np.maximum(low - places, places - high), 0.0)


def stored_box(box: Box, orientation: int, size: tuple[int, int]) -> Box:
    """A box of the upright image in pixels of the stored one, whose (width, height) is ``size``."""
    point = _POINTS[orientation]
    (xa, ya), (xb, yb) = point(box[0], box[1], *size), point(box[2], box[3], *size)
    return min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)
