"""The vision tower of a checkpoint: in its own files, or in a directory or hub name that its configuration gives."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import FaceConfigError
from ..model_files import read_config
from .folder import ModelFolder
from .names import Part, part_of, tower_part
from .weights import Weights, whole_model

CLIP, SIGLIP = "clip_vision_model", "siglip_vision_model"
_LAYER = re.compile(r"encoder\.layers\.(\d+)\..+")


@dataclass(frozen=True)
class Tower:
    """A vision tower as transformers' Llava classes have it.

    Args:
        config: its ``vision_config``.
        processor: its ``preprocessor_config.json``; empty where there is none.
        weights, held: where its tensors lie, and what each is there.
    """

    config: dict[str, Any]
    processor: dict[str, Any]
    weights: Weights
    held: dict[Part, str]

    @property
    def kind(self) -> str:
        """``clip_vision_model`` or ``siglip_vision_model``."""
        return str(self.config["model_type"])

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return int(self.config.get("image_size", 224)) // int(self.config.get("patch_size", 32))


def tower_of_llava(folder: ModelFolder, given: str | None = None) -> Tower:
    """The tower that LLaVA would run: trained weights from the checkpoint, others from where it names.

    ``given`` stands in for that name. Raises ``FaceConfigError`` for a tower that is not here, or of another kind.
    """
    name = given or str(folder.config.get("mm_vision_tower") or "")
    directory = _directory(name, folder.path)
    config = read_config(directory)
    vision = dict(config.get("vision_config", config))
    kind = str(vision.get("model_type") or config.get("model_type"))
    if kind not in (CLIP, SIGLIP):
        raise FaceConfigError(f"{folder.path}: its vision tower {name} is a {kind!r}; only CLIP and SigLIP can go over")
    vision["model_type"] = kind
    inside = _held(folder.weights, "llava")
    # As LLaVA's loaders: what a checkpoint says of a frozen tower is not read.
    if inside and _trained(folder.config):
        tower = Tower(vision, _processor(directory), folder.weights, inside)
    else:
        weights = whole_model(directory)
        if weights is None:
            raise FaceConfigError(f"{directory}: holds no weights of a vision tower")
        found = {part: n for n in weights if (part := tower_part(n)) is not None}
        tower = Tower(vision, _processor(directory), weights, found)
    return _without_last_layer(tower, cut=tower.weights is not folder.weights) if kind == SIGLIP else tower


def tower_of_transformers(folder: ModelFolder) -> Tower:
    """The tower in the files of transformers' own classes. Raises ``FaceConfigError`` for another kind."""
    vision = dict(folder.config.get("vision_config") or {})
    vision.setdefault("model_type", CLIP)  # what transformers takes where nothing is said
    if vision["model_type"] not in (CLIP, SIGLIP):
        raise FaceConfigError(
            f"{folder.path}: its vision tower is a {vision['model_type']!r}; only CLIP and SigLIP can go over"
        )
    return Tower(vision, _processor(folder.path), folder.weights, _held(folder.weights, "transformers"))


def _without_last_layer(tower: Tower, cut: bool) -> Tower:
    """LLaVA-NeXT takes the last layer and the head off its SigLIP, and reads what is then the end."""
    layers = {int(found[1]) for part in tower.held if (found := _LAYER.fullmatch(part.name))}
    count = max(layers) + (0 if cut else 1)
    kept = {
        part: name
        for part, name in tower.held.items()
        if not part.name.startswith("head.") and not part.name.startswith(f"encoder.layers.{count}.")
    }
    return replace(tower, held=kept, config=tower.config | {"num_hidden_layers": count, "vision_use_head": False})


def _held(weights: Weights, host: Any) -> dict[Part, str]:
    parts = {name: part_of(name, host) for name in weights}
    return {part: name for name, part in parts.items() if part is not None and part.kind == "tower"}


def _trained(config: dict[str, Any]) -> bool:
    return bool(config.get("unfreeze_mm_vision_tower")) or "mm_vision_tower" in str(
        config.get("mm_tunable_parts") or ""
    )


def _directory(name: str, wanted_by: Path) -> Path:
    """A directory for a name: itself, or the hub's local cache. Nothing is downloaded."""
    if name and Path(name).is_dir():
        return Path(name)
    if name and not name.startswith((".", "/")):
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(name, local_files_only=True))
        except (OSError, ValueError):
            pass
    raise FaceConfigError(
        f"{wanted_by}: its vision tower {name!r} is neither a directory here nor in the hub's cache: name a directory "
        "by --vision-tower"
    )


def _processor(directory: Path) -> dict[str, Any]:
    if (directory / "preprocessor_config.json").exists():
        return read_config(directory, "preprocessor_config.json")
    combined = read_config(directory, "processor_config.json") if (directory / "processor_config.json").exists() else {}
    return dict(combined.get("image_processor") or {})  # 5.x keeps it there
