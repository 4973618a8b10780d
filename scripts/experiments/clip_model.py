"""A tiny LLaVA-OneVision with one of the ablation's variants, and the questions about made clips in its tokens."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made_frames import STATES, Clips
from torch import Tensor, nn
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

FIRST_QUESTION = "What does the picture show?"


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
    first_batch: int = 64
    first_rate: float = 3e-3
    """Of the first stage, on single frames."""
    steps: int = 300
    batch: int = 16
    rate: float = 2e-3
    """Of the second stage, on clips."""
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
    """The rest of each; of the two events just the token in which they differ."""

    def padded(self) -> Tensor:
        """(answers, length) token ids, -100 behind the shorter ones."""
        return nn.utils.rnn.pad_sequence([torch.tensor(a) for a in self.answers], True, -100)


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
    corpus += [FIRST_QUESTION, *(state for states in STATES.values() for state in states)]
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
    ids = torch.tensor(_with_video(task, pixels.shape[1] * recipe.frame_tokens)).repeat(len(pixels), 1)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values_videos": seen}


def _with_video(task: Task, tokens: int) -> list[int]:
    """The prompt with a clip of so many tokens, and OneVision's newline, behind its ``<s>``."""
    return [task.prompt[0], *[VIDEO_TOKEN] * (tokens + 1), *task.prompt[1:]]


@torch.no_grad()
def frame_tokens(model: Any, clips: Clips, recipe: Recipe) -> Tensor:
    """The LLM's visual tokens of each frame, (N, T, tokens, width): after the first stage they change no more."""
    model.eval()
    empty, out = Task([1], []), []
    for pixels in np.array_split(clips.pixels, math.ceil(len(clips.pixels) / 50)):
        seen = inputs_of(pixels, empty, recipe)["pixel_values_videos"]
        found = model.model.get_video_features(seen, vision_feature_layer=-2, vision_feature_select_strategy="default")
        out.append(found.unflatten(1, (pixels.shape[1], recipe.frame_tokens)))
    return torch.cat(out)


def last_logits(model: Any, tokens: Tensor, task: Task) -> Tensor:
    """``frame_tokens`` (B, T, tokens, width) -> logits (B, vocabulary) behind the prompt, as from the clip's pixels."""
    ids = torch.tensor(_with_video(task, tokens.shape[1] * tokens.shape[2])).repeat(len(tokens), 1)
    embedded = model.get_input_embeddings()(ids)
    seen = tokens.flatten(1, 2)
    newline = model.model.image_newline.expand(len(seen), 1, -1)
    start = 1 + seen.shape[1]
    whole = torch.cat([embedded[:, :1], seen, newline.detach(), embedded[:, start + 1 :]], dim=1)
    return model(inputs_embeds=whole, attention_mask=torch.ones_like(ids), logits_to_keep=1).logits[:, -1]
