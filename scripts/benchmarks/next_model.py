"""LLaVA-NeXT's own package (Qwen2, CLIP, anyres) through the real seam: models from files, and batches for their steps.

For an environment whose ``llava`` is a checkout of LLaVA-NeXT: see scripts/hosts/llava_next.sh.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from bench_model import Bench, set_trainable, training_step
from cases import SEED, Size, Variant
from facial_weights import random_farl
from flops import face_config
from hf_model import small_shapes
from measuring import Step
from torch import Tensor, nn

from llava_face_plugin import guard
from llava_face_plugin.config import KEY
from llava_face_plugin.labels import NUM_PARTS
from llava_face_plugin.model_files import read_config, write_config
from llava_face_plugin.planning.tokens import Visual, of_image


@dataclass
class NextBench:
    """``image``: (width, height) of the photographs."""

    size: Size
    device: str
    train: str
    work: Path
    image: tuple[int, int]

    @property
    def visual(self) -> Visual:
        return of_image(small_shapes("llava_next", self.size), *self.image)

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.device == "cpu" else torch.bfloat16

    def write_base(self) -> None:
        """A Qwen2 with random weights; the tower beside it."""
        from transformers import Qwen2Config, Qwen2ForCausalLM

        size = self.size
        Bench(size, self.device, self.train, self.work).write_base()
        torch.manual_seed(SEED)
        config = Qwen2Config(
            hidden_size=size.hidden, intermediate_size=size.intermediate, num_hidden_layers=size.layers,
            num_attention_heads=size.heads, num_key_value_heads=size.heads, vocab_size=size.vocabulary,
            tie_word_embeddings=False,
        )  # fmt: skip
        Qwen2ForCausalLM(config).save_pretrained(self.work / "qwen")

    def directory(self, variant: Variant) -> Path:
        """The variant's model directory: the base's weights, and its own config.json."""
        base, out = self.work / "qwen", self.work / f"qwen-{variant.slug}"
        if not variant.face:
            return base
        if not out.exists():
            out.mkdir()
            for path in base.iterdir():
                (out / path.name).symlink_to(path)
            config = {**read_config(base), KEY: face_config(variant, self.size, random_farl(self.size)).to_dict()}
            guard.put_on(config)
            (out / "config.json").unlink()
            write_config(out, config)
        return out

    def load(self, variant: Variant) -> Any:
        """The model as train.py builds it, in training mode, with the wanted parameters trainable."""
        from llava.model import LlavaQwenForCausalLM

        torch.manual_seed(SEED)
        model = LlavaQwenForCausalLM.from_pretrained(
            str(self.directory(variant)), attn_implementation="sdpa", torch_dtype=self.dtype
        )
        inner = model.get_model()
        model.config.use_cache = False
        inner.initialize_vision_modules(
            SimpleNamespace(
                vision_tower=str(self.work / "base" / "clip"), mm_vision_select_layer=-2, add_faster_video=False,
                mm_vision_select_feature="patch", pretrain_mm_mlp_adapter=None, mm_patch_merge_type="spatial_unpad",
                mm_projector_type="mlp2x_gelu", unfreeze_mm_vision_tower=True,
            )
        )  # fmt: skip
        model.config.image_aspect_ratio = "anyres"
        pinpoints = small_shapes("llava_next", self.size).pinpoints
        model.config.image_grid_pinpoints = [[wide, high] for high, wide in pinpoints]
        model.to(device=self.device, dtype=self.dtype).train()
        if getattr(model, "is_face_model", False) != variant.face:
            raise SystemExit(f"{variant.label}: LLaVA-NeXT built {type(model).__name__}; is the plugin's hook active?")
        set_trainable(model, model.get_vision_tower(), inner.mm_projector, inner.layers, self.train)
        return model

    def batch(self, variant: Variant) -> dict[str, Any]:
        """Random pixels, a label map of blocks, random text; half of the text is the answer."""
        size, generator = self.size, torch.Generator().manual_seed(SEED)
        ids = torch.randint(3, 700, (size.batch, size.text + 1), generator=generator)
        ids[:, 1] = -200  # IMAGE_TOKEN_INDEX
        labels = torch.where(torch.arange(size.text + 1) > size.text // 2, ids, -100)
        tiles, side = self.visual.tiles, size.image_size
        images = [torch.randn(tiles, 3, side, side, generator=generator) for _ in range(size.batch)]
        if variant.face:
            images = [torch.cat([tile, _blocks(tiles, side, generator)], dim=1) for tile in images]
        made: dict[str, Any] = {
            "input_ids": ids.to(self.device), "labels": labels.to(self.device),
            "attention_mask": torch.ones_like(ids, dtype=torch.bool).to(self.device),
            "images": [image.to(self.device, self.dtype) for image in images],
            "image_sizes": [self.image] * size.batch, "modalities": ["image"] * size.batch,
        }  # fmt: skip
        if variant.attributes:
            attributes = torch.randint(0, 2, (size.batch, variant.attributes), generator=generator)
            made["face_attributes"] = attributes.to(self.device, torch.int8)
        return made

    def stepper(self, variant: Variant) -> Step:
        """A function that runs one training step and returns its wall and CPU seconds."""
        return training_step(self.load(variant), self.batch(variant), self.device)


def _blocks(tiles: int, side: int, generator: torch.Generator) -> Tensor:
    blocks = torch.randint(0, NUM_PARTS, (tiles, 1, 7, 7), generator=generator).float()
    return nn.functional.interpolate(blocks, size=(side, side), mode="nearest")
