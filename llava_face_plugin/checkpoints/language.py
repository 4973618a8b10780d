"""The language model's part of a configuration: transformers has a block for it, LLaVA puts it at the top."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..errors import FaceConfigError

# LLaVA's architecture, its model type, and the language model's.
_KINDS = {"llama": ("LlavaLlamaForCausalLM", "llava_llama"), "qwen2": ("LlavaQwenForCausalLM", "llava_qwen")}
_BY_TYPE = {"llama": "llama", "llava_llama": "llama", "llava": "llama", "qwen2": "qwen2", "llava_qwen": "qwen2"}

_OF_LLAVA = {
    "_name_or_path", "architectures", "auto_map", "add_faster_video", "add_time_instruction", "delay_load", "face",
    "faster_token_stride", "force_sample", "freeze_mm_mlp_adapter", "freeze_mm_vision_resampler", "image_aspect_ratio",
    "image_crop_resolution", "image_grid_pinpoints", "image_split_resolution", "max_num_video_crops", "model_type",
    "pos_skipping_range", "pretrain_mm_mlp_adapter", "s2", "tokenizer_model_max_length", "tokenizer_padding_side",
    "transformers_version", "tune_mm_mlp_adapter", "tune_mm_vision_resampler", "unfreeze_mm_vision_tower",
    "use_mm_proj", "use_pos_skipping", "vision_tower_pretrained",
}  # fmt: skip


def kind_of_llava(config: dict[str, Any], where: Path) -> str:
    """``llama`` or ``qwen2``. Raises ``FaceConfigError`` for another language model.

    By the class first: published LLaVA-OneVision checkpoints on Qwen2 call their type "llava".
    """
    names = " ".join(config.get("architectures") or []).replace("Face", "")
    by_class = [kind for kind, (name, _) in _KINDS.items() if name == names or f"{kind}ForCausalLM" == names.lower()]
    kind = by_class[0] if by_class else None if names else _BY_TYPE.get(str(config.get("model_type")))
    if kind is None:
        raise FaceConfigError(f"{where}: its language model ({names or config.get('model_type')}) cannot go over")
    return kind


def kind_of_transformers(config: dict[str, Any], where: Path) -> str:
    """As ``kind_of_llava``, of a configuration with a ``text_config``."""
    kind = str(config["text_config"].get("model_type") or "llama")
    if kind not in _KINDS:
        raise FaceConfigError(
            f"{where}: its language model ({kind}) cannot go over: LLaVA's packages have no class for it"
        )
    return kind


def text_config(config: dict[str, Any], kind: str) -> dict[str, Any]:
    """The language model's keys of a LLaVA configuration."""
    kept = {k: v for k, v in config.items() if k not in _OF_LLAVA and not k.startswith("mm_")}
    if kind == "qwen2":
        kept["rope_scaling"] = None  # LLaVA-NeXT takes it off while it loads
    return portable({"model_type": kind, **kept})


def llava_classes(kind: str) -> dict[str, Any]:
    """``architectures`` and ``model_type`` of a LLaVA configuration."""
    name, model_type = _KINDS[kind]
    return {"architectures": [name], "model_type": model_type}


def portable(text: dict[str, Any]) -> dict[str, Any]:
    """With ``rope_theta``, as every transformers reads it, where 5.x has written ``rope_parameters``."""
    rope = text.get("rope_parameters")
    if not isinstance(rope, dict):
        return text
    kept = {k: v for k, v in text.items() if k != "rope_parameters"}
    if re.fullmatch("default|", str(rope.get("rope_type") or "")):
        return kept | {"rope_theta": rope.get("rope_theta", 10000.0), "rope_scaling": None}
    scaling = {k: v for k, v in rope.items() if k != "rope_theta"}
    return kept | {"rope_theta": rope.get("rope_theta", 10000.0), "rope_scaling": scaling}
