"""Cross-attention at a width of our own, whatever the LLM's."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """query + attention(norm(query), norm(context)). Not ``nn.MultiheadAttention``: LoRA takes its ``out_proj``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_query = nn.LayerNorm(width)
        self.norm_context = nn.LayerNorm(width)
        self.ask = nn.Linear(width, width)
        self.look = nn.Linear(width, 2 * width)
        self.merge = nn.Linear(width, width)

    def forward(self, query: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """``query`` (B, N, width), ``context`` (B, M, width), ``mask`` (B, M) bool, a True in each row."""
        q = self.ask(self.norm_query(query)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.look(self.norm_context(context)).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        visible = None if mask is None else mask[:, None, None]
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        return query + self.merge(seen.transpose(1, 2).flatten(2))

    def reset_parameters(self) -> None:
        """Fresh weights."""
        for module in (self.norm_query, self.norm_context, self.ask, self.look, self.merge):
            module.reset_parameters()
