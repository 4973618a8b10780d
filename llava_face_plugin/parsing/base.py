"""What a face parser is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class FaceMap:
    """A label map: ``labels`` (H, W) uint8 of canonical part ids (``labels.FACE_PARTS``), 255 = unknown."""

    labels: np.ndarray


@runtime_checkable
class Parser(Protocol):
    """Anything that turns an image into a label map."""

    def parse(self, image: Image.Image) -> np.ndarray | None:
        """(H, W) uint8 ids 0..18 (255 = unknown) of the image's own size; None: nothing is known of it."""
        ...
