"""What a face parser is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image


@runtime_checkable
class Parser(Protocol):
    """Anything that turns an image into a label map."""

    def parse(self, image: Image.Image) -> np.ndarray | None:
        """(H, W) uint8 ids 0..18 (255 = unknown) of the image's own size; None: nothing is known of it."""
        ...
