"""The guard: what makes upstream refuse a face-mode directory when this plugin is not active.

Upstream ignores keys it does not know, so with the plugin absent (hook off, package missing, bare
environment) it would train a plain model and still save the flag. Two of upstream's own keys are therefore
given values that plain LLaVA rejects by name, with a message that says what to do; the plugin takes them off
again while loading.

Transformers' own Llava classes need less: a model type that only the plugin registers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PROJECTOR_MARK = "face+"
"""Starts the ``mm_projector_type`` of a face-mode LLaVA: upstream raises "Unknown projector type: ..."."""

TOWER_MARK = "(none): face mode is on but llava_face_plugin is not active in this process; run `llava-face doctor`"
"""``mm_vision_tower`` of a face-mode base LLM: upstream raises "Unknown vision tower: ..."."""


FAMILIES = ("llava", "llava_next", "llava_onevision", "llava_next_video")
"""Model types of transformers' own classes that face mode knows."""

TYPE_MARK, CLASS_MARK = "face_", "Face"
"""Start ``model_type``, and the names of classes, of these in face mode."""


def transformers_family(config: Mapping[str, Any]) -> str | None:
    """``"llava_next"`` and the like for a config of transformers' own classes, guarded or not; None for others."""
    plain = str(config.get("model_type", "")).removeprefix(TYPE_MARK)
    # LLaVA 1.5's own early checkpoints say "llava" too, but hold no text_config.
    return plain if plain in FAMILIES and isinstance(config.get("text_config"), Mapping) else None


def put_on(config: dict[str, Any]) -> None:
    """Marks a ``config.json`` dict in place. Harmless to repeat."""
    family = transformers_family(config)
    if family is not None:
        config["model_type"] = TYPE_MARK + family
        if config.get("architectures"):
            config["architectures"] = [CLASS_MARK + name.removeprefix(CLASS_MARK) for name in config["architectures"]]
        return
    if config.get("mm_vision_tower") in (None, TOWER_MARK):
        config["mm_vision_tower"] = TOWER_MARK
    else:
        # Upstream takes a checkpoint that names no projector for a linear one.
        projector = config.get("mm_projector_type") or "linear"
        config["mm_projector_type"] = PROJECTOR_MARK + plain_projector(projector)


def take_off(config: dict[str, Any]) -> None:
    """Removes the marks from a ``config.json`` dict in place."""
    family = transformers_family(config)
    if family is not None:
        config["model_type"] = family
        if config.get("architectures"):
            config["architectures"] = [name.removeprefix(CLASS_MARK) for name in config["architectures"]]
        return
    if config.get("mm_vision_tower") == TOWER_MARK:
        del config["mm_vision_tower"]
    if isinstance(config.get("mm_projector_type"), str):
        config["mm_projector_type"] = plain_projector(config["mm_projector_type"])


def is_on(config: dict[str, Any]) -> bool:
    """Whether plain upstream would refuse this configuration."""
    if transformers_family(config) is not None:
        return str(config["model_type"]).startswith(TYPE_MARK)
    return config.get("mm_vision_tower") == TOWER_MARK or str(config.get("mm_projector_type", "")).startswith(
        PROJECTOR_MARK
    )


def plain_projector(projector_type: str) -> str:
    """``"face+mlp2x_gelu"`` -> ``"mlp2x_gelu"``."""
    return projector_type.removeprefix(PROJECTOR_MARK)
