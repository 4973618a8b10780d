"""Reading the prompt: the LLM's token embeddings at a width of ours, with a learned neutral state in front."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import FaceHostError
from .inputs import Prompt


class PromptReader(nn.Module):
    """``Prompt`` -> text tokens (B, N + T, width) and their mask; the first N are learned and always there.

    They alone are what is read where no prompt comes: the neutral state. Every parameter is in the graph either way.
    The embeddings are normalised without parameters, and no gradient goes into them (both ours).
    """

    def __init__(self, llm_width: int, width: int, neutral: int) -> None:
        super().__init__()
        self.narrow = nn.Linear(llm_width, width, bias=False)
        self.neutral = nn.Parameter(torch.empty(neutral, width))
        self._draw()

    def forward(self, prompt: Prompt | None, batch: int) -> tuple[Tensor, Tensor]:
        """Text (B, N + T, width) and mask (B, N + T) bool. Raises ``FaceHostError`` for another number of prompts.

        A text is narrowed once, however many images are shown with it.
        """
        like = self.neutral
        if prompt is None:
            prompt = Prompt(like.new_zeros(batch, 0, self.narrow.in_features), like.new_zeros(batch, 0).bool())
        _check(prompt, batch)
        tokens = prompt.tokens.detach().to(device=like.device, dtype=like.dtype)
        text = self.narrow(F.layer_norm(tokens, tokens.shape[-1:]))
        mask = prompt.mask.to(device=like.device, dtype=torch.bool)
        if prompt.rows is not None:
            rows = prompt.rows.to(like.device)
            text, mask = text[rows], mask[rows]
        neutral = like.expand(batch, -1, -1)
        known = torch.ones(batch, len(like), dtype=torch.bool, device=like.device)
        return torch.cat([neutral, text.to(neutral.dtype)], dim=1), torch.cat([known, mask], dim=1)

    def reset_parameters(self) -> None:
        """Fresh weights."""
        self.narrow.reset_parameters()
        self._draw()

    def _draw(self) -> None:
        nn.init.normal_(self.neutral, std=0.02)


def _check(prompt: Prompt, batch: int) -> None:
    rows = prompt.tokens if prompt.rows is None else prompt.rows
    if len(rows) != batch or prompt.mask.shape != prompt.tokens.shape[:2]:
        told = "no rows" if prompt.rows is None else f"{len(rows)} rows"
        raise FaceHostError(
            f"{batch} images need a prompt each, tokens (S, T, D), mask (S, T) and rows (B,), but tokens are "
            f"{tuple(prompt.tokens.shape)}, the mask is {tuple(prompt.mask.shape)}, and there are {told}"
        )


def mean_of(text: Tensor, mask: Tensor) -> Tensor:
    """Mean of the unmasked tokens: (B, N, width) and (B, N) -> (B, width)."""
    weight = mask[..., None].to(text.dtype)
    return (text * weight).sum(dim=1) / weight.sum(dim=1)
