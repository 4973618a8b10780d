"""Changing an upstream attribute in place, once, and back."""

from __future__ import annotations

from typing import Any

_ABSENT = object()


class Patches:
    """A record of attributes replaced, so that ``undo`` leaves upstream as it was found."""

    def __init__(self) -> None:
        self._originals: list[tuple[Any, str, Any]] = []

    def set(self, target: Any, name: str, value: Any) -> None:
        """Replaces ``target.name``, remembering what ``target`` itself held (not what it inherited)."""
        original = vars(target).get(name, _ABSENT)
        setattr(target, name, value)
        self._originals.append((target, name, original))

    def undo(self) -> None:
        """Puts everything back, last change first."""
        while self._originals:
            target, name, value = self._originals.pop()
            if value is _ABSENT:
                delattr(target, name)
            else:
                setattr(target, name, value)

    def __len__(self) -> int:
        return len(self._originals)
