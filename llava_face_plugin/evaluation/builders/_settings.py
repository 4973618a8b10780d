"""Reading the values of ``--set``."""

from __future__ import annotations

import re

from ...errors import FaceDataError


def whole_number(name: str, value: str, low: int, high: int) -> int:
    """``value`` as an integer from ``low`` to ``high``; raises ``FaceDataError`` naming the setting."""
    if not re.fullmatch(r"\d{1,9}", value, re.ASCII) or not low <= int(value) <= high:
        raise FaceDataError(f"--set {name}={value}: expected a whole number from {low} to {high}")
    return int(value)
