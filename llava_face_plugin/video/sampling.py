"""Which frames of a clip are looked at: pure functions of their number and their times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ..errors import FaceDataError
from ..registry import unknown_name

Kind = Literal["uniform", "fps", "face"]
KINDS: tuple[Kind, ...] = get_args(Kind)

FRAMES = 16
"""Frames a clip: FaVChat's tables are at 16, and its code caps at 16 (its repository)."""

RATE = 2.0
"""Frames a second for ``fps``: FaVChat's code (its repository)."""


@dataclass(frozen=True)
class Sampling:
    """How frames are chosen.

    ``uniform``: ``n`` of them, first and last included, as LLaVA-NeXT does with ``--force_sample``.
    ``fps``: one each 1 / ``fps`` seconds; where that are more than ``n``, ``uniform``, as LLaVA-NeXT does.
    ``face``: the clip in ``n`` parts of equal length, of each the frame with the largest, most frontal face (our
    default; the readable part of FaVChat does not say how frames are chosen).
    """

    kind: Kind = "uniform"
    n: int = FRAMES
    fps: float = RATE

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise FaceDataError(f"sampling: {unknown_name('kind', self.kind, KINDS)}")
        if self.n < 1:
            raise FaceDataError(f"sampling: n must be at least 1, got {self.n}")
        if not 0 < self.fps <= 1000:
            raise FaceDataError(f"sampling: fps must be above 0 and at most 1000, got {self.fps}")

    @classmethod
    def parse(cls, text: str, n: int = FRAMES) -> Sampling:
        """``uniform:16``, ``fps:2:16`` (the rate, and n at most) or ``face:16``. What is left out is the default; ``n``
        is that of the number of frames.

        Raises ``FaceDataError`` for anything else.
        """
        kind, *numbers = text.strip().split(":")
        try:
            if kind == "fps" and len(numbers) <= 2:
                rate = float(numbers[0]) if numbers else RATE
                return cls("fps", int(numbers[1]) if len(numbers) == 2 else n, rate)
            if len(numbers) <= 1:
                return cls(kind, int(numbers[0]) if numbers else n)  # type: ignore[arg-type]
        except ValueError as error:
            if isinstance(error, FaceDataError):
                raise
        raise FaceDataError(f"sampling {text!r}: expected uniform:N, fps:RATE:N or face:N")

    def places(self, times: np.ndarray) -> np.ndarray:
        """(F,) int64: which of the frames with these ``times`` (T,) in seconds, rising; each at most once.

        Of ``face`` it is ``uniform``: what is chosen there depends on the pixels (``faces.py``).
        """
        return by_rate(times, self.fps, self.n) if self.kind == "fps" else uniform(len(times), self.n)


def uniform(total: int, n: int) -> np.ndarray:
    """(min(n, total),) int64 of 0 to ``total`` - 1, evenly spread; the first and, from two on, the last included.

    Rounded down as upstream does (``np.linspace(0, total - 1, n, dtype=int)``), but no frame is taken twice.
    """
    return np.linspace(0, total - 1, min(n, total)).astype(np.int64)


def by_rate(times: np.ndarray, fps: float, n: int) -> np.ndarray:
    """(F,) int64: the first frame at or after each multiple of 1 / ``fps`` seconds; ``uniform`` if over ``n``."""
    if not len(times):
        return np.zeros(0, dtype=np.int64)
    span = float(times[-1] - times[0])
    if span * fps > len(times) * 1000:  # a broken clock must not ask for millions of ticks
        return uniform(len(times), n)
    # Clocks of videos are multiples of 1/90000 s and the like: a frame that is due must not be missed by rounding.
    ticks = times[0] + np.arange(int(span * fps + 1e-6) + 1) / fps - 1e-6
    places = np.unique(np.searchsorted(times, ticks)).astype(np.int64)
    return places if len(places) <= n else uniform(len(times), n)
