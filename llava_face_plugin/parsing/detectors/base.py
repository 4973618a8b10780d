"""What a face detector is, and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Detection:
    """The n faces of one image, the largest box first."""

    boxes: np.ndarray
    """(n, 4) float32 x0 y0 x1 y1 in pixels."""
    points: np.ndarray | None
    """(n, 5, 2) float32 x y in pixels: the eye on the picture's left, the eye on its right, nose, the mouth's left
    and right corner (picture sides). None where the detector gives none."""
    scores: np.ndarray
    """(n,) float32 in [0, 1]."""


class Detector(Protocol):
    """Finds faces."""

    digest: str
    """sha256 (hex) of weights and settings; empty for a detector without weights."""

    def detect(self, images: Sequence[Image.Image]) -> list[Detection]:
        """One ``Detection`` for each RGB image, in order; sizes may differ."""
        ...
