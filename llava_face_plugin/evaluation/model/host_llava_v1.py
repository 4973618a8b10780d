"""LLaVA 1.5's own package (``llava`` 1.2.2), with face mode or without, as ``config.json`` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ... import guard
from ...errors import FaceConfigError, FaceHostError
from ...hosts.attributes import has_map
from ...hosts.llava import which
from ...hosts.llava_v1.load import load_llava
from ...model_files import read_config
from .arguments import Arguments
from .caches import starts_with_bos
from .host import IMAGE, PROMPT_NOTE, Host, Message, decodes_plainly, dtype_for, eight_bit, eos_of, longest_prompt
from .host_transformers import PLACE, flat
from .questions import content_key

TEMPLATE = "vicuna_v1"
"""LLaVA 1.5's conversation, which lmms-eval's ``llava`` takes too."""


def matches(config: Mapping[str, Any]) -> bool:
    """By ``config.json``: LLaVA's package writes ``llava_llama``, its first releases ``llava``.

    LLaVA-NeXT's, which has the same name, is not read here.
    """
    if which.kind() == "llava_next":
        return False
    return config.get("model_type") in ("llava_llama", "llava") and "text_config" not in config


def load(arguments: Arguments, device: torch.device) -> Host:
    """Through ``llava.model.builder.load_pretrained_model``, which rounds the weights to float16 on its way.

    Raises ``FaceConfigError`` where a vision tower or ``model_base`` is missing, ``FaceHostError`` where llava is not
    installed, cannot load the directory, or cuts images into tiles (anyres).
    """
    where = Path(arguments.pretrained)
    config = read_config(where)
    _check(where, config, arguments.model_base)
    tokenizer, model, processor = load_llava(
        where, arguments.model_base, str(device), attn_implementation=arguments.attn_implementation
    )
    dtype = dtype_for(arguments, device, torch.float16)
    return LlavaV1(model.to(dtype), tokenizer, processor, device, dtype, where.name)


class LlavaV1:
    """See ``Host``."""

    def __init__(
        self, model: Any, tokenizer: Any, processor: Any, device: torch.device, dtype: torch.dtype, name: str
    ) -> None:
        self.model, self.tokenizer, self.processor = model, tokenizer, processor
        self.device, self.dtype, self.name = device, dtype, name
        self.decoder, self.head = model.get_model(), model.lm_head
        self.eos = eos_of(model, tokenizer)
        self.plain_greedy = decodes_plainly(model.generation_config)
        longest = getattr(model.config, "tokenizer_model_max_length", None)
        self.limit = min(longest_prompt(model.config), longest or 1 << 60)
        self.reads_video = False
        self.face = bool(getattr(type(model), "is_face_model", False))
        self.reads_prompt = self.face and model.get_model().mm_projector.face.reads_prompt
        self._has_map: dict[str, bool] = {}

    @torch.inference_mode()
    def visual(self, images: Sequence[Image.Image]) -> list[Tensor]:
        prepared = self._prepared(images)
        return list(self.model.encode_images(prepared.to(self.device, self.dtype)))

    def _prepared(self, images: Sequence[Image.Image]) -> Tensor:
        """(B, 3 or 4, H, W): a fourth channel is the label map of the model's own parser."""
        from llava.mm_utils import process_images

        prepared: Tensor = process_images([eight_bit(image) for image in images], self.processor, self.model.config)
        if self.face:  # by content: generate prepares an image again for each of its questions
            self._has_map |= dict(zip(map(content_key, images), map(has_map, prepared), strict=True))
        return prepared

    def embed(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.decoder.embed_tokens(ids)
        return embedded

    def render(self, question: str, images: int, kind: str = "image") -> str:
        if images and PLACE not in question:
            question = " ".join([PLACE] * images) + "\n" + question
        return self._rendered([("user", question)])

    def render_chat(self, messages: Sequence[Message]) -> str:
        return self._rendered([(message["role"], flat(message["content"])) for message in messages])

    def _rendered(self, turns: Sequence[tuple[str, str]]) -> str:
        from llava.conversation import conv_templates

        conversation = conv_templates[TEMPLATE].copy()
        for role, text in turns:
            if role == "system":
                conversation.system = text
            else:
                conversation.append_message(conversation.roles[role == "assistant"], text)
        conversation.append_message(conversation.roles[1], None)
        prompt: str = conversation.get_prompt()
        if getattr(self.model.config, "mm_use_im_start_end", False):
            prompt = prompt.replace(PLACE, f"<im_start>{PLACE}<im_end>")
        return prompt

    def tokenize(self, prompt: str) -> list[int]:
        from llava.mm_utils import tokenizer_image_token

        return tokenizer_image_token(prompt, self.tokenizer, IMAGE)  # type: ignore[no-any-return]

    def text_of(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    @torch.inference_mode()
    def generate(self, prompt: str, images: Sequence[Image.Image], options: Mapping[str, Any]) -> tuple[list[int], int]:
        """As LLaVA's ``eval/model_vqa_loader.py`` asks."""
        from llava.constants import IMAGE_TOKEN_INDEX
        from llava.mm_utils import tokenizer_image_token

        ids = tokenizer_image_token(prompt, self.tokenizer, IMAGE_TOKEN_INDEX, return_tensors="pt").to(self.device)
        pixels = self._prepared(images).to(self.device, self.dtype) if images else None
        sampling = {} if options.get("do_sample") else {"temperature": None, "top_p": None, "top_k": None}
        output = self.model.generate(
            ids[None],
            images=pixels,
            image_sizes=[image.size for image in images],
            pad_token_id=self.tokenizer.eos_token_id,
            **{**sampling, **options},
        )
        patches = len(images) * (self.model.get_vision_tower().num_patches - 1)
        return output[0, int(starts_with_bos()) :].tolist(), len(ids) + patches

    def notes(self) -> list[str]:
        notes = [PROMPT_NOTE] if self.reads_prompt else []
        if self._has_map:
            seen, with_map = len(self._has_map), sum(self._has_map.values())
            notes.append(f"face maps so far: {with_map} of {seen} images; {seen - with_map} had none")
        return notes


def _check(where: Path, config: Mapping[str, Any], base: str | None) -> None:
    if config.get("mm_vision_tower") in (None, "", guard.TOWER_MARK):
        raise FaceConfigError(
            f"{where}: its config.json names no mm_vision_tower: it is not a trained LLaVA yet; name the output of a "
            "training"
        )
    if config.get("image_aspect_ratio") == "anyres":
        raise FaceHostError(f"{where}: image_aspect_ratio 'anyres' cuts an image into tiles, which is not supported")
    whole = any(file for pattern in ("model*.safetensors", "pytorch_model*.bin") for file in where.glob(pattern))
    part = any((where / name).exists() for name in ("adapter_config.json", "mm_projector.bin"))
    if base is None and not whole:
        raise FaceConfigError(f"{where}: holds no whole model; name the LLM it was trained on by model_base=DIR")
    if base is not None and not part:
        raise FaceConfigError(f"{where}: holds no LoRA and no mm_projector.bin; leave model_base out")
