"""What a face parser is, and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the image; x1, y1 exclusive."""


@dataclass(frozen=True)
class Face:
    """One face of a picture."""

    box: Box
    score: float
    """The detector's score in [0, 1]; 1.0 where no detector was asked."""
    confidence: float
    """Mean over the face's pixels (those that are not background) of the highest class probability, in [0, 1]."""


@dataclass(frozen=True)
class Parsed:
    """What a parser knows of one image."""

    labels: np.ndarray | None
    """(H, W) uint8 canonical ids of the image's own size (255 = unknown); None: nothing is known of it."""
    faces: tuple[Face, ...] = ()
    """The faces that are in the map, the main one first. Empty where the parser looks for none (stored maps)."""


@runtime_checkable
class Parser(Protocol):
    """Turns images into label maps."""

    name: str
    """Its type, as in ``face.segmentation.parser.type``."""
    digest: str
    """sha256 (hex) of weights and settings: equal digests give equal maps."""

    def parse(self, images: Sequence[Image.Image], names: Sequence[str] | None = None) -> list[Parsed]:
        """One ``Parsed`` for each RGB image, in order; sizes may differ.

        ``names`` are the images' paths as the data has them, where they are known: stored maps are looked up by
        them, other parsers do not need them.
        """
        ...
