"""transformers' own Llava classes with random weights, plain or with face mode, and batches for their steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from bench_model import set_trainable, training_step
from cases import SEED, Size, Variant
from facial_weights import random_farl
from flops import face_config
from measuring import Step
from torch import Tensor, nn

from llava_face_plugin.config import KEY
from llava_face_plugin.labels import NUM_PARTS
from llava_face_plugin.planning.shapes import Shapes
from llava_face_plugin.planning.tokens import Visual, of_image

_QWEN = ("llava_onevision",)


def small_shapes(family: str, size: Size) -> Shapes:
    """A family at the sizes of ``size``: OneVision with Qwen2 and SigLIP, the others with Llama and CLIP.

    Anyres canvases of one by two tiles and the like.
    """
    text = {
        "model_type": "qwen2" if family in _QWEN else "llama", "hidden_size": size.hidden,
        "intermediate_size": size.intermediate, "num_hidden_layers": size.layers, "num_attention_heads": size.heads,
        "num_key_value_heads": size.heads, "vocab_size": size.vocabulary,
    }  # fmt: skip
    vision = {
        "model_type": "siglip_vision_model" if family in _QWEN else "clip_vision_model",
        "hidden_size": size.vision_hidden, "intermediate_size": size.vision_intermediate,
        "num_hidden_layers": size.vision_layers, "num_attention_heads": size.vision_heads,
        "image_size": size.image_size, "patch_size": size.patch_size,
    }  # fmt: skip
    if family in _QWEN:
        vision["vision_use_head"] = False
    side = size.image_size
    pinpoints = () if family == "llava" else ((side, 2 * side), (2 * side, side), (2 * side, 2 * side))
    most = 9 if family == "llava_onevision" else None
    host = f"hf-{family.replace('_', '-')}"
    return Shapes(f"small {family}", family, host, text, vision, "cases.py", pinpoints=pinpoints, most_tiles=most)


@dataclass
class HfBench:
    """One family: how its models are built and what a batch holds. ``image``: (width, height) of its photographs."""

    shapes: Shapes
    size: Size
    device: str
    train: str
    image: tuple[int, int]

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.device == "cpu" else torch.bfloat16

    @property
    def visual(self) -> Visual:
        return of_image(self.shapes, *self.image)

    def load(self, variant: Variant) -> Any:
        """The model in training mode, with the wanted parameters trainable."""
        cls, config = self._class_and_config(variant)
        torch.manual_seed(SEED)
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            with torch.device(self.device):
                model = cls._from_config(config, attn_implementation="sdpa")
        finally:
            torch.set_default_dtype(before)
        inner: Any = model.model
        set_trainable(model, inner.vision_tower, inner.multi_modal_projector, inner.language_model.layers, self.train)
        return model.train()

    def _class_and_config(self, variant: Variant) -> tuple[Any, Any]:
        import transformers

        from llava_face_plugin.hosts import hf

        plain = transformers.CONFIG_MAPPING[self.shapes.family]
        settings = _settings(self.shapes)
        model_class = plain.__name__.removesuffix("Config") + "ForConditionalGeneration"
        if not variant.face:
            return getattr(transformers, model_class), plain(**settings)
        block = face_config(variant, self.size, random_farl(self.size)).to_dict()
        return getattr(hf, f"Face{model_class}"), getattr(hf, f"Face{plain.__name__}")(**settings, **{KEY: block})

    def batch(self, variant: Variant) -> dict[str, Any]:
        """Random pixels, a label map of blocks, random text; half of the text is the answer."""
        size, visual, generator = self.size, self.visual, torch.Generator().manual_seed(SEED)
        token = _settings(self.shapes)["image_token_index"]
        text = torch.randint(3, 700, (size.batch, size.text), generator=generator)
        ids = torch.cat([text[:, :1], torch.full((size.batch, visual.tokens), token), text[:, 1:]], dim=1)
        answer = torch.arange(ids.shape[1]) > visual.tokens + size.text // 2
        side = int(self.shapes.vision["image_size"])
        images = torch.randn(size.batch, visual.tiles, 3, side, side, generator=generator)
        if variant.face:
            blocks = torch.randint(0, NUM_PARTS, (size.batch * visual.tiles, 1, 7, 7), generator=generator).float()
            maps = nn.functional.interpolate(blocks, size=(side, side), mode="nearest")
            images = torch.cat([images, maps.unflatten(0, (size.batch, visual.tiles))], dim=2)
        if self.shapes.family == "llava":
            images = images[:, 0]
        made: dict[str, Tensor] = {
            "input_ids": ids, "labels": torch.where(answer, ids, -100), "attention_mask": torch.ones_like(ids),
            "pixel_values": images.to(self.dtype),
        }  # fmt: skip
        if self.shapes.family != "llava":
            made["image_sizes"] = torch.tensor([[self.image[1], self.image[0]]] * size.batch)
        if variant.attributes:
            attributes = torch.randint(0, 2, (size.batch, variant.attributes), generator=generator)
            made["face_attributes"] = attributes.to(torch.int8)
        return {**{name: value.to(self.device) for name, value in made.items()}, "use_cache": False}

    def stepper(self, variant: Variant) -> Step:
        """A function that runs one training step and returns its wall and CPU seconds."""
        return training_step(self.load(variant), self.batch(variant), self.device)


def _settings(shapes: Shapes) -> dict[str, Any]:
    """What the family's configuration is made from. The image's token is the vocabulary's last."""
    from transformers import CONFIG_MAPPING

    def part(keys: Mapping[str, Any]) -> Any:
        rest = dict(keys)
        return CONFIG_MAPPING[rest.pop("model_type")](**rest)

    last = int(shapes.text["vocab_size"]) - 1
    settings: dict[str, Any] = {
        "text_config": part(shapes.text), "vision_config": part(shapes.vision), "image_token_index": last,
        "image_seq_length": shapes.patches,
    }  # fmt: skip
    if shapes.pinpoints:
        settings["image_grid_pinpoints"] = [list(canvas) for canvas in shapes.pinpoints]
    if shapes.family in ("llava_onevision", "llava_next_video"):
        settings["video_token_index"] = last - 1
    return settings
