"""Which clips are good enough to train on. FaVChat's filters are not in the readable part: all are our defaults."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..errors import FaceDataError
from .clip_facts import ACTION, APPEARANCE, ClipFacts

SLACK = 0.5
"""Seconds by which an emotion may outlast its clip: clips are cut at key frames."""


@dataclass(frozen=True)
class Quality:
    """What a clip must have. CelebV-HQ's clips are of 3 to 20 seconds and at least 512 x 512 pixels (its paper)."""

    min_seconds: float = 1.0
    max_seconds: float = 60.0
    min_box: float = 0.01
    """Share of the source's frame that the crop must have."""
    min_side: int = 256
    """Of the frames, in pixels; looked at only where the files are opened."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) >= 0:
                raise FaceDataError(f"quality: {field.name} must not be negative, got {getattr(self, field.name)}")
        if self.max_seconds < self.min_seconds:
            raise FaceDataError(f"quality: max_seconds {self.max_seconds:g} is below min_seconds {self.min_seconds:g}")

    def fault(self, clip: ClipFacts) -> str | None:
        """Why a clip is left out, by its annotation alone; None: it is good."""
        if clip.seconds is None:
            return "no duration"
        if clip.seconds < self.min_seconds:
            return f"shorter than {self.min_seconds:g} s"
        if clip.seconds > self.max_seconds:
            return f"longer than {self.max_seconds:g} s"
        return self._box_fault(clip) or self._label_fault(clip)

    def size_fault(self, size: tuple[int, int]) -> str | None:
        """Why a clip of frames of that (width, height) is left out."""
        return f"frames below {self.min_side} pixels" if min(size) < self.min_side else None

    def _box_fault(self, clip: ClipFacts) -> str | None:
        if clip.box is None:
            return "no bounding box"
        top, bottom, left, right = clip.box
        if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
            return "bounding box outside the frame"
        return "bounding box too small" if (bottom - top) * (right - left) < self.min_box else None

    def _label_fault(self, clip: ClipFacts) -> str | None:
        if not any(clip.attributes.get(name) for name in (*APPEARANCE, *ACTION)):
            return "no appearance and no action labelled"
        for span in clip.emotions:
            if span.start is None and span.end is None and len(clip.emotions) == 1:
                continue
            assert clip.seconds is not None
            if span.start is None or span.end is None or not 0 <= span.start < span.end <= clip.seconds + SLACK:
                return "emotion times missing or outside the clip"
        return None
