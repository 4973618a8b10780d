"""A tiny LLaVA-OneVision with one of the ablation's variants: built, trained on made clips and questioned."""

from __future__ import annotations

import hashlib
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made_frames import Clips
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    AutoTokenizer,
    CLIPVisionModel,
    LlamaForCausalLM,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    set_seed,
)
from variants import Variant, face_block, without_general

import llava_face_plugin.hosts.hf  # noqa: F401  (registers the face classes)
from llava_face_plugin.data.made_motion import KINDS, QUESTION
from llava_face_plugin.encoders.backbones import normalise
from llava_face_plugin.facial_config import CLIP_MEAN, CLIP_STD
from llava_face_plugin.switch import enable
from llava_face_plugin.tiny import build_tiny

IMAGE_TOKEN, VIDEO_TOKEN = 3, 4
"""Bytes 0 and 1 in the tiny tokenizer, which no text holds."""


@dataclass(frozen=True)
class Recipe:
    """Sizes of the tiny model, and how it is trained. All ours."""

    hidden: int = 64
    layers: int = 3
    vision_hidden: int = 32
    vision_layers: int = 2
    patch: int = 14
    side: int = 56
    expert: int = 64
    steps: int = 600
    batch: int = 32
    rate: float = 2e-3
    warmup: float = 0.1

    @property
    def frame_tokens(self) -> int:
        """LLM tokens of a frame: OneVision pools its patches 2 x 2."""
        return (-(-self.side // self.patch // 2)) ** 2

    def factor(self, step: int) -> float:
        """Of the rate: a linear warm-up, then a cosine to 0."""
        warm = max(self.warmup * self.steps, 1)
        return min((step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * step / self.steps))


@dataclass(frozen=True)
class Task:
    """The question about a kind of event, in tokens."""

    prompt: list[int]
    """Everything up to the token in which the two answers differ."""
    answers: tuple[int, int]
    """That token."""
    learned: int
    """How many tokens at the end of ``prompt`` are the answers' common beginning, which is learned too."""


class ByPixels:
    """Remembers what a frozen encoder gave for a picture: clips are looked at many times, a frame is encoded once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Tensor] = {}

    def around(self, encode: Callable[[Tensor, int, Tensor], Tensor], key: Any) -> Callable[[Tensor, int, Tensor], Tensor]:
        """The same function of (rgb (B, 3, H, W), grid, like). ``key``: what else the result depends on."""

        def remembered(rgb: Tensor, grid: int, like: Tensor) -> Tensor:
            names = [(key, grid, hashlib.blake2b(picture.contiguous().numpy(), digest_size=16).digest()) for picture in rgb]
            fresh = [row for row, name in enumerate(names) if name not in self._known]
            if fresh:
                for row, taps in zip(fresh, encode(rgb[fresh], grid, like).unbind(), strict=True):
                    self._known[names[row]] = taps.clone()
            return torch.stack([self._known[name] for name in names])

        return remembered


def task_of(kind: str, folder: Path) -> Task:
    """Of the tokenizer in ``folder``."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answers = KINDS[kind].answers
    question = QUESTION.format(options=", ".join(answers))
    begin = tokenizer(f"USER:\n{question} ASSISTANT:").input_ids
    first, second = (tokenizer(f"USER:\n{question} ASSISTANT: {answer}").input_ids[len(begin) :] for answer in answers)
    common = next(n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    return Task([*begin, *first[:common]], (first[common], second[common]), common)


def build_base(folder: Path, recipe: Recipe, seed: int) -> Path:
    """A plain LLaVA-OneVision directory: LLM and tower as ``llava-face tiny-model --seed`` draws them."""
    corpus = [QUESTION.format(options=", ".join(kind.answers)) for kind in KINDS.values()]
    parts = build_tiny(
        folder / "parts", hidden=recipe.hidden, layers=recipe.layers, image_size=recipe.side, patch_size=recipe.patch,
        vision_hidden=recipe.vision_hidden, vision_layers=recipe.vision_layers, seed=seed, corpus=corpus,
    )  # fmt: skip
    llm = LlamaForCausalLM.from_pretrained(parts, dtype=torch.float32)
    tower = CLIPVisionModel.from_pretrained(parts / "clip", dtype=torch.float32)
    config = LlavaOnevisionConfig(
        vision_config=tower.config, text_config=llm.config, image_token_index=IMAGE_TOKEN,
        video_token_index=VIDEO_TOKEN, vision_feature_layer=-2, vision_feature_select_strategy="default",
        image_grid_pinpoints=[[recipe.side, recipe.side]], tie_word_embeddings=False,
    )  # fmt: skip
    set_seed(seed)
    model = LlavaOnevisionForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    model.model.language_model.load_state_dict(llm.model.state_dict())
    model.lm_head.load_state_dict(llm.lm_head.state_dict())
    model.save_pretrained(folder / "plain")
    return folder / "plain"


def build(variant: Variant, plain: Path, facial: dict[str, Any], recipe: Recipe, seed: int, memory: ByPixels) -> Any:
    """The model of a variant, from the plain directory, switched on as a user would."""
    block = face_block(variant, facial, recipe.expert)
    path = plain
    if block is not None:
        path = plain.with_name(variant.name.replace(" ", "-"))
        enable(plain, preset=block.pop("preset"), settings=block, out=path)
    set_seed(seed)
    model = AutoModelForImageTextToText.from_pretrained(path)
    projector = model.model.multi_modal_projector
    if not variant.general:
        without_general(projector)
    if variant.face and variant.facial:
        encoder = projector.face.facial
        encoder.forward = memory.around(encoder.forward, tuple(encoder.config.taps))
    model.model.vision_tower.requires_grad_(False)
    return model


def inputs_of(clips: Clips, rows: np.ndarray, task: Task, recipe: Recipe) -> dict[str, Tensor]:
    """A batch of clips with the question about each."""
    pixels = torch.from_numpy(clips.pixels[rows]).permute(0, 1, 4, 2, 3).float() / 255  # (B, T, 3, H, W)
    seen = normalise(pixels.flatten(0, 1), list(CLIP_MEAN), list(CLIP_STD)).view_as(pixels)
    video = [VIDEO_TOKEN] * (pixels.shape[1] * recipe.frame_tokens + 1)  # and OneVision's newline
    ids = torch.tensor([[task.prompt[0], *video, *task.prompt[1:]]]).repeat(len(rows), 1)  # behind <s>
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values_videos": seen}


def train(model: Any, clips: Clips, task: Task, recipe: Recipe, seed: int, every: Callable[..., None] | None = None) -> list[float]:
    """Trains everything but the tower; returns the loss of each step. The answer alone is learned."""
    rng = np.random.default_rng([seed, 11])
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, recipe.factor)
    model.train()
    losses = []
    for step, rows in zip(range(recipe.steps), _batches(len(clips.which), recipe.batch, rng), strict=False):
        batch = inputs_of(clips, rows, task, recipe)
        answer = torch.tensor([task.answers[which] for which in clips.which[rows]])[:, None]
        ids = torch.cat([batch["input_ids"], answer], dim=1)
        labels = torch.full_like(ids, -100)
        labels[:, -1 - task.learned :] = ids[:, -1 - task.learned :]
        loss = model(**{**batch, "input_ids": ids, "attention_mask": torch.ones_like(ids)}, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if every is not None:
            every(step, losses)
    return losses


@torch.no_grad()
def balanced_accuracy(model: Any, clips: Clips, task: Task, recipe: Recipe) -> float:
    """Mean recall of the two events; the answer is the likelier of the two tokens in which they differ. Chance: 0.5."""
    model.eval()
    said = []
    for rows in np.array_split(np.arange(len(clips.which)), -(-len(clips.which) // 64)):
        logits = model(**inputs_of(clips, rows, task, recipe), logits_to_keep=1).logits[:, -1]
        said.append((logits[:, task.answers[1]] > logits[:, task.answers[0]]).numpy())
    answers = np.concatenate(said)
    return float(np.mean([(answers[clips.which == which] == which).mean() for which in (0, 1)]))


def _batches(total: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    while True:
        order = rng.permutation(total)
        yield from (order[start : start + size] for start in range(0, total - size + 1, size))
