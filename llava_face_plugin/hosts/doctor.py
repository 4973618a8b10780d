"""``doctor``: what is installed, how the plugin gets loaded, and whether a model directory is what it claims."""

from __future__ import annotations

import importlib.metadata as metadata
import json
import pickle
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open

from .. import guard, summary
from ..config import KEY, FaceConfig
from ..errors import FaceDataError, FaceError
from ..model_files import read_config
from ..switch import check_names

Level = Literal["ok", "warning", "problem"]

_PACKAGES = (
    "torch",
    "transformers",
    "llava-torch",
    "llava",
    "accelerate",
    "peft",
    "deepspeed",
    "numpy",
    "safetensors",
)

_UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError)


@dataclass
class Finding:
    """One checked fact."""

    level: Level
    what: str
    detail: str


@dataclass
class Report:
    """Everything the doctor found. ``healthy`` is False if any finding is a problem."""

    versions: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    face: dict[str, Any] | None = None

    def add(self, level: Level, what: str, detail: str) -> None:
        self.findings.append(Finding(level, what, detail))

    @property
    def healthy(self) -> bool:
        return all(finding.level != "problem" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        return {"healthy": self.healthy, **asdict(self)}


def examine(model_dir: Path | None = None, *, on: bool = False, trained: bool = False) -> Report:
    """Checks the environment and, if given, a model directory.

    Args:
        model_dir: a base with the flag (before training) or a checkpoint (after).
        on: also require that face mode is on in it (the check before a run).
        trained: also require that the directory holds trained face weights (the check after a run).
    """
    from . import doctor_llava  # which imports this module

    report = Report(versions=_versions())
    if model_dir is not None and is_transformers(model_dir):
        _check_transformers(report)
    else:
        doctor_llava.check_environment(report)
    if model_dir is not None:
        _check_model(report, model_dir, on, trained)
    return report


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("llava-face-plugin", *_PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def is_transformers(model_dir: Path) -> bool:
    """Whether the directory is one of transformers' own Llava classes, as llava-hf's are."""
    try:
        return guard.transformers_family(read_config(model_dir)) is not None
    except FaceError:  # said by the check of the model
        return False


def _check_transformers(report: Report) -> None:
    try:
        from .hf import versions

        report.add("ok", "host", f"transformers {versions.check()} (supported: {versions.wanted()})")
    except (FaceError, ImportError) as error:
        report.add("problem", "host", str(error))
        return
    report.add("ok", "loading", "by `import llava_face_plugin.hosts.hf`, before the Auto classes are asked")


def _check_model(report: Report, model_dir: Path, on: bool, trained: bool) -> None:
    try:
        config = read_config(model_dir)
        face = FaceConfig.of(config, str(model_dir / "config.json"))
        if face is not None:
            check_names(face)
    except FaceError as error:
        report.add("problem", "face block", str(error))
        return
    if face is None:
        _check_off(report, config, on, trained)
        return
    from .doctor_face import check_facial, check_fusion  # which import this module
    from .doctor_maps import check_maps_and_parser

    report.face = face.to_dict()
    report.add("ok", "face mode", f"on: preset {face.preset}, {summary.sources(face)}, {face.fusion.type}")
    family = guard.transformers_family(config)
    if guard.is_on(config):
        who = (
            f"transformers without the plugin does not know {config['model_type']!r}, and" if family else "plain LLaVA"
        )
        report.add("ok", "guard", f"{who} refuses this directory instead of training it without face mode")
    else:
        report.add(
            "problem",
            "guard",
            "missing: without the plugin LLaVA would train silently; `llava-face enable` it",
        )
    names = _check_weights(report, model_dir, config, trained)
    check_facial(report, face.facial, names)
    check_fusion(report, face)
    check_maps_and_parser(report, face.segmentation)
    if family is None:
        from . import doctor_llava

        doctor_llava.check_directory(report, model_dir)


def _check_off(report: Report, config: dict[str, Any], on: bool, trained: bool) -> None:
    why = "face.enabled is false" if config.get(KEY) else "no face block"
    report.add("problem" if on or trained else "ok", "face mode", f"off ({why})")
    if guard.is_on(config):
        report.add("problem", "guard", "left behind: plain LLaVA refuses this directory; run `llava-face disable`")


def _check_weights(report: Report, model_dir: Path, config: dict[str, Any], trained: bool) -> list[str]:
    """The names of the face weights that the directory holds."""
    try:
        names = face_weight_names(model_dir)
    except FaceDataError as error:
        report.add("problem", "face weights", str(error))
        return []
    architecture = (config.get("architectures") or ["?"])[0]
    has_tower = config.get("mm_vision_tower") not in (None, guard.TOWER_MARK)
    if names:
        report.add("ok", "face weights", f"{len(names)} tensors")
    elif trained or (has_tower and "Face" in architecture):
        report.add("problem", "face weights", "none found: this run trained without face mode")
    else:
        report.add("ok", "face weights", "none yet: training starts them fresh, gates closed")
    return names


def face_weight_names(model_dir: Path) -> list[str]:
    """Names of the face tensors that a directory holds, in any of upstream's file layouts.

    Raises ``FaceDataError`` naming a weight file that cannot be read.
    """
    names: set[str] = set()
    for file in sorted(model_dir.iterdir()):
        try:
            names.update(_tensor_names(file))
        except (
            OSError,
            ValueError,
            KeyError,
            RuntimeError,
            EOFError,
            SafetensorError,
            pickle.UnpicklingError,
        ) as error:
            raise FaceDataError(f"{file}: cannot be read: {error}") from error
    return sorted(n for n in names if "mm_projector.face." in n or "multi_modal_projector.face." in n)


def _tensor_names(file: Path) -> Iterable[str]:
    if file.name.endswith(".index.json"):
        return json.loads(file.read_text())["weight_map"]
    if file.suffix == ".safetensors":
        with safe_open(str(file), framework="pt") as stream:
            return list(stream.keys())
    if file.name in ("mm_projector.bin", "non_lora_trainables.bin", "pytorch_model.bin"):
        return torch.load(file, map_location="cpu", weights_only=True)
    return ()
