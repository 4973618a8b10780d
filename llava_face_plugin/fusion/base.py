"""What every fusion shares: its interface and its registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor, nn

from ..config import FusionConfig
from ..registry import Registry


class Fusion(Protocol):
    """Joins face tokens with what the host's projector makes of the image features."""

    face_width: int
    """The width in which this fusion takes the face tokens."""

    adds_tokens: bool
    """Whether the LLM sees more tokens than without face mode (then step 0 cannot equal the base model)."""

    def __call__(self, layers: Sequence[nn.Module], features: Tensor, face: Tensor) -> Tensor:
        """``layers`` of the projector, ``features`` (B, P, C), ``face`` (B, P, face_width) -> (B, P', D)."""
        ...

    def reset_parameters(self) -> None: ...


FUSIONS: Registry[Callable[[FusionConfig, int, int], Fusion]] = Registry("fusion")


def run(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    """The layers one after the other, as ``nn.Sequential`` runs them."""
    for layer in layers:
        x = layer(x)
    return x
