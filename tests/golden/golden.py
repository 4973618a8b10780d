"""Trained tiny branches, and what they make of given pixels and maps: every host has to make the same of them.

``face_branch.safetensors`` holds weights, inputs and outputs. ``python -m tests.golden.make_golden`` makes it, from the
core alone; hosts only read it. The one thing besides is the frozen facial encoder's file: ``tiny_farl``, drawn anew by
each process from a seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from tests.core.standin import COMBINATIONS, KNOWLEDGE, LLM, NAMES, VISION, encoder_blocks

FILE = Path(__file__).with_name("face_branch.safetensors")
SIDE, GRID, TILES, WORDS = 56, 4, 5, 10
"""Pixels a side, patches a side, images or tiles, rows of the LLM's embedding."""

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
NORMALISATIONS = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "siglip": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""What the image tower was trained with, by family: ``vit-palette`` shows it the painted map so, and a facial encoder
is shown what the tower's pixels are without it."""

CHOSEN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("part-embedding", ("append", "append/2", "channel", "gated_add")),
    ("vit-palette", ("append", "append/2", "channel", "gated_add")),
    ("facial", ("append", "append/2", "channel", "gated_add", "moe", "moe/grouped", "soft-gate", "text-query")),
    ("facial-trained", ("gated_add", "moe", "text-query")),
    ("part-embedding & facial", ("gated_add", "moe", "soft-gate", "text-query")),
    ("part-embedding", ("moe",)),
    ("vit-palette", ("moe/grouped", "soft-gate")),
)
"""Every form of an encoder and every form of a fusion, not their product. Add behind: the weights are drawn in turn."""

_FORMS = dict(zip(NAMES, COMBINATIONS, strict=True))
CASES = {(name := f"{encoder}+{fusion}"): _FORMS[name] for encoder, fusions in CHOSEN for fusion in fusions}

# As large as the frozen one it would be most of the file.
_TRAINED = {"path": None, "vit": {"width": 16, "depth": 3, "heads": 2, "hidden": 24, "patch": 4}}


def block(name: str) -> dict[str, Any]:
    """The ``face`` block of a case."""
    encoder, fusion = CASES[name]
    return {"enabled": True, **encoder_blocks(encoder, **_TRAINED), "fusion": fusion, "knowledge": KNOWLEDGE}


@cache
def _stored() -> dict[str, Tensor]:
    return load_file(FILE)


@dataclass(frozen=True)
class Case:
    """A branch with weights, and its outputs for one kind of tower."""

    name: str
    tower: str

    def _part(self, prefix: str) -> dict[str, Tensor]:
        stored = _stored()
        return {key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)}

    @property
    def branch(self) -> dict[str, Tensor]:
        """State dict of the ``FaceBranch``."""
        return self._part(f"{self.name}/branch/")

    @property
    def projector(self) -> dict[str, Tensor]:
        """``0.weight`` (16, 12), ``0.bias``, ``2.weight`` (16, 16), ``2.bias`` of the host's projector."""
        return self._part("projector/")

    @property
    def embedding(self) -> Tensor:
        """(10, 16) the LLM's token embeddings."""
        return _stored()["embedding"]

    @property
    def tokens(self) -> Tensor:
        """(5, P, 16) what the LLM gets."""
        return _stored()[f"{self.name}/{self.tower}/tokens"]

    @property
    def probabilities(self) -> Tensor:
        """(5, 3) of the knowledge's attributes, an image each."""
        return _stored()[f"{self.name}/{self.tower}/probabilities"]

    def check(self, tokens: Tensor, probabilities: Tensor) -> None:
        """Raises ``AssertionError`` unless these are the stored ones; of fewer images, the first."""
        torch.testing.assert_close(tokens.detach().float(), self.tokens, **TOLERANCE)
        torch.testing.assert_close(probabilities.float(), self.probabilities[: len(probabilities)], **TOLERANCE)


def images() -> Tensor:
    """(5, 4, 56, 56) normalised pixels and, in the 4th channel, part ids; the last image has no map."""
    small = _stored()["images"].float()
    return small.repeat_interleave(4, -1).repeat_interleave(4, -2)


def tower(pixels: Tensor) -> Tensor:
    """A vision tower: (B, 3, H, W) -> (B, 16, 12), each patch sees its own mean colour."""
    weight = torch.linspace(-1.5, 1.5, 3 * VISION).reshape(3, VISION).sin()
    return F.adaptive_avg_pool2d(pixels.float(), GRID).flatten(2).transpose(1, 2) @ weight


def save_clip(path: Path) -> Path:
    """A CLIP tower directory of these sizes, for hosts that load one; its ``forward`` is then replaced by ``tower``."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=VISION, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE,
        patch_size=SIDE // GRID,
    )  # fmt: skip
    CLIPVisionModel(config).save_pretrained(path)
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(path)
    return path


__all__ = ["CASES", "FILE", "GRID", "LLM", "NORMALISATIONS", "SIDE", "TILES", "VISION", "WORDS", "Case", "block",
           "images", "save_clip", "tower"]  # fmt: skip
