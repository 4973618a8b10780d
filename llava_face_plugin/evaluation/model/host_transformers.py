"""transformers' own Llava, LlavaNext, LlavaOnevision and LlavaNextVideo (llava-hf's checkpoints), face mode or not."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from ... import guard
from ...errors import FaceHostError
from ...model_files import read_config
from .arguments import Arguments
from .caches import release
from .host import (
    IMAGE,
    PROMPT_NOTE,
    Host,
    Message,
    Visual,
    decodes_plainly,
    dtype_for,
    eight_bit,
    eos_of,
    longest_prompt,
)

PLACE, VIDEO_PLACE = "<image>", "<video>"

_VISION = ("pixel_values", "image_sizes")
"""What ``get_image_features`` takes of a processor's output."""

_LONGEST_REASON = 300
"""Characters of an error of transformers: some list all models that it knows."""

VICUNA = (
    "{% for message in messages %}{% if loop.index0 == 0 %}A chat between a curious user and an artificial "
    "intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions. USER: "
    "{{ message['content'] }} {% elif message['role'] == 'user' %}USER: {{ message['content'] }} {% else %} ASSISTANT: "
    "{{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}"
    "{% endif %}"
)
"""Where a checkpoint has no chat template: what lmms-eval's ``llava_hf`` takes then."""


def matches(config: Mapping[str, Any]) -> bool:
    """By ``config.json``."""
    return guard.transformers_family(config) is not None


def load(arguments: Arguments, device: torch.device) -> Host:
    """Raises ``FaceHostError`` if transformers cannot load the directory or is too old, if torchvision is missing where
    the processor reads videos, too, or if the tower is Pixtral's."""
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    where = arguments.pretrained
    raw = read_config(Path(where))
    if guard.is_on(raw):
        from ...hosts import hf  # noqa: F401 (registers the face classes)
    family = guard.transformers_family(raw)
    lowest = (4, 52) if family == "llava" else (4, 55)
    if release() < lowest:
        raise FaceHostError(f"{where}: {family} needs transformers {lowest[0]}.{lowest[1]} or newer")
    if arguments.model_base is not None:
        raise FaceHostError(f"{where}: model_base is for outputs of LLaVA's own training, not for transformers' models")
    try:
        config = AutoConfig.from_pretrained(where)
        if getattr(config.vision_config, "model_type", "") == "pixtral":
            raise FaceHostError(f"{where}: Pixtral's images of varying size are not supported")
        kept = getattr(config, "dtype", None) or getattr(config, "torch_dtype", None)
        dtype = dtype_for(arguments, device, kept)
        model: Any = AutoModelForImageTextToText.from_pretrained(
            where, torch_dtype=dtype, attn_implementation=arguments.attn_implementation
        )
        processor = AutoProcessor.from_pretrained(where)
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise FaceHostError(f"{where}: transformers cannot load it: {reason}") from error
    return TransformersLlava(model.to(device).eval(), processor, device, dtype, Path(where).name)


class TransformersLlava:
    """See ``Host``."""

    def __init__(self, model: Any, processor: Any, device: torch.device, dtype: torch.dtype, name: str) -> None:
        self.model, self.processor, self.tokenizer = model, processor, processor.tokenizer
        self.device, self.dtype, self.name = device, dtype, name
        self.decoder, self.head = model.get_decoder(), model.lm_head
        self.eos = eos_of(model, self.tokenizer)
        self.plain_greedy = decodes_plainly(model.generation_config)
        self.limit = longest_prompt(model.config.text_config)
        self.reads_video = hasattr(processor, "video_processor")
        self.reads_prompt = getattr(model.model, "reads_prompt", False)  # upstream's own classes do not have it
        self._places = {self.tokenizer.convert_tokens_to_ids(place) for place in self._marks}

    @property
    def _marks(self) -> tuple[str, ...]:
        return (PLACE, VIDEO_PLACE) if self.reads_video else (PLACE,)

    @torch.inference_mode()
    def visual(self, images: Sequence[Visual]) -> list[Tensor]:
        pictures = iter(self._of_images([image for image in images if isinstance(image, Image.Image)]))
        return [next(pictures) if isinstance(one, Image.Image) else self._of_video(one) for one in images]

    def _of_images(self, images: Sequence[Image.Image]) -> list[Tensor]:
        if not images:
            return []
        rgb = [eight_bit(image) for image in images]
        # The whole processor and not its image processor alone: in face mode it adds the label maps.
        asked = {"images": rgb, "text": [PLACE] * len(rgb), "padding": True, "return_tensors": "pt"}
        inputs = self.processor(**asked).to(self.device, self.dtype)
        # In 5.x an output object, before it a list or tensor; of an image's tiles the tokens that go into the prompt
        given = {name: inputs[name] for name in _VISION if name in inputs}
        tokens = self.model.get_image_features(**given, **self._which_features)
        return list(getattr(tokens, "pooler_output", tokens))

    def _of_video(self, clip: np.ndarray) -> Tensor:
        inputs = self.processor(videos=[clip], text=[VIDEO_PLACE], return_tensors="pt").to(self.device, self.dtype)
        found = self.model.get_video_features(inputs["pixel_values_videos"], **self._which_features)
        found = getattr(found, "pooler_output", found)
        tokens = torch.cat([one.flatten(0, -2) for one in found])
        places = int((inputs["input_ids"] == self.tokenizer.convert_tokens_to_ids(VIDEO_PLACE)).sum())
        if len(tokens) < places:  # OneVision's end of a video: some releases add it later, in their forward
            tokens = torch.cat([tokens, self.model.model.image_newline[None].to(tokens)])
        return tokens

    @functools.cached_property
    def _which_features(self) -> dict[str, Any]:
        names = ("vision_feature_layer", "vision_feature_select_strategy")
        return {name: getattr(self.model.config, name) for name in names}

    def embed(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.model.get_input_embeddings()(ids)
        return embedded

    def render(self, question: str, images: int, kind: str = "image") -> str:
        if images and f"<{kind}>" not in question:
            question = " ".join([f"<{kind}>"] * images) + "\n" + question
        return self._apply(self._template, [{"role": "user", "content": question}])

    def render_chat(self, messages: Sequence[Message]) -> str:
        template = getattr(self.processor, "chat_template", None) or self.tokenizer.chat_template
        if template:
            return self._apply(template, messages)
        return self._apply(VICUNA, [{**message, "content": flat(message["content"])} for message in messages])

    @property
    def _template(self) -> str:
        return self.tokenizer.chat_template or VICUNA

    def _apply(self, template: str, messages: Sequence[Message]) -> str:
        rendered: str = self.tokenizer.apply_chat_template(
            list(messages), chat_template=template, tokenize=False, add_generation_prompt=True
        )
        return rendered

    def tokenize(self, prompt: str) -> list[int]:
        return [IMAGE if token in self._places else token for token in self.tokenizer(prompt)["input_ids"]]

    def text_of(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    @torch.inference_mode()
    def generate(self, prompt: str, images: Sequence[Visual], options: Mapping[str, Any]) -> tuple[list[int], int]:
        """As lmms-eval's ``llava_hf`` asks."""
        rgb = [eight_bit(image) for image in images if isinstance(image, Image.Image)]
        clips = [clip for clip in images if not isinstance(clip, Image.Image)]
        videos = {"videos": clips} if clips else {}
        asked = {"images": rgb or None, "text": prompt, "return_tensors": "pt", **videos}
        inputs = self.processor(**asked).to(self.device, self.dtype)
        length = inputs["input_ids"].shape[1]
        sampling = {} if options.get("do_sample") else {"temperature": None, "top_p": None, "top_k": None}
        eos = sorted(self.eos) or None
        output = self.model.generate(**inputs, **{**sampling, **options}, eos_token_id=eos, pad_token_id=eos and eos[0])
        return output[0, length:].tolist(), length

    def notes(self) -> list[str]:
        return [PROMPT_NOTE] if self.reads_prompt else []


def flat(content: str | Sequence[Mapping[str, Any]]) -> str:
    """A message's parts as one text: images that follow each other as "<image> <image>\\n", and videos likewise."""
    if isinstance(content, str):
        return content
    out, kinds = "", [part["type"] for part in content]
    for part, after in zip(content, [*kinds[1:], "end"], strict=True):
        if part["type"] == "text":
            out += part["text"]
        else:
            out += f"<{part['type']}>" + (" " if after == part["type"] else "\n")
    return out
