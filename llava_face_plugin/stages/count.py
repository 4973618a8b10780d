"""How many parameters each part of a model directory has, from its ``config.json`` alone: nothing is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import guard
from ..branch import FaceBranch
from ..config import FaceConfig
from ..encoders.vit import VisionTransformer
from ..errors import FaceConfigError, FaceHostError
from ..model_files import read_config
from .parts import part_of

KNOWN_TOWERS: dict[str, dict[str, int]] = {
    "openai/clip-vit-large-patch14-336": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "image_size": 336, "patch_size": 14,
    },
}  # fmt: skip
"""Shapes of towers that need not be at hand: LLaVA 1.5's."""


_LANGUAGE_MODELS = {"qwen3": "Qwen3", "qwen": "Qwen2", "mistral": "Mistral", "llama": "Llama", "llava": "Llama"}
"""What is in ``model_type`` -> transformers' classes; the first that fits (``llava_qwen`` is a Qwen)."""


@dataclass
class Counts:
    """Parameters by part. ``outside``: frozen weights that are read from a path of their own, and are in no tree."""

    parts: dict[str, int] = field(default_factory=dict)
    outside: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    facial_trained: bool = False
    family: str = "llava"
    """Which host's layout the directory has: ``llava`` (LLaVA's own, also LLaVA-NeXT's) or ``transformers``."""

    def add(self, names_and_numbers: Iterator[tuple[str, int]]) -> None:
        """Counts parameters into the parts that their names say."""
        for name, n in names_and_numbers:
            part = part_of(name)
            self.parts[part] = self.parts.get(part, 0) + n


def count(model_dir: str | Path, vision_tower: str | None = None) -> Counts:
    """The parameters of a model directory with face mode on.

    ``vision_tower``: a folder or a name of ``KNOWN_TOWERS``, for a directory that does not name its own (an LLM that
    LLaVA's training starts from). Raises ``FaceConfigError`` for a directory without face mode, or of an unknown kind.
    """
    model_dir = Path(model_dir)
    config = read_config(model_dir)
    face = FaceConfig.of(config, f"{model_dir}/config.json")
    if face is None:
        raise FaceConfigError(f"{model_dir}: face mode is off; `llava-face enable {model_dir}` switches it on")
    found = Counts()
    with torch.device("meta"):
        if guard.transformers_family(config):
            found.family = "transformers"
            found.add(_numbers(_transformers(model_dir)))
        else:
            _count_llava(found, config, face, model_dir, vision_tower)
    _count_facial(found, face)
    return found


def _numbers(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, int]]:
    for name, parameter in model.named_parameters():
        yield prefix + name, parameter.numel()


def _transformers(model_dir: Path) -> nn.Module:
    import transformers

    from ..hosts import hf

    hf.register()
    config = transformers.AutoConfig.from_pretrained(str(model_dir))
    return transformers.AutoModelForImageTextToText.from_config(config)


def _count_llava(found: Counts, config: dict[str, Any], face: FaceConfig, model_dir: Path, tower: str | None) -> None:
    """LLaVA's own layout: a language model, ``mm_projector`` and the face branch under it, a tower."""
    found.add(_numbers(_language_model(config, model_dir), "model."))
    if "unpad" in str(config.get("mm_patch_merge_type")):  # the embedding that ends a row of tiles
        found.add(iter([("model.image_newline", int(config["hidden_size"]))]))
    own = config.get("mm_vision_tower")
    name = tower or (own if isinstance(own, str) and own != guard.TOWER_MARK else None) or next(iter(KNOWN_TOWERS))
    built = _tower(name, model_dir)
    width = config.get("mm_hidden_size") or face.segmentation.vision_width
    if built is None:
        found.notes.append(f"tower {name}: its config.json is not here, so its parameters are not counted")
    else:
        found.add(_numbers(built, "model.vision_tower."))
        width = built.config.hidden_size
        if tower is None and own in (None, guard.TOWER_MARK):
            found.notes.append(f"the tower is LLaVA 1.5's, {name}: --vision-tower names another")
    if not width:
        raise FaceConfigError(f"{model_dir}: the tower's width is not known; name the tower with --vision-tower")
    hidden = int(config["hidden_size"])
    kind = guard.plain_projector(str(config.get("mm_projector_type") or "mlp2x_gelu"))
    depth = re.fullmatch(r"mlp(\d+)x_gelu", kind)
    if depth is None:
        raise FaceConfigError(f"{model_dir}: face mode needs an MLP projector, not {kind!r}")
    layers = [nn.Linear(int(width), hidden), *(nn.Linear(hidden, hidden) for _ in range(1, int(depth[1])))]
    found.add(_numbers(nn.Sequential(*layers), "model.mm_projector."))
    found.add(_numbers(FaceBranch(face, int(width), hidden), "model.mm_projector.face."))


def _language_model(config: dict[str, Any], model_dir: Path) -> nn.Module:
    """The language model that a config of LLaVA's own classes extends."""
    import transformers

    kind = str(config.get("model_type", ""))
    name = next((name for mark, name in _LANGUAGE_MODELS.items() if mark in kind), None)
    if name is None:
        raise FaceConfigError(f"{model_dir}: model_type {kind!r} is none that is counted (llama, mistral, qwen)")
    plain = {k: v for k, v in config.items() if k not in ("model_type", "architectures", "face", "quantization_config")}
    return getattr(transformers, f"{name}ForCausalLM")(getattr(transformers, f"{name}Config")(**plain))


def _tower(name: str, model_dir: Path) -> Any:
    """A CLIP or SigLIP vision tower of that name or folder; None if its shape is not known here."""
    import transformers

    folder = next((f for f in (Path(name), model_dir / name) if (f / "config.json").is_file()), None)
    if folder is None:
        known = KNOWN_TOWERS.get(name)
        return None if known is None else transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**known))
    shape = read_config(folder)
    shape = shape.get("vision_config", shape)
    kind = str(shape.get("model_type", "clip_vision_model"))
    prefix = "Siglip" if "siglip" in kind else "CLIP"
    plain = {key: value for key, value in shape.items() if key not in ("model_type", "architectures")}
    built = getattr(transformers, f"{prefix}VisionModel")(getattr(transformers, f"{prefix}VisionConfig")(**plain))
    if prefix == "Siglip":  # LLaVA-NeXT, the only one of the two that has it, drops the last layer and the head
        del built.vision_model.encoder.layers[-1:]
        built.vision_model.head = nn.Identity()
    return built


def _count_facial(found: Counts, face: FaceConfig) -> None:
    if face.facial is None:
        return
    found.facial_trained = face.facial.trained
    if face.facial.trained:
        if not found.parts.get("facial"):
            raise FaceHostError("face.facial.trained is true, but the branch has no facial encoder to train")
        return
    with torch.device("meta"):
        vit = VisionTransformer(face.facial.vit, face.facial.grid, face.facial.taps[-1] + 1)
    found.outside["facial"] = sum(parameter.numel() for parameter in vit.parameters())
