"""The plain model of the experiment on stills: a tiny random LLaVA 1.5 in transformers' own layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoTokenizer,
    CLIPVisionModel,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    set_seed,
)

from llava_face_plugin.tiny import build_tiny

IMAGE_TOKEN = 3
"""Byte 0 in the tiny tokenizer, which no text holds."""


@dataclass(frozen=True)
class Recipe:
    """Sizes of the tiny model, and how it is trained. All ours."""

    hidden: int = 64
    layers: int = 2
    vision_hidden: int = 32
    vision_layers: int = 3
    patch: int = 16
    side: int = 64
    expert: int = 128
    """Hidden width of one of the experts."""
    steps: int = 400
    batch: int = 64
    rate: float = 2e-3


RECIPE = Recipe()
TOKENS = (RECIPE.side // RECIPE.patch) ** 2


def build_base(folder: Path, recipe: Recipe, seed: int, corpus: list[str]) -> Path:
    """A model directory with a tokenizer that has read ``corpus``. Language model and tower as ``llava-face tiny-model
    --seed`` draws them: the tower's patch filters are low image frequencies; the projector as transformers draws it."""
    parts = build_tiny(
        folder / "parts", hidden=recipe.hidden, layers=recipe.layers, image_size=recipe.side, patch_size=recipe.patch,
        vision_hidden=recipe.vision_hidden, vision_layers=recipe.vision_layers, seed=seed, corpus=corpus,
    )  # fmt: skip
    language = LlamaForCausalLM.from_pretrained(parts, dtype=torch.float32)
    tower = CLIPVisionModel.from_pretrained(parts / "clip", dtype=torch.float32)
    config = LlavaConfig(
        text_config=language.config, vision_config=tower.config, image_seq_length=TOKENS, image_token_index=IMAGE_TOKEN
    )
    set_seed(seed)
    model = LlavaForConditionalGeneration(config)
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.lm_head.load_state_dict(language.lm_head.state_dict())
    model.model.vision_tower.load_state_dict(tower.state_dict())
    model.save_pretrained(folder / "plain")
    AutoTokenizer.from_pretrained(parts).save_pretrained(folder / "plain")
    return folder / "plain"
