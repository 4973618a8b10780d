"""The knowledge losses of a batch, as every host adds them: labels checked, unknown where none were given."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import FaceDataError
from ..knowledge.head import KnowledgeHead


def knowledge_losses(head: KnowledgeHead, logits: Tensor, attributes: Tensor | None) -> dict[str, Tensor]:
    """``{"bce": L_bce, "logic": L_c}``, float32 scalars, not yet weighted.

    Args:
        logits: (B, A), a row for each image or video.
        attributes: (B, A) int8: 1, 0 or -1 = unknown; None where the batch has none: the losses stay in the graph.

    Raises ``FaceDataError`` for another shape.
    """
    if attributes is None:
        attributes = torch.full(logits.shape, -1, dtype=torch.int8, device=logits.device)
    if attributes.shape != logits.shape:
        raise FaceDataError(
            f"face_attributes has shape {tuple(attributes.shape)}, but the batch has {logits.shape[0]} images and "
            f"videos and the knowledge {logits.shape[1]} attributes; a row for each image or video is needed"
        )
    return head.losses(logits, attributes.to(logits.device))
