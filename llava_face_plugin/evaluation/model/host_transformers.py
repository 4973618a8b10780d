"""transformers' own ``LlavaForConditionalGeneration`` (llava-hf/llava-1.5-7b-hf and its like), face mode on or off."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from ...errors import FaceHostError
from ...switch import read_config
from .arguments import Arguments
from .caches import release
from .host import IMAGE, Host, Message, decodes_plainly, dtype_for, eight_bit, eos_of, longest_prompt

PLACE = "<image>"
FACE_TYPE = "face_llava"
"""``model_type`` of a checkpoint with face mode on (``hosts/hf``)."""

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
    return config.get("model_type") in ("llava", FACE_TYPE) and "text_config" in config


def load(arguments: Arguments, device: torch.device) -> Host:
    """Raises ``FaceHostError`` if transformers cannot load the directory or is too old, or the tower is Pixtral's."""
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    where = arguments.pretrained
    if read_config(Path(where)).get("model_type") == FACE_TYPE:
        from ...hosts import hf  # noqa: F401 (registers the face classes)
    if release() < (4, 52):
        raise FaceHostError(f"{where}: transformers' own LLaVA needs transformers 4.52 or newer")
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
    except (OSError, ValueError, SafetensorError) as error:
        raise FaceHostError(f"{where}: transformers cannot load it: {error}") from error
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
        self._place = self.tokenizer.convert_tokens_to_ids(PLACE)

    @torch.inference_mode()
    def visual(self, images: Sequence[Image.Image]) -> list[Tensor]:
        rgb = [eight_bit(image) for image in images]
        # The whole processor and not its image processor alone: in face mode it adds the label maps.
        pixels = self.processor(images=rgb, text=[PLACE] * len(rgb), return_tensors="pt")["pixel_values"]
        # In 5.x an output object, before it a list or tensor
        tokens = self._image_features(pixel_values=pixels.to(self.device, self.dtype))
        return list(getattr(tokens, "pooler_output", tokens))

    @functools.cached_property
    def _image_features(self) -> Any:
        config = self.model.config
        return functools.partial(
            self.model.get_image_features,
            vision_feature_layer=config.vision_feature_layer,
            vision_feature_select_strategy=config.vision_feature_select_strategy,
        )

    def embed(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.model.get_input_embeddings()(ids)
        return embedded

    def render(self, question: str, images: int) -> str:
        if images and PLACE not in question:
            question = " ".join([PLACE] * images) + "\n" + question
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
        return [IMAGE if token == self._place else token for token in self.tokenizer(prompt)["input_ids"]]

    def text_of(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    @torch.inference_mode()
    def generate(self, prompt: str, images: Sequence[Image.Image], options: Mapping[str, Any]) -> tuple[list[int], int]:
        """As lmms-eval's ``llava_hf`` asks."""
        rgb = [eight_bit(image) for image in images]
        inputs = self.processor(images=rgb or None, text=prompt, return_tensors="pt").to(self.device, self.dtype)
        length = inputs["input_ids"].shape[1]
        sampling = {} if options.get("do_sample") else {"temperature": None, "top_p": None, "top_k": None}
        eos = sorted(self.eos) or None
        output = self.model.generate(**inputs, **{**sampling, **options}, eos_token_id=eos, pad_token_id=eos and eos[0])
        return output[0, length:].tolist(), length

    def notes(self) -> list[str]:
        return []


def flat(content: str | Sequence[Mapping[str, Any]]) -> str:
    """A message's parts as one text: images that follow each other as "<image> <image>\\n"."""
    if isinstance(content, str):
        return content
    out, kinds = "", [part["type"] for part in content]
    for part, after in zip(content, [*kinds[1:], "end"], strict=True):
        if part["type"] == "image":
            out += PLACE + (" " if after == "image" else "\n")
        else:
            out += part["text"]
    return out
