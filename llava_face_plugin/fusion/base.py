"""What every fusion shares: its interface and its registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor, nn

from ..config import FusionConfig
from ..registry import Registry
from .inputs import FaceInputs, Sources


class Layers:
    """The layers of the host's own projector, as functions.

    Not a list of modules: accelerate moves every tensor or module among a forward's arguments to the device of
    the module that is called, and these belong to the host.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._modules = tuple(modules)

    def __call__(self, x: Tensor) -> Tensor:
        """All layers, as ``nn.Sequential`` runs them: (B, P, C) -> (B, P, D)."""
        return self.rest(self.first(x))

    def first(self, x: Tensor) -> Tensor:
        """The first layer alone."""
        return self._modules[0](x)

    def rest(self, x: Tensor) -> Tensor:
        """Every layer but the first."""
        for module in self._modules[1:]:
            x = module(x)
        return x


class Fusion(Protocol):
    """Joins face tokens with what the host's projector makes of the image features."""

    face_width: int
    """The width in which this fusion takes the face tokens."""

    adds_tokens: bool
    """Whether the LLM sees more tokens than without face mode (then step 0 cannot equal the base model)."""

    reads_taps: bool
    """Whether it reads the facial encoder's taps itself. Else they come among the face tokens."""

    reads_prompt: bool
    """Whether its result depends on the prompt: hosts then hand one in, and cannot share tokens between prompts."""

    def __call__(self, layers: Layers, features: Tensor, face: FaceInputs) -> Tensor:
        """``layers`` of the projector, ``features`` (B, P, C) -> (B, P', D)."""
        ...

    def reset_parameters(self) -> None: ...


FUSIONS: Registry[Callable[[FusionConfig, int, int, Sources], Fusion]] = Registry("fusion")
