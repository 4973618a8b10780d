"""Which transformers these classes are for. Imports no model of it."""

from __future__ import annotations

import importlib.metadata as metadata
import re

from ...errors import FaceHostError

LOWEST, BELOW = (4, 55), (6, 0)
"""Older ones have no placeholder mask in the backbone; what 6 will change is unknown."""


def check() -> str:
    """The installed version of transformers. Raises ``FaceHostError`` for one outside the supported range."""
    try:
        found = metadata.version("transformers")
    except metadata.PackageNotFoundError:
        raise FaceHostError(f"face mode on transformers' Llava classes needs transformers {wanted()}") from None
    if not supported(found):
        raise FaceHostError(
            f"face mode on transformers' Llava classes needs transformers {wanted()}, but {found} is installed"
        )
    return found


def supported(version: str) -> bool:
    """Whether ``"4.57.6"`` is in the range."""
    number = re.match(r"(\d+)\.(\d+)", version)
    return number is not None and LOWEST <= (int(number[1]), int(number[2])) < BELOW


def wanted() -> str:
    """The range in words."""
    return f">= {LOWEST[0]}.{LOWEST[1]} and < {BELOW[0]}"
