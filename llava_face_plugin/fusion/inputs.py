"""What a fusion is built for, and what it is given besides the image features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Sources(NamedTuple):
    """Which face features there will be: a fusion sizes its layers by them."""

    tokens: bool = True
    """Whether there are face tokens."""
    taps: int = 0
    """How many granularities of facial features there are; 0 without a facial encoder."""
    tap_width: int = 0
    """The width of each."""


class Prompt(NamedTuple):
    """The text that a fusion may be conditioned on: of each sample, what stands before its answer.

    Embeddings of the LLM's own vocabulary. The branch takes no gradient into them. Answers must be masked: a fusion
    that reads them would tell the LLM what it is to say.
    """

    tokens: Tensor
    """(S, T, D); S counts texts."""
    mask: Tensor
    """(S, T) bool; False at padding, image placeholders and everything from the first answer on. A row may be all
    False: the learned neutral state is used for it."""
    rows: Tensor | None = None
    """(B,) int64: which of the S texts each image (tile, frame) is shown with; B counts as the features do. None: each
    with its own, S = B."""


class Auxiliary:
    """Collects what forwards compute beside their tokens: losses to be added, and statistics to be looked at.

    One is handed into ``FaceBranch.forward`` by whoever wants them. An object of its own kind: accelerate and DDP copy
    the dicts among a forward's arguments, and what is written into a copy is lost.
    """

    def __init__(self) -> None:
        self._losses: dict[str, list[Tensor]] = {}
        self._weights: dict[str, float] = {}
        self._statistics: dict[str, list[Tensor]] = {}

    def add_loss(self, name: str, value: Tensor, weight: float) -> None:
        """``value``: a scalar with its gradient; ``weight``: its factor in ``weighted``."""
        self._losses.setdefault(name, []).append(value)
        self._weights[name] = weight

    def add_statistic(self, name: str, value: Tensor) -> None:
        """``value``: of the same shape in every call; kept without gradient, in float32."""
        self._statistics.setdefault(name, []).append(value.detach().float())

    @property
    def losses(self) -> Mapping[str, Tensor]:
        """Unweighted, by name; the mean over the forwards."""
        return {name: torch.stack(values).mean() for name, values in self._losses.items()}

    @property
    def statistics(self) -> Mapping[str, Tensor]:
        """By name; the mean over the forwards."""
        return {name: torch.stack(values).mean(dim=0) for name, values in self._statistics.items()}

    def weighted(self) -> Tensor | None:
        """The sum of the losses with their weights, to be added to the model's; None where there is no loss."""
        losses = self.losses
        return torch.stack([self._weights[name] * loss for name, loss in losses.items()]).sum() if losses else None


class FaceInputs(NamedTuple):
    """What a fusion may read besides the image features."""

    tokens: Tensor
    """(B, P, face_width): the sum of the encoders' face tokens. (B, P, 0) if ``Sources.tokens`` is False."""
    taps: Tensor
    """(B, P, taps, tap_width) for fusions with ``reads_taps``; (B, P, 0, 0) if ``Sources.taps`` is 0."""
    prompt: Prompt | None = None
    auxiliary: Auxiliary | None = None
