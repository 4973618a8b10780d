"""Tiny checkpoints of LLaVA's own package, and one batch as it and as transformers' classes take it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from llava_face_plugin.labels import NO_MAP
from llava_face_plugin.model_files import read_config, write_config
from llava_face_plugin.switch import enable

IMAGE = -200
"""LLaVA's own placeholder of an image."""


def randomise(model: Any, place: str, seed: int = 3) -> None:
    """Random values in every parameter with ``place`` in its name: as after some training."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if place in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=random))


def llava_v1(
    base: Path, out: Path, face: dict[str, Any] | None = None, dtype: torch.dtype = torch.float32, **settings: Any
) -> Path:
    """A checkpoint of llava 1.2.2 on ``build_tiny``'s base, projector and branch random; ``settings`` of its config."""
    pytest.importorskip("llava", reason="needs the host package: llava-torch==1.2.2.post1")
    from llava_face_plugin.hosts import loader
    from llava_face_plugin.hosts.compat.cpu import install_cpu_dry_run

    install_cpu_dry_run()
    loader.activate()
    from llava.model import LlavaLlamaForCausalLM

    shutil.copytree(base, out)
    vision = read_config(base / "clip")["vision_config"]
    own = {
        "architectures": ["LlavaLlamaForCausalLM"], "model_type": "llava_llama", "use_mm_proj": True,
        "mm_vision_tower": str(base / "clip"), "mm_hidden_size": vision["hidden_size"],
        "mm_projector_type": "mlp2x_gelu", "mm_vision_select_layer": -2, "mm_vision_select_feature": "patch",
        "image_aspect_ratio": "pad", "mm_use_im_start_end": False, "mm_use_im_patch_token": False,
        "tokenizer_padding_side": "right", "tokenizer_model_max_length": 2048,
    }  # fmt: skip
    write_config(out, read_config(base) | own | settings)
    if face is not None:
        enable(out, preset="light", **face)
    torch.manual_seed(0)
    model = LlavaLlamaForCausalLM.from_pretrained(str(out), torch_dtype=dtype)
    randomise(model, "mm_projector")
    randomise(model, "image_newline")
    model.save_pretrained(out)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(base / name, out / name)
    return out


def load_v1(path: Path, dtype: torch.dtype = torch.float32) -> Any:
    """As upstream loads it, its tower ready, all in one dtype."""
    from llava.model import LlavaLlamaForCausalLM

    model = LlavaLlamaForCausalLM.from_pretrained(str(path), torch_dtype=dtype)
    tower = model.get_vision_tower()
    if not tower.is_loaded:
        tower.load_model()
    tower.to(dtype)
    return model.eval()


def load_hf(path: Path, dtype: torch.dtype = torch.float32) -> Any:
    """By the Auto class."""
    from transformers import AutoModelForImageTextToText

    import llava_face_plugin.hosts.hf  # noqa: F401

    return AutoModelForImageTextToText.from_pretrained(path, torch_dtype=dtype).eval()


def question(tiles: tuple[int, ...] = (), side: int = 56, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (1, 10) with LLaVA's placeholder in the middle, and pixels (1, *tiles, 4, side, side) with a label map."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 300, (1, 10), generator=random)
    ids[0, 4] = IMAGE
    pixels = torch.randn(1, *tiles, 3, side, side, generator=random)
    maps = torch.randint(0, 19, (1, *tiles, 1, side, side), generator=random).float()
    maps[..., : side // 4, :] = NO_MAP
    return ids, torch.cat([pixels, maps], dim=-3)


def asked_v1(model: Any, ids: torch.Tensor, pixels: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    """(L, V) logits of LLaVA's own package, in float32."""
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=torch.ones_like(ids), images=pixels.to(model.dtype), **kwargs)
    return out.logits[0].float()


def asked_hf(model: Any, ids: torch.Tensor, pixels: torch.Tensor, tokens: int, **kwargs: Any) -> torch.Tensor:
    """(L, V) logits of transformers' classes, ``tokens`` placeholders for the image, in float32."""
    place = int((ids[0] == IMAGE).nonzero())
    image = torch.full((1, tokens), model.config.image_token_index, dtype=torch.long)
    long = torch.cat([ids[:, :place], image, ids[:, place + 1 :]], dim=1)
    with torch.no_grad():
        out = model(input_ids=long, attention_mask=torch.ones_like(long), pixel_values=pixels.to(model.dtype), **kwargs)
    return out.logits[0].float()
