"""Models and batches that the contract is tried on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from llava_face_plugin.encoders import ENCODERS
from llava_face_plugin.labels import NO_MAP
from llava_face_plugin.switch import enable
from tests.core.standin import FUSION_BLOCKS, encoder_blocks

COMBINATIONS = [
    *((encoder, fusion) for encoder in ENCODERS for fusion in ("append", "channel", "gated_add")),
    ("part-embedding", "moe"),
    ("vit-palette", "soft-gate"),
    ("facial", "moe"),
    ("facial-trained", "moe/grouped"),
    ("facial", "text-query"),
    ("part-embedding & facial", "moe"),
]
"""Every encoder and every fusion, in the names of ``tests.core.standin``."""

BOTH = [("part-embedding", "gated_add"), ("part-embedding & facial-trained", "moe")]
"""For what need not be tried with every combination: the default, and all kinds of parameters that there are."""

FACE = "mm_projector.face."


def switched_on(source: Path, out: Path, encoder: str = "part-embedding", fusion: str = "gated_add") -> Path:
    """A linked copy with face mode and the drawn faces' knowledge; made once."""
    settings = {**encoder_blocks(encoder, width=16), "fusion": FUSION_BLOCKS[fusion]}
    if not out.exists():
        enable(source, preset="light", knowledge="made", settings=settings, out=out)
    return out


def load(path: Path, **kwargs: Any) -> Any:
    """As upstream loads a checkpoint, in float32, its vision tower ready."""
    from llava.model import LlavaLlamaForCausalLM

    model = LlavaLlamaForCausalLM.from_pretrained(str(path), torch_dtype=torch.float32, **kwargs)
    tower = model.get_vision_tower()
    if not tower.is_loaded:
        tower.load_model()
    return model.eval()


def batch(model: Any, seed: int = 0, size: int = 3) -> dict[str, torch.Tensor]:
    """Random images with maps, two turns of text; the last sample is text only."""
    from llava.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX

    generator = torch.Generator().manual_seed(seed)
    side = model.get_vision_tower().config.image_size
    ids = torch.randint(3, 300, (size, 12), generator=generator)
    ids[:-1, 4] = IMAGE_TOKEN_INDEX
    labels = ids.clone()
    labels[labels == IMAGE_TOKEN_INDEX] = IGNORE_INDEX
    pixels = torch.randn(size, 3, side, side, generator=generator)
    maps = torch.randint(0, 19, (size, 1, side, side), generator=generator).float()
    maps[-1] = NO_MAP
    images = torch.cat([pixels, maps], dim=1)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels, "images": images}


def without_maps(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**inputs, "images": inputs["images"][:, :3]}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
