"""The messages of a chat task: checked, their images, and the same turns about another question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .host import Message
from .questions import ImageRef


@dataclass(frozen=True)
class Turns:
    """A conversation without its pixels, and its images in order."""

    shown: Sequence[Message]
    images: tuple[ImageRef, ...]

    def asking(self, text: str) -> Sequence[Message]:
        """The turns with this text in place of theirs."""
        return [{**turn, "content": [_with(part, text) for part in turn["content"]]} for turn in self.shown]


def plain(messages: Any) -> Sequence[Message]:
    """Messages as a task gives them, checked by lmms-eval's own schema."""
    from lmms_eval.protocol import ChatMessages

    checked: list[Message] = ChatMessages(messages=messages).model_dump()["messages"]
    return checked


def media(turns: Sequence[Message]) -> list[Any]:
    """Images, videos and sounds in order."""
    return [part["url"] for turn in turns for part in turn["content"] if part["type"] != "text"]


def texts(turns: Sequence[Message]) -> list[str]:
    """Texts in order."""
    return [part["text"] for turn in turns for part in turn["content"] if part["type"] == "text"]


def shown(turns: Sequence[Message]) -> Sequence[Message]:
    """The turns without pixels; audio, and video where the host reads none, were refused before."""
    return [{"role": turn["role"], "content": [_shown(part) for part in turn["content"]]} for turn in turns]


def _shown(part: Message) -> Message:
    return part if part["type"] == "text" else {"type": part["type"]}


def _with(part: Message, text: str) -> Message:
    return {**part, "text": text} if part["type"] == "text" else part
