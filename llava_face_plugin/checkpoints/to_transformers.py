"""From LLaVA's own packages to transformers' Llava classes."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import guard
from ..model_files import write_config
from . import chat
from .folder import ModelFolder
from .language import kind_of_llava, text_config
from .plan import Plan, check_face, model_pieces, padded, refuse, tower_pieces, turned
from .tokenizer import new_tokens, read_tokenizer, write_with
from .tower import CLIP, Tower, tower_of_llava

CLASSES = {"llava": "Llava", "llava_next": "LlavaNext", "llava_onevision": "LlavaOnevision"}


def to_transformers(folder: ModelFolder, vision_tower: str | None) -> Plan:
    """Raises ``FaceConfigError`` naming what transformers' classes have no form of."""
    config, where = folder.config, folder.path
    _check(config, where)
    family = _family(config, where)
    kind = kind_of_llava(config, where)
    tower = tower_of_llava(folder, vision_tower)
    check_face(folder, family != "llava", tower)
    tokenizer = read_tokenizer(where)
    wanted = ("<image>", "<video>", "<pad>") if family == "llava_onevision" else ("<image>", "<pad>")
    added = new_tokens(tokenizer, wanted)
    ids = {**tokenizer.get_vocab(), **added}
    text = text_config(config, kind)
    tied = bool(config.get("tie_word_embeddings", False))
    rows = _rows(folder, ids)
    text |= {"vocab_size": rows, "tie_word_embeddings": tied}
    written = _config(config, family, tower, text, ids)
    pieces = model_pieces(folder, "transformers", rows, newline=family != "llava", tied=tied)
    pieces += tower_pieces(tower, "vision_tower.vision_model.")

    def write_files(target: Path) -> None:
        write_with(where, target, added, chat.VICUNA if kind == "llama" else chat.CHATML)
        _write_processor(target, config, family, tower)
        if (where / "generation_config.json").exists():
            shutil.copyfile(where / "generation_config.json", target / "generation_config.json")

    notes = [f"{len(added)} tokens were added to the vocabulary: {', '.join(added)}"] if added else []
    if config.get("mm_newline_position", "one_token") != "one_token":
        notes.append("mm_newline_position is not one_token: videos (not images) are laid out otherwise there")
    return Plan(family, written, pieces, write_files, notes=notes)


def _check(config: Mapping[str, Any], where: Path) -> None:
    if config.get("mm_vision_tower") in (None, "", guard.TOWER_MARK):
        raise refuse(where, "it has no vision tower: a language model, not a LLaVA checkpoint")
    projector = guard.plain_projector(str(config.get("mm_projector_type") or "linear"))
    for key, wrong, why in (
        ("mm_use_im_start_end", bool(config.get("mm_use_im_start_end")), "tokens around an image"),
        ("mm_projector_type", projector != "mlp2x_gelu", f"only mlp2x_gelu, not {projector}"),
        ("mm_resampler_type", config.get("mm_resampler_type") not in (None, ""), "a resampler"),
        ("s2", bool(config.get("s2")), "several scales"),
        ("quantization_config", bool(config.get("quantization_config")), "weights of 4 or 8 bits"),
    ):
        if wrong:
            raise refuse(where, f"{key} ({why})")


def _family(config: Mapping[str, Any], where: Path) -> str:
    """Which of transformers' classes lays tokens out as this configuration does."""
    ratio, merge = str(config.get("image_aspect_ratio") or "square"), str(config.get("mm_patch_merge_type") or "flat")
    if "anyres" not in ratio and merge == "flat":
        return "llava"
    if merge == "spatial_unpad" and ratio == "anyres":
        return "llava_next"
    if merge == "spatial_unpad" and re.fullmatch(r"anyres_max_\d+", ratio):
        return "llava_onevision"
    raise refuse(where, f"image_aspect_ratio {ratio!r} with mm_patch_merge_type {merge!r}")


def _rows(folder: ModelFolder, ids: Mapping[str, int]) -> int:
    """Rows of the vocabulary: as many as there are, unless a token needs more."""
    found = [entry.shape[0] for name, entry in folder.weights.items() if name == "model.embed_tokens.weight"]
    if not found:
        raise refuse(folder.path, "its files hold no model.embed_tokens.weight")
    return found[0] if max(ids.values()) < found[0] else padded(max(ids.values()) + 1)


def _config(
    config: Mapping[str, Any], family: str, tower: Tower, text: dict[str, Any], ids: Mapping[str, int]
) -> dict[str, Any]:
    clip = tower.kind == CLIP
    strategy = _strategy(config, tower)
    out: dict[str, Any] = {
        "architectures": [f"{CLASSES[family]}ForConditionalGeneration"],
        "model_type": family,
        "image_token_index": ids["<image>"],
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": True,
        # LLaVA-NeXT reads the end of a SigLIP, whatever mm_vision_select_layer says.
        "vision_feature_layer": int(config.get("mm_vision_select_layer", -2)) if clip else -1,
        "vision_feature_select_strategy": strategy,
        "text_config": text,
        "vision_config": tower.config,
        "tie_word_embeddings": text["tie_word_embeddings"],
    }
    if config.get("torch_dtype") or config.get("dtype"):
        out["torch_dtype"] = config.get("torch_dtype") or config.get("dtype")
    if family == "llava":
        return out | {"image_seq_length": tower.grid**2 + (clip and strategy == "full")}
    out |= {"image_grid_pinpoints": turned(_pinpoints(config)), "use_image_newline_parameter": True}
    if family == "llava_onevision":
        out |= {"video_token_index": ids["<video>"], "vision_aspect_ratio": config["image_aspect_ratio"]}
    return out


def _strategy(config: Mapping[str, Any], tower: Tower) -> str:
    """transformers' word for LLaVA's: "default" leaves CLIP's class token out, of which a SigLIP has none."""
    patches = config.get("mm_vision_select_feature", "patch") == "patch"
    return "default" if tower.kind == CLIP and patches else "full"


def _pinpoints(config: Mapping[str, Any]) -> Any:
    points = config.get("image_grid_pinpoints") or []
    return ast.literal_eval(points) if isinstance(points, str) else points


def _write_processor(target: Path, config: Mapping[str, Any], family: str, tower: Tower) -> None:
    """``preprocessor_config.json`` and ``processor_config.json``, as llava-hf's checkpoints have them."""
    images = _images(config, family, tower)
    write_config(target, images, "preprocessor_config.json")
    strategy = _strategy(config, tower)
    processor: dict[str, Any] = {
        "processor_class": f"{CLASSES[family]}Processor",
        "image_token": "<image>",
        "vision_feature_select_strategy": strategy,
    }
    if family == "llava_onevision":
        aspect = {"video_token": "<video>", "vision_aspect_ratio": config["image_aspect_ratio"]}
        processor |= {"num_image_tokens": tower.grid**2 + (strategy == "default"), **aspect}  # with CLIP's class token
        dropped = ("image_grid_pinpoints", "do_pad", "image_processor_type")
        videos = {k: v for k, v in images.items() if k not in dropped}
        videos |= {"video_processor_type": "LlavaOnevisionVideoProcessor"}
        write_config(target, videos, "video_preprocessor_config.json")
    else:
        processor |= {"patch_size": tower.config.get("patch_size", 32)}
        processor |= {"num_additional_image_tokens": 1 if tower.kind == CLIP else 0}
    write_config(target, processor, "processor_config.json")


def _images(config: Mapping[str, Any], family: str, tower: Tower) -> dict[str, Any]:
    side = int(tower.config.get("image_size", 224))
    default = 0.5 if tower.kind != CLIP else None
    kept = tower.processor
    out: dict[str, Any] = {
        "image_processor_type": f"{CLASSES[family]}ImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "do_convert_rgb": True,
        "resample": kept.get("resample", 3),
        "image_mean": kept.get("image_mean", [default or v for v in (0.48145466, 0.4578275, 0.40821073)]),
        "image_std": kept.get("image_std", [default or v for v in (0.26862954, 0.26130258, 0.27577711)]),
    }
    if tower.kind == CLIP:
        square = {"do_center_crop": True, "crop_size": {"height": side, "width": side}}
        out |= {"size": {"shortest_edge": side}, **square}
    else:
        out |= {"size": {"height": side, "width": side}}
    if family == "llava":
        return out | {"do_pad": config.get("image_aspect_ratio") == "pad"}
    return out | {"do_pad": True, "image_grid_pinpoints": turned(_pinpoints(config))}
