"""What a parsing network is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Network(Protocol):
    """A face crop's class logits."""

    size: int
    """Side of the square input in pixels."""
    to_canonical: tuple[int, ...]
    """Canonical part id of each of its C classes."""
    digest: str
    """sha256 (hex) of its weights."""

    def __call__(self, crops: Tensor) -> Tensor:
        """(n, 3, size, size) float32 RGB in [0, 1] on its device -> (n, C, h, w) float32 logits; any h, w."""
        ...
