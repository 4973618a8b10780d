"""A stand-in for FaRL, whose weights are not at hand: our vision transformer, trained on drawn stills.

It is told what a facial encoder might know, and what FaRL was not told: the part of each pixel, the state of eyes,
mouth and head, and the attributes. So what an ablation with it shows is how such features get to the answers, not how
good FaRL's are. Written in FaRL's file format and read back by the plugin's own reader.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from made_frames import ATTRIBUTES, PARTS, SIDE, TAUGHT, Stills, stills
from torch import Tensor, nn

from llava_face_plugin.encoders.backbones import normalise
from llava_face_plugin.encoders.vit import VisionTransformer
from llava_face_plugin.facial_config import CLIP_MEAN, CLIP_STD, VitConfig

VIT = VitConfig(width=64, depth=4, heads=1, hidden=128, patch=8)
TAPS = [1, 3]

BATCH, RATE = 64, 2e-3
TRAIN_SEED, TEST_SEED = 101, 102
"""Of the stills: no clip has one of these."""

_STEM = {
    "class_token": "class_embedding", "positions": "positional_embedding", "patches.weight": "conv1.weight",
    "norm.weight": "ln_pre.weight", "norm.bias": "ln_pre.bias",
}  # fmt: skip
_IN_BLOCK = {
    "norm_1": "ln_1.", "qkv": "attn.in_proj_", "merge": "attn.out_proj.", "norm_2": "ln_2.", "widen": "mlp.c_fc.",
    "project": "mlp.c_proj.",
}  # fmt: skip


class Teaching(nn.Module):
    """The transformer with the heads that train it: parts from the patches, the rest from their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = VisionTransformer(VIT, SIDE // VIT.patch, VIT.depth)
        self.parts = nn.Linear(VIT.width, PARTS)
        self.rest = nn.Linear(VIT.width, len(TAUGHT) + ATTRIBUTES)

    def forward(self, pixels: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """(B, SIDE, SIDE, 3) uint8 -> log shares of parts (B, P, PARTS), state (B, 5), logits (B, 20)."""
        rgb = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        taps = self.vit(normalise(rgb, list(CLIP_MEAN), list(CLIP_STD)), range(VIT.depth))
        middle, last = (F.layer_norm(taps[n], (VIT.width,)) for n in (len(taps) // 2, -1))
        rest = self.rest(last.mean(dim=1))
        return self.parts(middle).log_softmax(dim=-1), rest[:, : len(TAUGHT)], rest[:, len(TAUGHT) :]


def standin(path: Path, cache: Path, total: int = 12_000, steps: int = 2_500, unseen: int = 1_000) -> dict[str, Any]:
    """Trains the stand-in into ``path`` unless it is there; returns how well it knows stills that it was not shown."""
    if not path.exists():
        torch.manual_seed(0)
        model = Teaching()
        start = time.monotonic()
        _train(model, stills(total, TRAIN_SEED, cache), steps)
        scores = _scores(model, stills(unseen, TEST_SEED, cache))
        scores |= {"stills": total, "steps": steps, "seconds": round(time.monotonic() - start)}
        torch.save({"state_dict": farl_names(model.vit.state_dict()), "scores": scores}, path)
    return torch.load(path, weights_only=True)["scores"]


def _train(model: Teaching, known: Stills, steps: int) -> None:
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.1)
    for _ in range(steps):
        some = known.of(rng.integers(len(known.pixels), size=BATCH))
        parts, state, attributes = model(some.pixels)
        loss = -(shares(some.parts) * parts).sum(dim=-1).mean() + F.mse_loss(state, torch.from_numpy(some.state))
        loss = loss + F.binary_cross_entropy_with_logits(attributes, torch.from_numpy(some.attributes).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def _scores(model: Teaching, unseen: Stills) -> dict[str, float]:
    """R2 of each state, and the mean accuracy over the attributes."""
    _, state, attributes = model(unseen.pixels)
    truth = torch.from_numpy(unseen.state)
    unexplained = (state - truth).square().mean(dim=0) / truth.var(dim=0)
    right = ((attributes > 0) == torch.from_numpy(unseen.attributes).bool()).float().mean()
    known = {f"R2 {name}": round(1 - float(u), 3) for name, u in zip(TAUGHT, unexplained, strict=True)}
    return known | {"attribute accuracy": round(float(right), 3)}


def shares(parts: np.ndarray) -> Tensor:
    """Part ids (B, SIDE, SIDE) -> the share of each part in each patch, (B, P, PARTS)."""
    one_hot = F.one_hot(torch.from_numpy(parts).long(), PARTS).permute(0, 3, 1, 2).float()
    return F.avg_pool2d(one_hot, VIT.patch).flatten(2).transpose(1, 2)


def farl_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A ``VisionTransformer``'s weights in the names of FaRL's checkpoint."""
    return {f"visual.{_theirs(name)}": value for name, value in weights.items()}


def _theirs(name: str) -> str:
    block = re.fullmatch(r"blocks\.(\d+)\.(\w+)\.(weight|bias)", name)
    return f"transformer.resblocks.{block[1]}.{_IN_BLOCK[block[2]]}{block[3]}" if block else _STEM[name]
