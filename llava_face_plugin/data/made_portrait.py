"""The person that the drawing functions of made faces share (see ``made_face.py``)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..labels import FACE_PARTS
from .made_canvas import Canvas, Colour, Points, mix

ID = {name: i for i, name in enumerate(FACE_PARTS)}


@dataclass
class Portrait:
    """What the drawing functions share: the canvas, the attributes, the pose and the person's colours."""

    canvas: Canvas
    on: dict[str, bool]
    rng: np.random.Generator
    yaw: float
    skin: Colour
    hair: Colour
    wide: float  # of the head
    jaw: float
    chin: float
    long: bool  # hair, and its length (where it ends), parting (x) and wave (amplitude)
    length: float
    parting: float
    wave: float
    lenses: list[Points] = field(default_factory=list)

    @property
    def shade(self) -> Colour:
        """The skin in shadow."""
        return mix(self.skin, (84, 24, 16), 0.42)

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def pick(self, colours: tuple[Colour, ...]) -> Colour:
        return colours[int(self.rng.integers(len(colours)))]

    def turn(self, points: Points, depth: float = 0.0) -> Points:
        """Features turned with the head, as if on a cylinder; ``depth`` further out (a nose) or in."""
        p = np.array(points, dtype=float)
        z = np.sqrt(np.maximum(0.81 - p[:, 0] ** 2, 0.0)) + depth
        p[:, 0] = p[:, 0] * np.cos(self.yaw) + z * np.sin(self.yaw)
        return p

    def at_ear(self, points: Points) -> Points:
        """Ears sit behind the middle of the head: turning shows one and hides the other."""
        p = np.array(points, dtype=float)
        p[:, 0] = p[:, 0] * np.cos(self.yaw) - 0.25 * np.sin(self.yaw)
        return p
