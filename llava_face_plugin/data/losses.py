"""Rows that are left out of a data set: counted by reason, the first ones named."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

NAMED = 5
"""So many messages are kept of each reason (our default)."""


@dataclass
class Losses:
    """``skipped`` and ``problems`` are what a ``Manifest`` has under these names."""

    skipped: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add(self, reason: str, message: str | None = None, n: int = 1) -> None:
        """Count ``n`` rows, and keep ``message`` (file and line) if it is one of the first of its reason."""
        if n < 1:
            return
        if message is not None and self.skipped[reason] < NAMED:
            self.problems.append(message)
        self.skipped[reason] += n
