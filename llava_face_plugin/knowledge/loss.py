"""The knowledge losses L_bce and L_c of FaceInsight, per sample and per batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .rules import LogicalModule


def bce_per_sample(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) float32: binary cross-entropy averaged over a sample's known labels, 0 if it has none.

    Args:
        logits: (B, A), any float dtype.
        labels: (B, A) int8 with -1 unknown, 0, 1.
    """
    if logits.shape != labels.shape or logits.ndim != 2:
        raise ValueError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)}: expected (B, A) for both")
    x, known = logits.float(), labels >= 0
    each = F.binary_cross_entropy_with_logits(x, labels.clamp(min=0).to(x.dtype), reduction="none")
    return torch.where(known, each, 0.0).sum(dim=1) / known.sum(dim=1).clamp(min=1)


def knowledge_losses(logits: Tensor, labels: Tensor, logic: LogicalModule | None) -> dict[str, Tensor]:
    """``{"bce": L_bce, "logic": L_c}``, unweighted float32 scalars (FaceInsight sums them 1 : 1).

    Both are means over *all* B samples, and a sample without labels adds 0. So the values of micro-batches of
    equal size average to the value of the whole batch: gradient accumulation and data parallelism do not
    change the objective, as a mean over the labelled samples only would. Both are zero, finite and still
    connected to the graph when nothing is labelled or there are no rules, so every parameter gets a gradient
    on every rank.

    Args:
        logits: (B, A), any float dtype.
        labels: (B, A) int8 with -1 unknown, 0, 1.
        logic: the rules, or None for L_c = 0.
    """
    samples = max(len(logits), 1)
    bce = bce_per_sample(logits, labels)
    broken = torch.zeros_like(bce) * bce if logic is None else logic.loss_per_sample(logits, labels)
    return {"bce": bce.sum() / samples, "logic": broken.sum() / samples}
