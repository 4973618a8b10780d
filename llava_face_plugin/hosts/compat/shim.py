"""What a shim is, and how shims change a foreign object: recorded, so that it can be undone."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

from ...errors import FaceHostError

Moment = Literal["models", "before_trainer", "trainer"]

_ABSENT = object()


@dataclass(frozen=True)
class Shim:
    """One break of llava 1.2.2 and its mend."""

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


class Patches:
    """Replaces attributes and remembers what was there."""

    def __init__(self) -> None:
        self._done: list[tuple[Any, str, Any, Any]] = []

    def patch(self, obj: Any, name: str, value: Any) -> None:
        """Sets ``obj.name``. An attribute that ``obj`` only inherited is deleted again by ``undo``."""
        # vars() and not getattr(): a classmethod must come back as the descriptor it was.
        self._done.append((obj, name, vars(obj).get(name, _ABSENT), value))
        setattr(obj, name, value)

    def undo(self) -> None:
        """Restores everything, last patch first.

        Raises ``FaceHostError`` if somebody wrapped one of the names since: their wrapper would be lost.
        """
        while self._done:
            obj, name, original, value = self._done[-1]
            if vars(obj).get(name, _ABSENT) is not value:
                raise FaceHostError(
                    f"cannot restore {getattr(obj, '__name__', obj)}.{name}: it was changed again after this "
                    "plugin patched it; undo that change first"
                )
            if original is _ABSENT:
                delattr(obj, name)
            else:
                setattr(obj, name, original)
            self._done.pop()


PATCHES = Patches()
patch = PATCHES.patch


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
