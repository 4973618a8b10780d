"""The plain model of the experiment on stills: a tiny random LLaVA 1.5 in transformers' own layout."""

from __future__ import annotations

from pathlib import Path

import torch
from training import IMAGE_TOKEN, Recipe
from transformers import (
    AutoTokenizer,
    CLIPVisionModel,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    set_seed,
)

from llava_face_plugin.tiny import build_tiny

RECIPE = Recipe(layers=2, vision_layers=3, side=64, patch=16, expert=128, steps=400, batch=64, rate=2e-3)
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
