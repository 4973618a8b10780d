"""Models of the benchmark, built through the real seam, and their training steps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from cases import SEED, Size, Variant
from facial_weights import random_farl
from flops import vision_config
from torch import Tensor, nn

from llava_face_plugin.config import FaceConfig, merged
from llava_face_plugin.labels import NUM_PARTS


@dataclass
class Bench:
    """Where the model directories lie, and how the models are run."""

    size: Size
    device: str
    train: str
    work: Path
    checkpointing: bool = False

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.device == "cpu" else torch.bfloat16

    def write_base(self) -> None:
        """The plain model's directory: tokenizer, configuration, tower; weights only where ``from_files``."""
        from llava_face_plugin.tiny import build_tiny

        size, base = self.size, self.work / "base"
        if size.from_files:
            build_tiny(
                base, hidden=size.hidden, layers=size.layers, image_size=size.image_size,
                patch_size=size.patch_size, vision_hidden=size.vision_hidden,
                vision_layers=size.vision_layers, seed=SEED,
            )  # fmt: skip
            return
        build_tiny(base, seed=SEED)
        _edit_json(base / "config.json", {
            "hidden_size": size.hidden, "intermediate_size": size.intermediate, "vocab_size": size.vocabulary,
            "num_attention_heads": size.heads, "num_key_value_heads": size.heads,
            "num_hidden_layers": size.layers,
        })  # fmt: skip
        from transformers import CLIPVisionModel

        CLIPVisionModel(vision_config(size)).half().save_pretrained(base / "clip")
        shapes = {"crop_size": size.image_size, "size": size.image_size}
        _edit_json(base / "clip" / "preprocessor_config.json", shapes)

    def directory(self, variant: Variant) -> Path:
        """The variant's model directory, made by ``switch.enable`` when first asked for."""
        from llava_face_plugin.switch import enable

        if variant.settings is None:
            return self.work / "base"
        out = self.work / variant.slug
        if not out.exists():
            settings = variant.at(self.size)
            if variant.facial:
                settings = merged(settings, {"facial": {"path": random_farl(self.size)}})
            if variant.own_tower:
                settings = merged(settings, {"segmentation": {"vision_tower": str(self.work / "base" / "clip")}})
            enable(self.work / "base", settings=settings, knowledge="made" if variant.attributes else None, out=out)
        return out

    def load(self, variant: Variant) -> Any:
        """The model as train.py builds it, in training mode, with the wanted parameters trainable."""
        import llava.model  # noqa: F401  the plugin's hook wakes up here
        from llava.model.language_model.llava_llama import LlavaLlamaForCausalLM

        torch.manual_seed(SEED)
        directory = self.directory(variant)
        if self.size.from_files:
            model = LlavaLlamaForCausalLM.from_pretrained(str(directory), torch_dtype=self.dtype)
        else:
            model = _random_model(directory, self.device, self.dtype)
        model.config.use_cache = False
        model.get_model().initialize_vision_modules(
            SimpleNamespace(
                vision_tower=str(self.work / "base" / "clip"), mm_vision_select_layer=-2,
                mm_vision_select_feature="patch", pretrain_mm_mlp_adapter=None, mm_patch_merge_type="flat",
                mm_projector_type="mlp2x_gelu",
            )
        )  # fmt: skip
        model.to(device=self.device, dtype=self.dtype).train()
        _check_class(model, variant)
        inner = model.get_model()
        set_trainable(model, model.get_vision_tower(), inner.mm_projector, inner.layers, self.train)
        if self.checkpointing:  # as Trainer does for LLaVA's scripts
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
            model.enable_input_require_grads()
        return model

    def batch(self, variant: Variant) -> dict[str, Tensor]:
        """Random pixels, a label map of blocks, random text; half of the text is the answer."""
        size, generator = self.size, torch.Generator().manual_seed(SEED)
        ids = torch.randint(3, 700, (size.batch, size.text + 1), generator=generator)
        ids[:, 1] = -200  # LLaVA's IMAGE_TOKEN_INDEX
        labels = torch.where(torch.arange(size.text + 1) > size.text // 2, ids, -100)
        images = torch.randn(size.batch, 3, size.image_size, size.image_size, generator=generator)
        blocks = torch.randint(0, NUM_PARTS, (size.batch, 1, 7, 7), generator=generator).float()
        made = {"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids, dtype=torch.bool)}
        if variant.face:
            label_map = nn.functional.interpolate(blocks, size=images.shape[-2:], mode="nearest")
            images = torch.cat([images, label_map], dim=1)
        if variant.attributes:
            attributes = torch.randint(0, 2, (size.batch, variant.attributes), generator=generator)
            made["face_attributes"] = attributes.to(torch.int8)
        made["images"] = images.to(self.dtype)
        return {name: value.to(self.device) for name, value in made.items()}

    def stepper(self, variant: Variant) -> Callable[[], tuple[float, float]]:
        """A function that runs one training step and returns its wall and CPU seconds."""
        return training_step(self.load(variant), self.batch(variant), self.device)


def training_step(model: nn.Module, batch: dict[str, Tensor], device: str) -> Callable[[], tuple[float, float]]:
    """Forward, backward and AdamW (fused) on one batch, again and again."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)

    def step() -> tuple[float, float]:
        _wait(device)
        wall, cpu = time.perf_counter(), time.process_time()
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _wait(device)
        return time.perf_counter() - wall, time.process_time() - cpu

    return step


def _edit_json(path: Path, changes: dict[str, Any]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}, indent=2))


def _random_model(directory: Path, device: str, dtype: torch.dtype) -> nn.Module:
    """What ``from_pretrained`` would build from the configuration, with random weights on the device."""
    from llava.model.language_model.llava_llama import LlavaConfig, LlavaLlamaForCausalLM

    from llava_face_plugin import guard
    from llava_face_plugin.hosts import llava_v1

    config = LlavaConfig.from_pretrained(str(directory))
    if getattr(config, "mm_vision_tower", None) == guard.TOWER_MARK:
        del config.mm_vision_tower
    llava_v1.activate()
    cls = LlavaLlamaForCausalLM if FaceConfig.of(config) is None else llava_v1.face_class()
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return cls(config)
    finally:
        torch.set_default_dtype(before)


def _check_class(model: nn.Module, variant: Variant) -> None:
    if getattr(model, "is_face_model", False) != variant.face:
        raise SystemExit(f"{variant.label}: LLaVA built {type(model).__name__}; is the plugin's hook active?")


class LowRank(nn.Module):
    """A frozen linear layer with a trained update of rank 128, as LoRA (LLaVA's lora_r)."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.plain = plain
        like: dict[str, Any] = {"bias": False, "device": plain.weight.device, "dtype": plain.weight.dtype}
        self.down = nn.Linear(plain.in_features, 128, **like)
        self.up = nn.Linear(128, plain.out_features, **like)

    def forward(self, x: Tensor) -> Tensor:
        return self.plain(x) + self.up(self.down(x))


def set_trainable(model: nn.Module, tower: nn.Module, projector: nn.Module, layers: nn.ModuleList, train: str) -> None:
    """``full``: stage 2. ``projector``: stage 1, the LLM frozen. ``lora``: that and low-rank updates."""
    model.requires_grad_(train == "full")
    tower.requires_grad_(False)
    projector.requires_grad_(True)
    if train == "lora":
        for layer in layers:
            for block in (layer.self_attn, layer.mlp):
                for name, child in list(block.named_children()):
                    if isinstance(child, nn.Linear):
                        setattr(block, name, LowRank(child))


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
