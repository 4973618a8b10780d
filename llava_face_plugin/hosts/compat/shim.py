"""What a shim is, and how shims change a foreign object: recorded, so that it can be undone."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

from ..patching import Patches

Moment = Literal["before_llava", "models", "before_trainer", "trainer"]


@dataclass(frozen=True)
class Shim:
    """One break of upstream and its mend."""

    key: str
    where: str
    """The upstream line at fault, as ``file:line``."""
    breaks_on: str
    """The versions that show the break, in words."""
    symptom: str
    """What a user sees without the shim."""
    moment: Moment
    """When it can be applied: see ``compat.apply``."""
    needed: Callable[[], bool]
    mend: Callable[[], None]


PATCHES = Patches()
patch = PATCHES.set


def release_of(distribution: str) -> tuple[int, ...]:
    """The installed release as numbers, ``(4, 57, 6)``; empty if the distribution is not installed."""
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ()
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def parameters_of(function: Callable[..., Any]) -> set[str]:
    """The names of a function's own parameters (of the wrapped function, where it wraps one)."""
    return set(inspect.signature(function).parameters)
