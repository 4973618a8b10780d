"""What every metric asks of its input, and what a statistic is."""

from __future__ import annotations

from collections.abc import Callable, Sized

import numpy as np

from ...errors import FaceDataError

Statistic = Callable[[np.ndarray], float | None]
"""(n,) int64 numbers of rows, with repeats -> a score of those rows; None where it is undefined on them."""


def checked_length(**columns: Sized) -> int:
    """The common length of the columns. Raises ``FaceDataError`` where it is 0 or the lengths differ."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise FaceDataError(f"one entry a question is needed in each of {', '.join(lengths)}; found {lengths}")
    length = next(iter(lengths.values()))
    if not length:
        raise FaceDataError(f"nothing to score: {', '.join(lengths)} empty", "empty")
    return length
