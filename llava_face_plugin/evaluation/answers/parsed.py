"""What a parser returns, and how explicit final answers and the rest of an answer are weighed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .reading import read
from .refusals import is_refusal

Value = str | int | float | tuple[str, ...] | None
Judge = Callable[[str], set[Value]]
"""Reads a piece of text: the empty set if it names nothing, one value if it is clear. Anything else is unclear:
several values, or ``None`` among them (something is named, but denied or not in a form that counts)."""


@dataclass(frozen=True)
class Parsed:
    """``value`` None: unparsed, which scores as wrong. ``refused``: unparsed, and the text declines to answer."""

    value: Value
    refused: bool = False


def parse(text: str, judge: Judge) -> Parsed:
    """The one value that the explicit final answers name; where none of them names anything, that of the whole text.

    Final answers that disagree, or of which one is unclear, leave the text unparsed. Raises ``TypeError`` if
    ``text`` is not a string.
    """
    reading = read(text)
    values: set[Value] = set().union(*map(judge, reading.finals)) or judge(reading.body)
    value = values.pop() if len(values) == 1 else None
    return Parsed(value, refused=value is None and is_refusal(reading.text))
