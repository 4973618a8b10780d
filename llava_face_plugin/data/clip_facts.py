"""What CelebV-HQ says of a clip beyond a manifest row: its length, its box, and its emotions over time.

The file has times for emotions only: an action is 0 or 1 for the whole clip. Seconds of emotions count from the clip's
beginning. Seen as real rows: the 10 clips in a public fork, and the repository's README; the whole file was not at
hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .datasets.celebvhq import ACTION, APPEARANCE, EMOTION, FILE, load_info, value_at

__all__ = ["ACTION", "APPEARANCE", "EMOTION", "ClipFacts", "Span", "read_facts"]


COVERED = 0.9
"""Share of a clip for which its emotions must be labelled to be said of all of it (our default)."""


@dataclass(frozen=True)
class Span:
    """An emotion, from ``start`` to ``end`` seconds of the clip; None: throughout."""

    emotion: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class ClipFacts:
    """One clip. What the file does not give, or not as a number, is None."""

    id: str
    source: str
    """The YouTube video."""
    attributes: Mapping[str, int]
    """All 83: 0 or 1."""
    emotions: tuple[Span, ...]
    """In the order of their times."""
    seconds: float | None
    """Its length."""
    box: tuple[float, float, float, float] | None
    """top, bottom, left, right of the crop, in shares of the source's height and width."""

    @property
    def course(self) -> tuple[str, ...]:
        """The emotions in order, each once in a row: more than one where the emotion changes."""
        names = [span.emotion for span in self.emotions]
        return tuple(name for i, name in enumerate(names) if i == 0 or names[i - 1] != name)

    @property
    def covered(self) -> bool:
        """Whether the emotions are labelled for (nearly) all of the clip; an emotion without times is."""
        if any(span.start is None or span.end is None for span in self.emotions):
            return True
        if self.seconds is None:
            return False
        reached = told = 0.0
        for start, end in ((span.start or 0.0, span.end or 0.0) for span in self.emotions):
            end = min(end, self.seconds)
            told += max(0.0, end - max(start, reached))  # what overlaps counts once
            reached = max(reached, end)
        return told >= COVERED * self.seconds

    @property
    def steady(self) -> bool:
        """Whether one emotion is labelled, for (nearly) all of the clip."""
        return len(self.course) == 1 and self.covered

    @property
    def actions(self) -> tuple[str, ...]:
        """What the person does."""
        return tuple(name for name in ACTION if self.attributes.get(name) == 1)


def read_facts(path: Path, rows: Mapping[str, Mapping[str, int]]) -> dict[str, ClipFacts]:
    """Clip -> its facts, for the clips in ``rows`` (clip -> its attributes, as the manifest has them), in that order.

    ``path``: the annotation file, as ``annotation_files`` finds it. Raises ``FaceDataError`` for a broken one.
    """
    clips, _ = load_info(path, FILE)
    return {clip: _facts(clip, clips[clip], attributes) for clip, attributes in rows.items()}


def _facts(clip: str, entry: Any, attributes: Mapping[str, int]) -> ClipFacts:
    start, end = (_number(value_at(entry, "duration", key)) for key in ("start_sec", "end_sec"))
    sides = [_number(value_at(entry, "bbox", side)) for side in ("top", "bottom", "left", "right")]
    box = None if None in sides else (sides[0], sides[1], sides[2], sides[3])
    labels = value_at(entry, "attributes", "emotion", "labels")
    spans = [_span(label) for label in labels] if isinstance(labels, list) else [Span(str(labels).lower())]
    spans.sort(key=lambda span: span.start or 0.0)
    seconds = None if start is None or end is None else end - start
    return ClipFacts(clip, str(entry["ytb_id"]), attributes, tuple(spans), seconds, box)  # type: ignore[arg-type]


def _span(label: Any) -> Span:
    start, end = (_number(value_at(label, key)) for key in ("start_sec", "end_sec"))
    return Span(str(value_at(label, "emotion")).lower(), start, end)


def _number(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number else None
