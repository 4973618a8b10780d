"""A stand-in for a host: a projector, vision features and a frozen ViT, in plain torch."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llava_face_plugin.branch import FaceBranch
from llava_face_plugin.config import FaceConfig
from llava_face_plugin.encoders import ENCODERS
from llava_face_plugin.fusion import FUSIONS

VISION, LLM = 12, 16
HAIR = 13

KNOWLEDGE: dict[str, Any] = {
    "file": "made",
    "attributes": [
        {"name": "Bald", "prompt": "bald", "tokens": [3], "prior": 0.1},
        {"name": "Bangs", "prompt": "bangs", "tokens": [4, 5, 6], "prior": 0.3},
        {"name": "Smiling", "prompt": "smiling", "tokens": [7, 8], "prior": 0.5},
    ],
    "graph": {"Bald": {"Smiling": 0.6}, "Bangs": {"Smiling": 0.5, "Bald": 0.8}},
    "rules": [{"kind": "implication", "if": ["Bald"], "then": ["not Bangs"], "group": "hair"}],
    "hidden": 8,
}

# Every registered encoder with every registered fusion; append also with its pool.
COMBINATIONS = [
    (encoder, fusion)
    for encoder in ENCODERS
    for fusion in ({"type": t, **extra} for t in FUSIONS for extra in ({}, {"pool": 2} if t == "append" else {}))
]
COMBINATIONS = [c for i, c in enumerate(COMBINATIONS) if c not in COMBINATIONS[:i]]
NAMES = [f"{encoder}+{'/'.join(map(str, fusion.values()))}" for encoder, fusion in COMBINATIONS]


def config(encoder: str, fusion: dict[str, Any], knowledge: dict[str, Any] | None = KNOWLEDGE) -> FaceConfig:
    block = {"segmentation": {"encoder": encoder, "width": 8}, "fusion": fusion, "knowledge": knowledge}
    return FaceConfig.parse(block)


def projector(seed: int = 0) -> nn.Sequential:
    """As LLaVA's ``mlp2x_gelu``."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(VISION, LLM), nn.GELU(), nn.Linear(LLM, LLM))


def branch(encoder: str, fusion: dict[str, Any], seed: int = 1) -> FaceBranch:
    torch.manual_seed(seed)
    return FaceBranch(config(encoder, fusion), VISION, LLM)


def features(batch: int, grid: int, seed: int = 2) -> Tensor:
    return torch.randn(batch, grid * grid, VISION, generator=torch.Generator().manual_seed(seed))


def maps(batch: int, size: int = 20, seed: int = 3) -> Tensor:
    """(B, size, size) random part ids."""
    ids = torch.randint(0, 19, (batch, size, size), generator=torch.Generator().manual_seed(seed))
    return ids.float()


class FrozenStandIn:
    """RGB (B, 3, H, W) -> (B, side^2, VISION) float32: each patch sees its own mean colour."""

    def __init__(self, side: int = 4) -> None:
        self.side = side
        self.weight = torch.randn(3, VISION, generator=torch.Generator().manual_seed(4))

    def __call__(self, rgb: Tensor) -> Tensor:
        assert rgb.shape[1] == 3 and rgb.dtype == torch.float32
        assert rgb.min() >= 0 and rgb.max() <= 1
        pooled = F.adaptive_avg_pool2d(rgb, self.side).flatten(2).transpose(1, 2)
        return 3 * pooled @ self.weight


def open_gates(module: nn.Module, seed: int = 5) -> None:
    """Random values everywhere, gates included: as after some training."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=random))


def loss(face: FaceBranch, tokens: Tensor) -> Tensor:
    """A loss through the tokens, as the LLM's, and one through the knowledge head."""
    random = torch.Generator().manual_seed(6)
    total = (tokens * torch.randn(tokens.shape, generator=random)).mean()
    if face.knowledge is None:
        return total
    ids, _ = face.knowledge.prompt_tokens(tokens.device)
    embedding = torch.randn(10, LLM, generator=random)
    labels = torch.tensor([[1, 0, -1], [0, 1, 1]], dtype=torch.int8).repeat(math.ceil(len(tokens) / 2), 1)
    losses = face.knowledge.losses(face.knowledge(tokens, embedding[ids]), labels[: len(tokens)])
    return total + face.knowledge.weighted(losses)
