"""Shapes of a model directory, from its ``config.json``: transformers' layout, or that of LLaVA's packages."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import guard
from ..config import FaceConfig
from ..errors import FaceConfigError
from .catalogue import DEFAULT_TOWER, MODELS, TOWERS
from .shapes import HOSTS, Shapes

_TEXT_KEYS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "vocab_size", "max_position_embeddings", "tie_word_embeddings", "attention_bias", "sliding_window",
    "use_sliding_window", "max_window_layers", "hidden_act",
)  # fmt: skip
_LANGUAGE_MODELS = {
    "llava": "llama", "llava_llama": "llama", "llama": "llama", "llava_qwen": "qwen2", "qwen2": "qwen2",
    "llava_mistral": "mistral", "mistral": "mistral",
}  # fmt: skip
"""``model_type`` of LLaVA's packages -> that of the language model."""


def shapes_of(model: str, host: str | None = None, vision_tower: str | None = None) -> Shapes:
    """A name of the catalogue, or a model directory.

    Args:
        model: ``7b`` and the like, or a path.
        host: overrides what trains the model.
        vision_tower: LLaVA's packages: name or directory of the tower, where ``config.json`` does not say it.

    Raises ``FaceConfigError`` for names and files that say too little.
    """
    if host is not None and host not in HOSTS:
        raise FaceConfigError(f"--host {host}: expected one of {', '.join(HOSTS)}")
    if model in MODELS:
        shapes = MODELS[model]
    elif (Path(model) / "config.json").is_file():
        shapes = read_shapes(Path(model), vision_tower)
    else:
        raise FaceConfigError(f"{model}: neither a directory with a config.json nor one of {', '.join(MODELS)}")
    return replace(shapes, host=host) if host else shapes


def read_shapes(model_dir: Path, vision_tower: str | None = None) -> Shapes:
    """The shapes that ``model_dir/config.json`` holds. Raises ``FaceConfigError``, naming the file and the key."""
    path = model_dir / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FaceConfigError(f"{path}: {error}") from None
    face = FaceConfig.of(config, str(path))
    guard.take_off(config)
    if "text_config" in config or "vision_config" in config:
        return replace(_of_transformers(path, config), face=face)
    return replace(_of_package(path, config, vision_tower), face=face)


def _of_transformers(path: Path, config: dict[str, Any]) -> Shapes:
    family = str(config.get("model_type", "")).removeprefix(guard.TYPE_MARK)
    if family not in ("llava", "llava_next", "llava_next_video", "llava_onevision"):
        raise FaceConfigError(f"{path}: model_type {config.get('model_type')!r} is none that face mode knows")
    onevision = family == "llava_onevision"
    text = {"model_type": "qwen2" if onevision else "llama", **config.get("text_config", {})}
    vision = {"model_type": "siglip_vision_model" if onevision else "clip_vision_model", **config["vision_config"]}
    ours = MODELS["onevision-7b" if onevision else "next-7b"]
    pinpoints = config.get("image_grid_pinpoints") or ours.pinpoints if family != "llava" else ()
    most = _most_tiles(config.get("vision_aspect_ratio", "anyres_max_9")) if onevision else None
    return Shapes(
        str(path.parent), family, f"hf-{family.replace('_', '-')}", _complete(text), _complete(vision), str(path),
        pinpoints=tuple((int(high), int(wide)) for high, wide in pinpoints), most_tiles=most,
    )  # fmt: skip


def _complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """With the defaults of its transformers class: published files hold only what differs from them."""
    from transformers import CONFIG_MAPPING

    known = {key: value for key, value in config.items() if key not in ("torch_dtype", "dtype", "architectures")}
    kind = known.pop("model_type")
    return {**CONFIG_MAPPING[kind](**known).to_dict(), **known, "model_type": kind}


def _of_package(path: Path, config: dict[str, Any], vision_tower: str | None) -> Shapes:
    kind = _LANGUAGE_MODELS.get(str(config.get("model_type")))
    if kind is None:
        raise FaceConfigError(f"{path}: model_type {config.get('model_type')!r} is none that face mode knows")
    missing = [key for key in ("hidden_size", "num_hidden_layers", "vocab_size") if key not in config]
    if missing:
        raise FaceConfigError(f"{path}: {missing[0]} is missing")
    text = {"model_type": kind, **{key: config[key] for key in _TEXT_KEYS if config.get(key) is not None}}
    named = vision_tower or config.get("mm_vision_tower")
    vision = tower_of(named or DEFAULT_TOWER, path)
    source = str(path) if named else f"{path}, which names no vision tower: {DEFAULT_TOWER} is assumed"
    aspect = str(config.get("image_aspect_ratio", "pad"))
    pinpoints = _pinpoints(config.get("image_grid_pinpoints"), int(vision["image_size"])) if "anyres" in aspect else ()
    most = _most_tiles(aspect)
    family = ("llava_onevision" if most else "llava_next") if pinpoints else "llava"
    host = "llava-next" if kind == "qwen2" or most else "llava-v1"
    projector = str(config.get("mm_projector_type") or "mlp2x_gelu")
    return Shapes(str(path.parent), family, host, text, vision, source, projector, pinpoints, most)


def tower_of(name: str, path: Path) -> Mapping[str, Any]:
    """The vision configuration of a known tower, or of a directory (as named, or beside the model's config.json)."""
    if (known := TOWERS.get(name.rstrip("/").rpartition("/")[2])) is not None:
        return known
    for place in (Path(name), path.parent / name):
        if (place / "config.json").is_file():
            found = json.loads((place / "config.json").read_text(encoding="utf-8"))
            return _complete({"model_type": "clip_vision_model", **found.get("vision_config", found)})
    raise FaceConfigError(
        f"{path}: the shapes of vision tower {name!r} are not known: give --vision-tower DIR, or one of "
        f"{', '.join(TOWERS)}"
    )


def _most_tiles(aspect: str) -> int | None:
    found = re.search(r"anyres_max_(\d+)", aspect)
    return int(found[1]) if found else None


def _pinpoints(given: Any, side: int) -> tuple[tuple[int, int], ...]:
    """LLaVA's list of (width, height), or LLaVA-NeXT's ``"(1x1),...,(6x6)"`` in tiles -> (height, width) in pixels."""
    if isinstance(given, str):
        grids = [(int(a), int(b)) for a, b in re.findall(r"(\d+)\s*x\s*(\d+)", given)]
        if len(grids) != 2:
            given = json.loads(given)
        else:
            (top, left), (bottom, right) = grids
            return tuple((side * b, side * a) for a in range(top, bottom + 1) for b in range(left, right + 1))
    return tuple((int(high), int(wide)) for wide, high in given or ())
