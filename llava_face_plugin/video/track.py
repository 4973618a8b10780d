"""Crops that follow a face: boxes over time, smoothed and padded, for frames and label maps alike.

Pure functions of boxes. Smoothing and padding are our defaults: a detector's box trembles by some pixels from frame to
frame, and a crop that trembles shows motion that is none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..errors import FaceDataError
from ..labels import NO_MAP
from ..maps.keys import PAD_COLOUR
from ..parsing.detectors.base import Detection

SIGMA = 0.25
"""Seconds of the Gaussian over which boxes are averaged."""

PAD = 0.3
"""Of the box's longer side, added on each side."""


def follow(found: Sequence[Detection]) -> np.ndarray:
    """(T, 4) float64: one face's box in each frame, NaN where it is not found.

    Begins with the largest face of the first frame that has any; from there on the box that overlaps the last one
    most, if any does. Another person's face, which does not, is never taken for it.
    """
    boxes = np.full((len(found), 4), np.nan)
    last: np.ndarray | None = None
    for i, one in enumerate(found):
        if not len(one.boxes):
            continue
        here = one.boxes.astype(np.float64)
        overlap = np.ones(len(here)) if last is None else _overlap(here, last)
        best = int(np.argmax(overlap))  # of the first frame the first, which is the largest
        if overlap[best] > 0:
            boxes[i] = last = here[best]
    return boxes


def smooth_boxes(boxes: np.ndarray, times: np.ndarray, sigma: float = SIGMA) -> np.ndarray:
    """Boxes (T, 4) x0 y0 x1 y1 -> (T, 4), averaged by a Gaussian of ``sigma`` seconds (0: not at all).

    Where a box is NaN it is interpolated between its neighbours in time first, or is that of the nearest one at the
    ends. Raises ``FaceDataError`` if there is no box at all.
    """
    known = np.isfinite(boxes).all(axis=1)
    if not known.any():
        raise FaceDataError("a face track: no frame has a face", "empty")
    filled = np.stack([np.interp(times, times[known], column[known]) for column in boxes.T], axis=1)
    if sigma <= 0:
        return filled
    weights = np.exp(-0.5 * ((times[:, None] - times[None, :]) / sigma) ** 2)
    return weights @ filled / weights.sum(axis=1, keepdims=True)


def squares(boxes: np.ndarray, pad: float = PAD) -> np.ndarray:
    """Boxes (T, 4) -> (T, 4) int64 squares around the same centres, all of one side: the longest, padded.

    One side for the whole clip, so that a face that comes nearer grows. They may reach beyond the picture.
    """
    side = int(np.ceil(max(1.0, float((boxes[:, 2:] - boxes[:, :2]).max())) * (1 + 2 * pad)))
    corner = np.round((boxes[:, :2] + boxes[:, 2:]) / 2 - side / 2).astype(np.int64)
    return np.concatenate([corner, corner + side], axis=1)


def crop_frames(pixels: np.ndarray, boxes: np.ndarray, side: int) -> np.ndarray:
    """(T, H, W, 3) uint8 and square ``boxes`` (T, 4) int64 -> (T, side, side, 3) uint8, bilinear.

    Beyond the picture it is ``maps.keys.PAD_COLOUR``, LLaVA's padding.
    """
    return _cropped(pixels, boxes, side, PAD_COLOUR, Image.Resampling.BILINEAR)


def crop_maps(maps: np.ndarray, boxes: np.ndarray, side: int) -> np.ndarray:
    """(T, H, W) uint8 part ids -> (T, side, side) uint8 by the same crop, nearest, so that ids never mix.

    Beyond the picture there is background (0); in a frame without a map (all ``labels.NO_MAP``) nothing is known.
    """
    cut = _cropped(maps, boxes, side, 0, Image.Resampling.NEAREST)
    cut[(maps == NO_MAP).all(axis=(1, 2))] = NO_MAP
    return cut


def _cropped(
    values: np.ndarray, boxes: np.ndarray, side: int, beyond: int | tuple[int, int, int], how: Image.Resampling
) -> np.ndarray:
    if len(values) != len(boxes):
        raise FaceDataError(f"a face track: {len(boxes)} boxes for {len(values)} frames")
    out = np.empty((len(values), side, side, *values.shape[3:]), dtype=np.uint8)
    for i, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        picture = Image.fromarray(values[i])
        window = Image.new(picture.mode, (x1 - x0, y1 - y0), beyond)
        window.paste(picture, (-x0, -y0))
        out[i] = np.asarray(window.resize((side, side), how))
    return out


def _overlap(boxes: np.ndarray, last: np.ndarray) -> np.ndarray:
    """(n,) intersection over union with ``last`` (4,)."""
    low, high = np.maximum(boxes[:, :2], last[:2]), np.minimum(boxes[:, 2:], last[2:])
    common = np.clip(high - low, 0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return common / np.maximum(areas + (last[2:] - last[:2]).prod() - common, 1e-9)
