"""What all detectors share: pictures of bounded size, faces in order, and a second, finer look.

Both detectors are made for faces of up to some 400 pixels. Measured on portraits of CelebAMask-HQ scaled up to 1600
pixels: seen at 640, YuNet finds exactly one face in 59 of 60 and RetinaFace in 12 of 12; seen at 1600, YuNet in 0 of
60 and RetinaFace in 2 of 12, for parts of a large face become faces of their own, and the face's own box is lost.
But of 36 faces of about 25 pixels RetinaFace finds 8 at 640 and all at 1600. Hence the two sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from .base import Detection

COARSE, FINE = 640, 1600
"""Longer side of the picture in the first and the second look, at most (ours; measured, see above)."""

OVERLAP = 0.3
"""Share of the smaller box from which a face of the second look is one of the first, or a piece of it (our default)."""

Look = Callable[[Sequence[Image.Image], int], list[Detection]]
"""Images and the longest side to see them at -> the faces in the images' own pixels."""


def two_looks(images: Sequence[Image.Image], look: Look, every: bool) -> list[Detection]:
    """The faces of each image: those seen at ``COARSE``, and of large images the small ones seen at ``FINE`` only.

    Without ``every`` the second look is for images in which the first found no face at all: enough for the main face.
    """
    found = look(images, COARSE)
    again = [i for i, image in enumerate(images) if max(image.size) > COARSE and (every or not len(found[i].boxes))]
    finer = look([images[i] for i in again], FINE) if again else []
    for i, second in zip(again, finer, strict=True):
        found[i] = _joined(found[i], second)
    return found


def _joined(first: Detection, second: Detection) -> Detection:
    if not len(first.boxes):
        return second
    low = np.maximum(first.boxes[:, None, :2], second.boxes[None, :, :2])
    high = np.minimum(first.boxes[:, None, 2:], second.boxes[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)  # (first, second)
    smaller = np.minimum(_areas(first.boxes)[:, None], _areas(second.boxes)[None])
    new = (common < OVERLAP * smaller).all(axis=0)
    boxes = np.concatenate([first.boxes, second.boxes[new]])
    order = np.argsort(-_areas(boxes), kind="stable")
    assert first.points is not None and second.points is not None  # both come from `detection`
    points = np.concatenate([first.points, second.points[new]])
    scores = np.concatenate([first.scores, second.scores[new]])
    return Detection(boxes[order], points[order], scores[order])


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def bounded(image: Image.Image, longest: int) -> tuple[np.ndarray, float]:
    """The image with at most ``longest`` pixels on its longer side: (h, w, 3) uint8 RGB, and what it was scaled by."""
    image = image.convert("RGB")
    scale = min(1.0, longest / max(image.size))
    if scale < 1.0:
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.array(image), scale


def detection(
    boxes: np.ndarray, points: np.ndarray, scores: np.ndarray, size: tuple[int, int], min_score: float
) -> Detection:
    """The usable faces of an image of ``size`` (width, height), the largest box first.

    Boxes (n, 4) are cut off at the image's edges; points (n, 5, 2); scores (n,). What scores less than ``min_score``,
    is not finite, lies wholly outside or has its five points in one place is no face.
    """
    width, height = size
    boxes = boxes.astype(np.float32).reshape(-1, 4)
    points = points.astype(np.float32).reshape(-1, 5, 2)
    scores = scores.astype(np.float32).reshape(-1)
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(points).all(axis=(1, 2)) & np.isfinite(scores)
    boxes = np.clip(boxes, 0, np.array([width, height, width, height], dtype=np.float32))
    with np.errstate(invalid="ignore", over="ignore"):
        areas = _areas(boxes)
        spread = np.ptp(points, axis=1).max(axis=1, initial=0.0)
    keep = finite & (scores >= min_score) & (areas > 0) & (spread > 0)
    order = np.flatnonzero(keep)[np.argsort(-areas[keep], kind="stable")]
    return Detection(boxes[order], points[order], np.clip(scores[order], 0.0, 1.0))
