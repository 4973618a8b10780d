"""Visual tokens that are kept, least recently used first to go, within a bound of memory."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor


class VisualCache:
    """Image key -> visual tokens (P, D). Holds at most ``megabytes`` of 10^6 bytes; a larger entry is not kept."""

    def __init__(self, megabytes: int) -> None:
        self._limit = megabytes * 1_000_000
        self._entries: OrderedDict[str, Tensor] = OrderedDict()
        self.size = 0
        """Bytes held."""

    def get(self, key: str) -> Tensor | None:
        """The tokens, which now count as used last; None if they are not there."""
        tokens = self._entries.get(key)
        if tokens is not None:
            self._entries.move_to_end(key)
        return tokens

    def put(self, key: str, tokens: Tensor) -> None:
        """Keeps the tokens and lets the least recently used go."""
        size = _bytes(tokens)
        if size > self._limit or key in self._entries:
            return
        # A view would keep the whole batch that it was encoded in.
        self._entries[key] = tokens.clone()
        self.size += size
        while self.size > self._limit:
            _, dropped = self._entries.popitem(last=False)
            self.size -= _bytes(dropped)

    def clear(self) -> None:
        """Lets everything go."""
        self._entries.clear()
        self.size = 0

    def __len__(self) -> int:
        return len(self._entries)


def _bytes(tokens: Tensor) -> int:
    return tokens.numel() * tokens.element_size()
