"""The place for a language model that rewords what the templates say. None is shipped, and none is ever needed.

FaVChat had GPT-4o write its summaries and questions from the attributes. Here templates write
them; whoever has a model hands in an object with these two methods (``prepare_clips(..., rewriter=...)``).
"""

from __future__ import annotations

from typing import Protocol

from ..errors import FaceDataError
from .clip_facts import ClipFacts


class Rewriter(Protocol):
    """Rewords. Answers to questions are never handed to it: they must stay what the labels say."""

    name: str
    """Recorded in the notes of what was prepared."""

    def summary(self, text: str, clip: ClipFacts) -> str:
        """Another wording of a clip's summary."""
        ...

    def question(self, text: str, clip: ClipFacts) -> str:
        """Another wording of a question; options that stand in it must stay in it."""
        ...


class Identity:
    """Leaves everything as the templates wrote it."""

    name = "none"

    def summary(self, text: str, clip: ClipFacts) -> str:
        return text

    def question(self, text: str, clip: ClipFacts) -> str:
        return text


def reworded(kind: str, before: str, after: object, clip: ClipFacts, keep: tuple[str, ...] = ()) -> str:
    """``after``, checked: text, not empty, with every part of ``keep`` that ``before`` has, and without ``<image>``.

    Raises ``FaceDataError`` naming the clip.
    """
    if not isinstance(after, str) or not after.strip():
        raise FaceDataError(f"clip {clip.id}: the rewriter gave no text for a {kind}: {str(after)[:60]!r}")
    lost = [part for part in keep if part in before and part not in after]
    if lost:
        raise FaceDataError(f"clip {clip.id}: the rewriter lost {lost[0]!r} from a {kind}: {after[:80]!r}")
    if "<image>" in after:
        raise FaceDataError(f"clip {clip.id}: the rewriter wrote an image token into a {kind}")
    return after.strip()
