"""Which frames show a face best. The detector is handed in (``parsing.build.build_detector``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, pairwise

import numpy as np
from PIL import Image

from ..parsing.detectors.base import Detection, Detector

CANDIDATES = 4
"""Frames that are looked at for each one that is taken (our default)."""

BATCH = 16


def detections(detector: Detector, pictures: Iterable[np.ndarray]) -> list[Detection]:
    """What ``detector`` finds in each (H, W, 3) uint8 picture; ``BATCH`` of them are in memory at a time."""
    found: list[Detection] = []
    for batch in _batches(iter(pictures)):
        found += detector.detect([Image.fromarray(picture) for picture in batch])
    return found


def frontal(points: np.ndarray | None) -> np.ndarray | float:
    """How frontal faces are, in [0, 1], by their five points (n, 5, 2): 1 where the nose is midway between the eyes,
    0 where it is beside them (our default). Without points: 1.
    """
    if points is None:
        return 1.0
    left, right, nose = points[:, 0, 0], points[:, 1, 0], points[:, 2, 0]
    half = np.maximum(np.abs(right - left) / 2, 1e-6)
    return np.clip(1 - np.abs(nose - (left + right) / 2) / half, 0, 1)


def best_faces(found: list[Detection]) -> tuple[np.ndarray, np.ndarray]:
    """The score (T,) float64 of every frame's best face, and its box (T, 4) float64; 0 and NaN where there is none.

    Score: the box's side relative to the largest in the clip, times how frontal the face is (our default).
    """
    largest = max((float(_sides(d).max()) for d in found if len(d.boxes)), default=1.0)
    scores, boxes = np.zeros(len(found)), np.full((len(found), 4), np.nan)
    for i, one in enumerate(found):
        if len(one.boxes):
            value = _sides(one) / max(largest, 1e-6) * frontal(one.points)
            best = int(np.argmax(value))
            scores[i], boxes[i] = value[best], one.boxes[best]
    return scores, boxes


def best_of_parts(scores: np.ndarray, n: int) -> np.ndarray:
    """(min(n, T),) int64: the clip's T frames in ``n`` parts in order, of each the frame with the highest score.

    The earliest of equal ones; of a part without any face its middle frame, so that the clip's course is kept.
    """
    edges = np.linspace(0, len(scores), min(n, len(scores)) + 1).astype(np.int64)
    chosen = []
    for low, high in pairwise(edges):
        part = scores[low:high]
        chosen.append(low + (int(np.argmax(part)) if part.max() > 0 else len(part) // 2))
    return np.array(chosen, dtype=np.int64)


def _sides(found: Detection) -> np.ndarray:
    boxes = found.boxes.astype(np.float64)
    return np.sqrt(np.maximum((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), 0))


def _batches(pictures: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    while batch := list(islice(pictures, BATCH)):
        yield batch
