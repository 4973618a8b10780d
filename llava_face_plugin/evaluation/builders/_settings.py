"""What the user set by ``--set`` for a benchmark with files of its own."""

from __future__ import annotations

import re

from ...errors import FaceDataError
from .base import Source


def settings(source: Source, **defaults: str) -> dict[str, str]:
    """The values set, the others as in ``defaults``.

    Raises ``FaceDataError`` for a name that the benchmark does not know, and for a split other than ``test``: these
    benchmarks have one set of questions.
    """
    if unknown := sorted(source.options.keys() - defaults.keys()):
        raise FaceDataError(f"--set {unknown[0]}: unknown here; known: {', '.join(sorted(defaults)) or 'none'}")
    if source.split != "test":
        raise FaceDataError(f"split {source.split!r}: this benchmark has the split test only")
    return {**defaults, **source.options}


def whole_number(name: str, value: str, low: int, high: int) -> int:
    """``value`` as an integer from ``low`` to ``high``; raises ``FaceDataError`` naming the setting."""
    if not re.fullmatch(r"\d{1,9}", value, re.ASCII) or not low <= int(value) <= high:
        raise FaceDataError(f"--set {name}={value}: expected a whole number from {low} to {high}")
    return int(value)
