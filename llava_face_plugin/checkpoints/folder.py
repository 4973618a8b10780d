"""A model directory of any host, as far as its projector goes: which host, which block, which names and widths."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .. import guard
from ..config import FaceConfig
from ..errors import FaceConfigError, FaceDataError
from ..model_files import read_config
from .weights import Weights, parts, whole_model

Host = Literal["llava", "transformers"]

FACE = "face."
_PROJECTOR = re.compile(r"(?:.*\.)?(mm_projector|multi_modal_projector)\.(.+)")
_LAYER = re.compile(r"(\d+)\.(.+)")


def canonical(name: str) -> str | None:
    """``model.mm_projector.2.bias`` -> ``linear_2.bias``, ``...multi_modal_projector.face.x`` -> ``face.x``; else None.

    The layers have transformers' names, the branch its own: the same for every host.
    """
    found = _PROJECTOR.fullmatch(name)
    if found is None:
        return None
    place, rest = found.groups()
    layer = _LAYER.fullmatch(rest)
    if place == "mm_projector" and layer is not None:  # an activation stands between any two layers
        return f"linear_{int(layer[1]) // 2 + 1}.{layer[2]}"
    return rest


def on_host(name: str, host: Host) -> str:
    """The inverse of ``canonical``, under the name that the host gives its projector: ``mm_projector.2.bias``."""
    if host == "transformers":
        return f"multi_modal_projector.{name}"
    layer = re.fullmatch(r"linear_(\d+)\.(.+)", name)
    return f"mm_projector.{2 * (int(layer[1]) - 1)}.{layer[2]}" if layer else f"mm_projector.{name}"


def projector_names(names: Iterable[str]) -> dict[str, str]:
    """Canonical name -> name in the files, of every tensor of the projector and the branch."""
    found = {canonical(name): name for name in names}
    return {short: name for short, name in found.items() if short is not None}


@dataclass(frozen=True)
class ModelFolder:
    """A directory with its configuration and weights. ``ModelFolder.open`` makes one.

    ``base`` is the directory that an adapter's own one builds on; None for a directory that stands alone.
    """

    path: Path
    config: dict[str, Any]
    weights: Weights
    whole: bool
    projector: dict[str, str]
    base: ModelFolder | None = None

    @classmethod
    def open(cls, path: Path, base: Path | None = None) -> ModelFolder:
        """Reads ``config.json`` and the names of all weights.

        Args:
            base: the model that an adapter directory belongs to. Without it, a PEFT adapter's own record is followed
                if that is a directory.

        Raises ``FaceConfigError`` for no model directory or a base that is not known, ``FaceDataError`` for files
        that cannot be read.
        """
        if not path.is_dir():
            raise FaceConfigError(f"{path}: no such directory")
        complete = whole_model(path)
        weights = complete if complete is not None else parts(path)
        if weights is None:
            raise FaceDataError(f"{path}: holds no weights that are known (model.safetensors, mm_projector.bin, ...)")
        below = cls.open(_base_of(path, base)) if _needs_base(path, base) else None
        own = (path / "config.json").exists() or below is None
        config = read_config(path) if own or below is None else below.config
        return cls(path, config, weights, complete is not None, projector_names(weights), below)

    @property
    def host(self) -> Host:
        """Whose classes load it."""
        return "transformers" if guard.transformers_family(self.config) else "llava"

    @property
    def face(self) -> FaceConfig | None:
        """Its ``face`` block, None where face mode is off. Raises ``FaceConfigError`` for a wrong one."""
        return FaceConfig.of(self.config, f"{self.path}/config.json")

    @property
    def branch(self) -> dict[str, str]:
        """Name in the branch (``fusion.gate``) -> name in the files."""
        return {short.removeprefix(FACE): n for short, n in self.projector.items() if short.startswith(FACE)}

    @property
    def layers(self) -> dict[str, str]:
        """Name in the host's own projector (``linear_1.weight``) -> name in the files."""
        return {short: name for short, name in self.projector.items() if not short.startswith(FACE)}

    def widths(self) -> tuple[int, int]:
        """(C, D): width of the vision features and of the LLM, by the projector's own shapes.

        Raises ``FaceConfigError`` for a projector that is no MLP, or none.
        """
        first = self.layers.get("linear_1.weight")
        if first is None:
            if self.base is not None:
                return self.base.widths()
            raise FaceConfigError(
                f"{self.path}: has no MLP projector such as LLaVA 1.5's; face mode hangs under one"
                + ("" if self.whole else " (name the model that this adapter belongs to as its base)")
            )
        last = max(name for name in self.layers if re.fullmatch(r"linear_\d+\.weight", name))
        return self.weights[first].shape[1], self.weights[self.layers[last]].shape[0]

    def vision(self) -> dict[str, Any]:
        """``model_type``, ``image_size`` and ``patch_size`` of the vision tower; empty where it is not at hand."""
        config = self.config.get("vision_config")
        if config is None:
            config = tower_config(str(self.config.get("mm_vision_tower") or ""))
        wanted = {key: (config or {}).get(key) for key in ("model_type", "image_size", "patch_size")}
        return {key: value for key, value in wanted.items() if value is not None}


def tower_config(tower: str) -> dict[str, Any] | None:
    """The ``vision_config`` of a CLIP or SigLIP directory; None for a name that is no directory here."""
    if not tower or not (Path(tower) / "config.json").exists():
        return None
    config = read_config(Path(tower))
    return dict(config.get("vision_config", config))


def _needs_base(path: Path, base: Path | None) -> bool:
    if base is not None:
        return True
    return (path / "adapter_config.json").exists() and not (path / "config.json").exists()


def _base_of(path: Path, base: Path | None) -> Path:
    if base is not None:
        return base
    recorded = str(read_config(path, "adapter_config.json").get("base_model_name_or_path") or "")
    if recorded and Path(recorded).is_dir():
        return Path(recorded)
    raise FaceConfigError(
        f"{path}: an adapter of {recorded or 'a model it does not name'}, which is no directory here: name its base"
    )
