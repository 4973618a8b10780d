"""A small registry: names are exact, clashes are refused, unknown names get suggestions."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from .errors import FaceConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps exact names to builders of one kind of part (for example segmentation encoders)."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files an object under ``name``. Raises ``ValueError`` if the name is taken."""

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is already registered by {self._entries[name]!r}")
            self._entries[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        """The entry of that exact name. Raises ``FaceConfigError`` with suggestions if there is none."""
        if name in self._entries:
            return self._entries[name]
        raise FaceConfigError(unknown_name(self.kind, name, self._entries))

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return len(self._entries)


def unknown_name(kind: str, name: str, known: Iterable[object]) -> str:
    """One line that says a name is unknown, what was probably meant, and what exists."""
    names = sorted(str(k) for k in known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {name!r}{hint} (known: {', '.join(names)})"
