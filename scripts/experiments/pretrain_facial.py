"""Trains a small stand-in for FaRL on labelled faces, and saves it in FaRL's file format.

    python scripts/experiments/pretrain_facial.py fairface --root DATA/fairface --out fairface.pth
    python scripts/experiments/pretrain_facial.py celeba --root DATA/celeba --out celeba.pth --epochs 60

FaRL's own weights were not at hand. This one is supervised: age group, gender and race, or the 40 attributes, from the
mean of the last block's patches. For experiments on the *other* data set, so that no image and no label is seen twice.
Beside FILE.pth stands FILE.json: what it can do on held-out images.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from facial_standin import farl_names
from still_sets import Stills, balanced_accuracy, celeba, fairface
from torch import Tensor, nn

from llava_face_plugin.encoders.backbones import normalise
from llava_face_plugin.encoders.vit import VisionTransformer
from llava_face_plugin.facial_config import CLIP_MEAN, CLIP_STD, VitConfig

SIDE = 48
VIT = VitConfig(width=128, depth=6, heads=2, hidden=512, patch=8)  # heads of 64, as FaRL's format supposes
CELEBA_HELD_OUT = 200
BATCH = 64
PEAK_RATE, WEIGHT_DECAY, WARM_UP = 1e-3, 0.05, 0.05
LEAST_CROP = 0.75
LONGEST_WAVE = 100.0
"""Of the positions at the start, in patches over 2 pi."""


class Pupil(nn.Module):
    """The encoder with one linear layer a label over the mean of its last block's patches."""

    def __init__(self, vit: VitConfig, side: int, classes: dict[str, tuple[str, ...]]) -> None:
        super().__init__()
        self.vit = VisionTransformer(vit, side // vit.patch, vit.depth)
        with torch.no_grad():
            self.vit.positions[-((side // vit.patch) ** 2) :] = 0.5 * waves(side // vit.patch, vit.width)
        self.heads = nn.ModuleDict({name: nn.Linear(vit.width, len(values)) for name, values in classes.items()})

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Normalised pixels (B, 3, S, S) -> label -> (B, classes) logits."""
        last = self.vit(pixels, [len(self.vit.blocks) - 1])[0]
        seen = F.layer_norm(last, last.shape[-1:]).mean(dim=1)  # normalised as the branch normalises its taps
        return {name: head(seen) for name, head in self.heads.items()}


def waves(grid: int, width: int) -> Tensor:
    """(grid^2, width): sines and cosines of the place, x then y. Where positions start: Beyer et al., Better plain ViT
    baselines (2022), found them to learn faster than random ones."""
    rates = LONGEST_WAVE ** -(torch.arange(width // 4) / (width // 4))
    y, x = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    return torch.cat([wave(axis.reshape(-1, 1) * rates) for axis in (x, y) for wave in (torch.sin, torch.cos)], dim=1)


def augment(rgb: Tensor, random: torch.Generator) -> Tensor:
    """(B, 3, S, S): of each image a random square of at least ``LEAST_CROP`` of its side, half of them mirrored."""
    count = len(rgb)
    scale = LEAST_CROP + (1 - LEAST_CROP) * torch.rand(count, generator=random)
    shift = (1 - scale)[:, None] * (2 * torch.rand(count, 2, generator=random) - 1)
    mirror = torch.randint(0, 2, (count,), generator=random) * 2 - 1
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale * mirror, scale, shift
    return F.grid_sample(rgb, F.affine_grid(theta, list(rgb.shape), align_corners=False), align_corners=False)


def train(stills: Stills, epochs: int, vit: VitConfig = VIT, seed: int = 0) -> Pupil:
    """A trained pupil. AdamW with a warm-up and a cosine; bfloat16 autocast."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    pupil = Pupil(vit, stills.pixels.shape[-1], stills.classes)
    optimiser = torch.optim.AdamW(pupil.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
    rows = torch.nonzero(~stills.held_out)[:, 0]
    steps = epochs * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, steps, pct_start=WARM_UP)
    for epoch in range(epochs):
        total = 0.0
        for batch in rows[torch.randperm(len(rows), generator=random)].split(BATCH):
            rgb = augment(stills.pixels[batch].float() / 255, random)
            with torch.autocast("cpu", torch.bfloat16):
                logits = pupil(normalise(rgb, CLIP_MEAN, CLIP_STD))
            losses = [F.cross_entropy(value.float(), stills.labels[name][batch]) for name, value in logits.items()]
            loss = torch.stack(losses).mean()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(pupil.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1} of {epochs}: loss {total / len(rows):.4f}", flush=True)
    return pupil.eval()


@torch.no_grad()
def scores(pupil: Pupil, stills: Stills) -> dict[str, dict[str, float]]:
    """Label -> accuracy, balanced accuracy, share of the commonest class, on the held-out images."""
    rgb = stills.pixels[stills.held_out].float() / 255
    parts = [pupil(normalise(part, CLIP_MEAN, CLIP_STD)) for part in rgb.split(BATCH)]
    out = {}
    for name, column in stills.labels.items():
        wanted = column[stills.held_out]
        found = torch.cat([part[name] for part in parts]).argmax(dim=-1)
        out[name] = {
            "accuracy": (found == wanted).float().mean().item(),
            "balanced": balanced_accuracy(found, wanted),
            "majority": wanted.bincount().max().item() / len(wanted),
            "chance": 1 / len(wanted.unique()),
        }
    return out


def main(
    data: Annotated[str, typer.Argument(help="fairface or celeba: what it is trained on.")],
    root: Annotated[Path, typer.Option(help="The data set's own folder.")],
    out: Annotated[Path, typer.Option(help="The weights; what it can do goes beside them, as .json.")],
    epochs: Annotated[int, typer.Option(min=1)] = 14,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train, score, save."""
    if data not in ("fairface", "celeba"):
        raise typer.BadParameter(f"{data!r} is neither fairface nor celeba")
    stills = fairface(root, SIDE) if data == "fairface" else celeba(root, SIDE, CELEBA_HELD_OUT)
    start = time.perf_counter()
    pupil = train(stills, epochs, seed=seed)
    seconds = time.perf_counter() - start
    found = scores(pupil, stills)
    torch.save({"state_dict": farl_names(pupil.vit.state_dict())}, out)
    report = {
        "data": data, "epochs": epochs, "seed": seed, "seconds": round(seconds), "torch": torch.__version__,
        "trained_on": int((~stills.held_out).sum()), "held_out": int(stills.held_out.sum()),
        "parameters": sum(p.numel() for p in pupil.vit.parameters()), "scores": found,
        "mean": {key: sum(s[key] for s in found.values()) / len(found) for key in next(iter(found.values()))},
    }  # fmt: skip
    out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report["mean"]))


if __name__ == "__main__":
    typer.run(main)
