"""The person that the drawing functions of made faces share (see ``made_face.py``)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..labels import FACE_PARTS
from .made_canvas import Canvas, Colour, Points, mix

ID = {name: i for i, name in enumerate(FACE_PARTS)}


@dataclass(frozen=True)
class Motion:
    """What changes from frame to frame of a clip; the defaults are a still, drawn as its attributes say."""

    turn: float = 0.0
    """Radians added to the yaw."""
    nod: float = 0.0
    """Radians of pitch: above 0 the face looks down."""
    blink: float = 0.0
    """How far the eyes are closed, 0 to 1."""
    smile: float | None = None
    """0 to 1; None: as the attribute Smiling."""
    mouth: float | None = None
    """How far the mouth is open, 0 to 1; None: as the attribute Mouth_Slightly_Open."""


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
    motion: Motion = field(default_factory=Motion)

    @property
    def smile(self) -> float:
        """How much of a smile is drawn, 0 to 1."""
        return float(self.on["Smiling"]) if self.motion.smile is None else self.motion.smile

    @property
    def parted(self) -> float:
        """How far the mouth is open, 0 to 1."""
        return float(self.on["Mouth_Slightly_Open"]) if self.motion.mouth is None else self.motion.mouth

    @property
    def shade(self) -> Colour:
        """The skin in shadow."""
        return mix(self.skin, (84, 24, 16), 0.42)

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def smiling(self, without: float, with_: float) -> float:
        """A measure that changes with the smile."""
        return (1 - self.smile) * without + self.smile * with_

    def pick(self, colours: tuple[Colour, ...]) -> Colour:
        return colours[int(self.rng.integers(len(colours)))]

    def turn(self, points: Points, depth: float = 0.0) -> Points:
        """Features turned with the head, as if on a cylinder; ``depth`` further out (a nose) or in."""
        p = np.array(points, dtype=float)
        z = np.sqrt(np.maximum(0.81 - p[:, 0] ** 2, 0.0)) + depth
        p[:, 0] = p[:, 0] * np.cos(self.yaw) + z * np.sin(self.yaw)
        p[:, 1] = p[:, 1] * np.cos(self.motion.nod) + z * np.sin(self.motion.nod)
        return p

    def at_ear(self, points: Points) -> Points:
        """Ears sit behind the middle of the head: turning shows one and hides the other."""
        p = np.array(points, dtype=float)
        p[:, 0] = p[:, 0] * np.cos(self.yaw) - 0.25 * np.sin(self.yaw)
        return p
