"""``KnowledgeHead``: FaceInsight's knowledge alignment on top of the fused tokens.

The correlation module refines the attributes' prompts, matching them with the visual tokens gives one logit
an attribute, and two losses pull on it: L_bce against the labels and L_c against the rules.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import KnowledgeConfig
from ..constants import Constants
from .graph import CorrelationModule, correlation_matrix, reweight
from .loss import knowledge_losses
from .rules import LogicalModule


class KnowledgeHead(nn.Module):
    """Attribute logits y_i = cos(v, T_i) / temperature + b_i, with v the mean of the fused tokens.

    Matching visual features with refined prompts is the paper's; pooling, cosine, temperature and bias are
    our defaults (its formula is not in the readable part). b_i starts at the logit of the attribute's share
    of positives, so that the loss starts at the labels' own entropy.

    Args:
        config: the ``knowledge`` block.
        width: D, width of the LLM's tokens and token embeddings.
    """

    def __init__(self, config: KnowledgeConfig, width: int) -> None:
        super().__init__()
        self.config = config
        vocabulary = config.vocabulary
        c = correlation_matrix(vocabulary, config.graph, binarize=config.binarize)
        c_hat = reweight(c, config.omega, config.normalisation)
        self.correlation = CorrelationModule(c_hat, width, config.hidden, config.layers)
        rules = [rule.rule for rule in config.rules]
        self.logic = LogicalModule(rules, vocabulary) if rules else None
        self.bias = nn.Parameter(torch.zeros(len(vocabulary)))
        self._reset_bias()
        self._constants = Constants()

    def prompt_tokens(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Token ids (A, L) int64 of the prompts, zero-padded, and their mask (A, L) bool."""
        rows = [a.tokens for a in self.config.attributes]
        length = max(len(row) for row in rows)
        ids = [row + [0] * (length - len(row)) for row in rows]
        mask = [[True] * len(row) + [False] * (length - len(row)) for row in rows]
        return (
            self._constants.get("ids", ids, device, torch.int64),
            self._constants.get("mask", mask, device, torch.bool),
        )

    def forward(self, tokens: Tensor, embedded: Tensor) -> Tensor:
        """Attribute logits.

        Args:
            tokens: (B, P, D) fused tokens.
            embedded: (A, L, D) the LLM's embeddings of ``prompt_tokens``.

        Returns:
            (B, A) float32.
        """
        _, mask = self.prompt_tokens(embedded.device)
        weight = mask[..., None].to(embedded.dtype)
        prompts = (embedded * weight).sum(dim=1) / weight.sum(dim=1)  # T^0 (A, D): mean token embedding
        refined = self.correlation(prompts)  # T^L (A, D)
        visual = tokens.mean(dim=1)  # v (B, D)
        # Products and a sum, not a matmul: autocast would take that to half precision.
        pairs = F.normalize(visual.float(), dim=-1)[:, None] * F.normalize(refined.float(), dim=-1)
        cosine = pairs.sum(dim=-1)  # (B, A)
        return cosine / self.config.temperature + self.bias.float()

    def losses(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """``{"bce": L_bce, "logic": L_c}``, float32 scalars, not yet weighted (see ``knowledge_losses``)."""
        return knowledge_losses(logits, labels, self.logic)

    def weighted(self, losses: dict[str, Tensor]) -> Tensor:
        """w_b L_bce + w_c L_c."""
        return self.config.bce_weight * losses["bce"] + self.config.logic_weight * losses["logic"]

    def reset_parameters(self) -> None:
        """Fresh weights, for hosts that overwrite what the constructor made."""
        self.correlation.reset_parameters()
        self._reset_bias()

    def _reset_bias(self) -> None:
        prior = np.clip([a.prior for a in self.config.attributes], 1e-3, 1 - 1e-3)
        with torch.no_grad():
            self.bias.copy_(torch.tensor(np.log(prior / (1 - prior))))
