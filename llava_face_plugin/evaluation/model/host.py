"""What ``face_llava`` needs of a host, and which host a model directory is for.

A host is one file with two functions, ``matches(config)`` and ``load(arguments, device)``, named in ``HOSTS``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ... import guard
from ...errors import FaceHostError
from ...model_files import read_config
from .arguments import DTYPES, Arguments
from .generation import MAX_NEW_TOKENS

HOSTS = ("host_llava_v1", "host_transformers")
"""Modules of this package, asked in this order."""

IMAGE = -1
"""In the token ids of a prompt: here the next image goes."""

PROMPT_NOTE = "its fusion reads each image with the question: nothing is shared between questions"
"""What ``Host.notes`` says where ``reads_prompt``."""

Visual = Image.Image | np.ndarray
"""An image, or a video as (frames, H, W, 3) uint8 RGB."""

Message = Mapping[str, Any]
"""``{"role": ..., "content": [{"type": "text", "text": ...} | {"type": "image"} | {"type": "video"}, ...]}``."""


class Host(Protocol):
    """A loaded model. Weights on ``device`` in ``dtype``; nothing is trained."""

    name: str
    device: torch.device
    dtype: torch.dtype
    decoder: nn.Module
    """The language model without its head: embeddings (R, T, D) -> ``last_hidden_state`` (R, T, D)."""
    head: nn.Module
    """(..., D) -> logits (..., V)."""
    eos: frozenset[int]
    limit: int
    """Tokens of a prompt, those of images included, up to which our decoding does as ``generate`` does."""
    reads_video: bool
    plain_greedy: bool
    """False if the checkpoint's generation_config changes greedy decoding: then only ``generate`` is right."""

    reads_prompt: bool
    """Whether an image's visual tokens depend on the question: then only ``generate`` is right."""

    def visual(self, images: Sequence[Any]) -> list[Tensor]:
        """RGB images, and videos where the host reads them -> visual tokens of each, (P, D), of no question."""

    def embed(self, ids: Tensor) -> Tensor:
        """(...) int64 -> (..., D)."""

    def render(self, question: str, images: int, kind: str = "image") -> str:
        """The whole prompt for one question of a simple task, about so many images or (``kind`` video) videos."""

    def render_chat(self, messages: Sequence[Message]) -> str:
        """The whole prompt for a conversation of a chat task."""

    def tokenize(self, prompt: str) -> list[int]:
        """Token ids of a rendered prompt, ``IMAGE`` in place of each image."""

    def text_of(self, ids: Sequence[int]) -> str:
        """The answer's text, without special tokens."""

    def generate(self, prompt: str, images: Sequence[Any], options: Mapping[str, Any]) -> tuple[list[int], int]:
        """New token ids by the host's own ``generate``, from its own preprocessing of text and images; and how many
        tokens the prompt had, those of images and videos included."""

    def notes(self) -> list[str]:
        """What a user should know of the images seen so far, for example how many had no face map."""


def load_host(arguments: Arguments, device: torch.device) -> Host:
    """The model of ``arguments.pretrained``.

    Raises ``FaceHostError`` if it is of no host that is known or cannot be loaded, and ``FaceConfigError`` for a
    directory without a usable ``config.json``.
    """
    config = read_config(Path(arguments.pretrained))
    for name in HOSTS:
        module = importlib.import_module(f"{__package__}.{name}")
        if module.matches(config):
            host: Host = module.load(arguments, device)
            return host
    told = f"model_type {config.get('model_type')!r}, architectures {config.get('architectures')}"
    raise FaceHostError(
        f"{arguments.pretrained}: {told}: not a model that face_llava knows. It loads checkpoints of LLaVA 1.5's own "
        f"package (llava_llama) and of transformers' own classes ({', '.join(guard.FAMILIES)})"
    )


def dtype_for(arguments: Arguments, device: torch.device, kept: Any) -> torch.dtype:
    """The dtype to run in; ``kept`` is the checkpoint's, taken for float16 if it does not say."""
    if arguments.dtype != "auto":
        return DTYPES[arguments.dtype]
    if device.type == "cpu":
        return torch.float32
    return kept if isinstance(kept, torch.dtype) else torch.float16


def eos_of(model: Any, tokenizer: Any) -> frozenset[int]:
    """The ids that end an answer: those of ``generation_config``, else the tokenizer's."""
    ids = model.generation_config.eos_token_id
    ids = tokenizer.eos_token_id if ids is None else ids
    return frozenset() if ids is None else frozenset(ids if isinstance(ids, list | tuple) else [ids])


def decodes_plainly(generation: Any) -> bool:
    """Whether greedy decoding under this ``GenerationConfig`` is the arg max of the logits and nothing else."""
    neutral: dict[str, tuple[Any, ...]] = {
        "repetition_penalty": (1.0,),
        "no_repeat_ngram_size": (0,),
        "encoder_repetition_penalty": (1.0,),
        "min_length": (0,),
        "min_new_tokens": (),
        "bad_words_ids": (),
        "suppress_tokens": (),
        "begin_suppress_tokens": (),
        "forced_bos_token_id": (),
        "forced_eos_token_id": (),
        "sequence_bias": (),
        "exponential_decay_length_penalty": (),
        "guidance_scale": (1.0,),
        "watermarking_config": (),
        "stop_strings": (),
    }
    return all(getattr(generation, name, None) in (None, *values) for name, values in neutral.items())


def longest_prompt(config: Any) -> int:
    """Most tokens of a prompt that a decoder sees as a whole: its positions, and its attention window if it has one."""
    window = getattr(config, "sliding_window", None)
    return min(int(config.max_position_embeddings), int(window) - MAX_NEW_TOKENS if window else 1 << 60)


def eight_bit(image: Image.Image) -> Image.Image:
    """RGB as LLaVA reads an image."""
    return image if image.mode == "RGB" else image.convert("RGB")
