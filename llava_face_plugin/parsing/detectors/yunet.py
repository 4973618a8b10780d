"""YuNet (Wu et al., 2023) through OpenCV's ``FaceDetectorYN``, in OpenCV 4.8 and later, 5 included."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

import numpy as np
from PIL import Image

from ...errors import FaceDataError
from ..extras import import_extra
from ..weights import checked
from .base import Detection
from .bounded import COARSE, bounded, detection, two_looks

NMS = 0.3
"""Overlap above which two detections are one (OpenCV's default)."""


class YuNet:
    """Five points and a box a face; runs on the CPU."""

    def __init__(self, path: str, min_score: float, sha256: str | None = None, *, every: bool = True) -> None:
        """``every``: look for small faces too where large ones are found.

        Raises ``FaceDataError`` if the file is missing or is no ONNX network that OpenCV can read.
        """
        cv2 = import_extra("cv2", "maps")
        self.digest = checked(path, sha256, needs_hash=False)
        self.min_score, self.every = min_score, every
        try:
            with _quiet(cv2):
                self.net = cv2.FaceDetectorYN.create(str(path), "", (COARSE, COARSE), min_score, NMS)
        except cv2.error as error:
            raise FaceDataError(f"detector {path}: OpenCV cannot read it as YuNet ({error})", "format") from error

    def detect(self, images: Sequence[Image.Image]) -> list[Detection]:
        """See ``base.Detector``."""
        return two_looks(images, lambda some, longest: [self._one(image, longest) for image in some], self.every)

    def _one(self, image: Image.Image, longest: int) -> Detection:
        pixels, scale = bounded(image, longest)
        self.net.setInputSize((pixels.shape[1], pixels.shape[0]))
        _, found = self.net.detect(np.ascontiguousarray(pixels[:, :, ::-1]))  # it expects BGR
        rows = np.zeros((0, 15), dtype=np.float32) if found is None else found
        corner, extent, points = rows[:, :2], rows[:, 2:4], rows[:, 4:14]
        boxes = np.concatenate([corner, corner + extent], axis=1)
        return detection(boxes / scale, points / scale, rows[:, 14], image.size, self.min_score)


@contextmanager
def _quiet(cv2: ModuleType) -> Iterator[None]:
    """OpenCV 5 warns of a setting of its own for each network that is made; errors are still shown."""
    log = cv2.utils.logging
    before = log.getLogLevel()
    log.setLogLevel(min(before, log.LOG_LEVEL_ERROR))
    try:
        yield
    finally:
        log.setLogLevel(before)
