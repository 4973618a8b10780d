"""The face branch on shapes alone: without the files and values that parts of it look at."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..branch import FaceBranch
from ..config import FaceConfig, FusionConfig


def branch_of(face: FaceConfig, vision_width: int, llm_width: int) -> FaceBranch:
    """The branch. A frozen facial encoder is a module of it, without gradients: of its path nothing is read."""
    facial = face.facial
    if facial is None or facial.trained:
        return FaceBranch(face, vision_width, llm_width)
    held = facial.model_copy(update={"trained": True})
    branch = FaceBranch(face.model_copy(update={"facial": held}), vision_width, llm_width)
    assert branch.facial is not None
    branch.facial.requires_grad_(False)
    return branch


class EvenShares(TorchDispatchMode):
    """Answers ``nonzero`` without values, for the grouped dispatch of ``moe``: each expert is chosen by an even share.

    However the patches choose, all experts together see ``top_k`` times as many rows as there are: FLOPs are the same.
    """

    def __init__(self, fusion: FusionConfig) -> None:
        super().__init__()
        self.top_k, self.experts = fusion.top_k, fusion.experts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.ops.aten.nonzero.default:
            return func(*args, **(kwargs or {}))
        rows = args[0].numel() * self.top_k // self.experts
        return args[0].new_zeros(rows, args[0].ndim, dtype=torch.int64)
