"""Changing an upstream attribute in place, once, and back."""

from __future__ import annotations

from typing import Any

from ..errors import FaceHostError

_ABSENT = object()


class Patches:
    """A record of attributes replaced, so that ``undo`` leaves upstream as it was found."""

    def __init__(self) -> None:
        self._done: list[tuple[Any, str, Any, Any]] = []

    def set(self, target: Any, name: str, value: Any) -> None:
        """Replaces ``target.name``, remembering what ``target`` itself held (not what it inherited)."""
        # vars() and not getattr(): a classmethod must come back as the descriptor it was.
        original = vars(target).get(name, _ABSENT)
        setattr(target, name, value)
        self._done.append((target, name, original, value))

    def undo(self) -> None:
        """Puts everything back, last change first.

        Raises ``FaceHostError`` if somebody wrapped one of the names since: their wrapper would be lost.
        """
        while self._done:
            target, name, original, value = self._done[-1]
            if vars(target).get(name, _ABSENT) is not value:
                raise FaceHostError(
                    f"cannot restore {getattr(target, '__name__', target)}.{name}: it was changed again after this "
                    "plugin patched it; undo that change first"
                )
            if original is _ABSENT:
                delattr(target, name)
            else:
                setattr(target, name, original)
            self._done.pop()

    def __len__(self) -> int:
        return len(self._done)
