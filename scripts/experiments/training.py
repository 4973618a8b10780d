"""A tiny LLaVA-OneVision with one of the ablation's variants: built, trained on made clips and questioned."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made_frames import STATES, Clips
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

FIRST_QUESTION = "What does the picture show? Choose one: {options}."


@dataclass(frozen=True)
class Recipe:
    """Sizes of the tiny model, and how it is trained. All ours."""

    hidden: int = 64
    layers: int = 3
    vision_hidden: int = 32
    vision_layers: int = 2
    patch: int = 14
    side: int = 56
    expert: int = 32
    first_steps: int = 200
    """Of the first stage, on single frames."""
    first_batch: int = 64
    steps: int = 200
    batch: int = 16
    rate: float = 3e-3
    warmup: int = 20

    @property
    def frame_tokens(self) -> int:
        """LLM tokens of a frame: OneVision pools its patches 2 x 2."""
        return math.ceil(self.side // self.patch / 2) ** 2


@dataclass(frozen=True)
class Task:
    """A closed question in tokens."""

    prompt: list[int]
    """Everything up to the first token in which the answers differ."""
    answers: list[list[int]]
    """The rest of each answer, equally long; of the two events just the token in which they differ."""


class ByPixels:
    """Remembers what a frozen encoder gave for a picture: clips are looked at many times, a frame is encoded once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Tensor] = {}

    def around(self, encode: Callable[..., Tensor], key: Any) -> Callable[..., Tensor]:
        """The same function of (rgb (B, 3, H, W), grid, like). ``key``: what else the result depends on."""

        def remembered(rgb: Tensor, grid: int, like: Tensor) -> Tensor:
            pictures = rgb.contiguous().numpy()
            names = [(key, grid, hashlib.blake2b(picture, digest_size=16).digest()) for picture in pictures]
            fresh = [row for row, name in enumerate(names) if name not in self._known]
            if fresh:
                for row, taps in zip(fresh, encode(rgb[fresh], grid, like).unbind(), strict=True):
                    self._known[names[row]] = taps.clone()
            return torch.stack([self._known[name] for name in names])

        return remembered


def event_task(kind: str, folder: Path) -> Task:
    """Which of the kind's two events it is; by the tokenizer in ``folder``."""
    prompt, answers = _tokens(QUESTION, KINDS[kind].answers, folder)
    common = next(n for n, both in enumerate(zip(*answers, strict=False)) if len(set(both)) > 1)
    return Task([*prompt, *answers[0][:common]], [[answer[common]] for answer in answers])


def state_task(kind: str, folder: Path) -> Task:
    """What a single frame shows."""
    return Task(*_tokens(FIRST_QUESTION, STATES[kind], folder))


def _tokens(question: str, answers: Sequence[str], folder: Path) -> tuple[list[int], list[list[int]]]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = f"USER:\n{question.format(options=', '.join(answers))} ASSISTANT:"
    prompt = tokenizer(text).input_ids
    return prompt, [tokenizer(f"{text} {answer}").input_ids[len(prompt) :] for answer in answers]


def build_base(folder: Path, recipe: Recipe, seed: int) -> Path:
    """A plain LLaVA-OneVision directory: LLM and tower as ``llava-face tiny-model --seed`` draws them."""
    corpus = [QUESTION.format(options=", ".join(kind.answers)) for kind in KINDS.values()]
    corpus += [FIRST_QUESTION.format(options=", ".join(states)) for states in STATES.values()]
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
    """The model of a variant, from the plain directory, switched on as a user would. The tower is frozen."""
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


def inputs_of(pixels: np.ndarray, task: Task, recipe: Recipe) -> dict[str, Tensor]:
    """(B, T, H, W, 3) uint8 -> what the model takes, with the question about each clip."""
    rgb = torch.from_numpy(pixels).permute(0, 1, 4, 2, 3).float() / 255
    seen = normalise(rgb.flatten(0, 1), list(CLIP_MEAN), list(CLIP_STD)).view_as(rgb)
    video = [VIDEO_TOKEN] * (pixels.shape[1] * recipe.frame_tokens + 1)  # and OneVision's newline
    ids = torch.tensor([[task.prompt[0], *video, *task.prompt[1:]]]).repeat(len(pixels), 1)  # behind <s>
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values_videos": seen}


def learn_states(model: Any, clips: Clips, task: Task, recipe: Recipe, seed: int) -> list[float]:
    """The first stage: single frames, and what each shows. Nothing of the order of frames is in it."""
    pixels, states = clips.pixels.reshape(-1, 1, *clips.pixels.shape[2:]), clips.state.reshape(-1)
    return _train(model, pixels, states, task, recipe, recipe.first_steps, recipe.first_batch, seed)


def learn_events(model: Any, clips: Clips, task: Task, recipe: Recipe, seed: int) -> list[float]:
    """The second stage: clips, and which event each shows."""
    return _train(model, clips.pixels, clips.which, task, recipe, recipe.steps, recipe.batch, seed)


def _train(
    model: Any, pixels: np.ndarray, classes: np.ndarray, task: Task, recipe: Recipe, steps: int, size: int, seed: int
) -> list[float]:
    """Trains everything but the tower on the answers' tokens; returns the loss of each step."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _factor(step, steps, recipe.warmup))
    answers = torch.tensor(task.answers)
    model.train()
    losses = []
    for _, rows in zip(range(steps), _batches(len(classes), size, seed), strict=False):
        batch, answer = inputs_of(pixels[rows], task, recipe), answers[classes[rows]]
        ids = torch.cat([batch["input_ids"], answer], dim=1)
        labels = torch.cat([torch.full_like(batch["input_ids"], -100), answer], dim=1)
        loss = model(**{**batch, "input_ids": ids, "attention_mask": torch.ones_like(ids)}, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return losses


@torch.no_grad()
def balanced_accuracy(model: Any, clips: Clips, task: Task, recipe: Recipe) -> float:
    """Mean recall of the two events; the answer is the likelier of the two tokens in which they differ. Chance: 0.5."""
    model.eval()
    first, second = (answer[0] for answer in task.answers)
    said = []
    for pixels in np.array_split(clips.pixels, math.ceil(len(clips.pixels) / 50)):
        logits = model(**inputs_of(pixels, task, recipe), logits_to_keep=1).logits[:, -1]
        said.append((logits[:, second] > logits[:, first]).numpy())
    answers = np.concatenate(said)
    return float(np.mean([(answers[clips.which == which] == which).mean() for which in (0, 1)]))


def _factor(step: int, steps: int, warmup: int) -> float:
    """Of the rate: a linear warm-up, then a cosine to 0."""
    return min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps))


def _batches(total: int, size: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng([seed, 11])
    while True:
        order = rng.permutation(total)
        yield from (order[start : start + size] for start in range(0, total - size + 1, size))
