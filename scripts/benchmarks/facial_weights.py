"""Random weights in FaRL's file format, for the facial encoder of a benchmark."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import torch
from cases import SEED, Size
from torch import Tensor

from llava_face_plugin.facial_config import FacialConfig, VitConfig


def random_farl(size: Size) -> str:
    """Path of a file of the shape that the facial encoder has at that size; it lasts as long as the process."""
    config = FacialConfig.model_validate({"path": "", **size.facial.get("facial", {})})
    return _written(config.vit, config.grid)


@functools.cache
def _written(vit: VitConfig, grid: int) -> str:
    folder = Path(tempfile.mkdtemp(prefix="bench-farl-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    torch.save({"state_dict": _state(vit, grid)}, folder / "farl.pth")
    return str(folder / "farl.pth")


def _state(vit: VitConfig, grid: int) -> dict[str, Tensor]:
    width, hidden = vit.width, vit.hidden
    shapes: dict[str, tuple[int, ...]] = {
        "class_embedding": (width,), "positional_embedding": (1 + grid**2, width),
        "conv1.weight": (width, 3, vit.patch, vit.patch), "ln_pre.weight": (width,), "ln_pre.bias": (width,),
    }  # fmt: skip
    layers = {
        "attn.in_proj_": (3 * width, width), "attn.out_proj.": (width, width), "mlp.c_fc.": (hidden, width),
        "mlp.c_proj.": (width, hidden), "ln_1.": (width,), "ln_2.": (width,),
    }  # fmt: skip
    for block in range(vit.depth):
        for layer, shape in layers.items():
            stem = f"transformer.resblocks.{block}.{layer}"
            shapes |= {f"{stem}weight": shape, f"{stem}bias": shape[:1]}
    random = torch.Generator().manual_seed(SEED)
    return {f"visual.{name}": 0.02 * torch.randn(shape, generator=random) for name, shape in shapes.items()}
