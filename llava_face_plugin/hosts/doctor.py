"""``doctor``: what is installed, how the plugin gets loaded, and whether a model directory is what it claims."""

from __future__ import annotations

import importlib.metadata as metadata
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..config import KEY, FaceConfig
from ..errors import FaceError
from ..switch import check_names, read_config
from . import compat, guard
from .loader import CPU_SWITCH, SWITCH

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

# Run in a fresh interpreter, as torchrun or srun would start one: was the .pth hook processed there?
_PROBE = """
import json, sys
from llava_face_plugin.hosts import imports, loader
print(json.dumps({"way": loader.way(), "watching": imports.is_watching()}))
"""


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
    report = Report(versions=_versions())
    _check_host(report)
    _check_hook(report)
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


def _check_host(report: Report) -> None:
    if "transformers" not in report.versions:
        report.add("problem", "transformers", "not installed")
        return
    series = compat.transformers_series()
    known = ", ".join(f"{s}.x" for s in compat.SUPPORTED_SERIES)
    if compat.is_supported():
        report.add("ok", "transformers", f"{report.versions['transformers']} (supported: {known})")
    else:
        report.add("problem", "transformers", f"{series} is not supported; tried are {known}")
    _check_llava(report)


def _check_llava(report: Report) -> None:
    try:
        import llava  # noqa: F401

        from . import llava_v1

        strange = llava_v1.foreign_llava()
    except ImportError as error:
        report.add("problem", "llava", f"cannot be imported: {error}")
        return
    if strange:
        report.add("problem", "llava", f"only llava 1.2.2 is supported: {strange}")
    else:
        report.add("ok", "llava", report.versions.get("llava-torch") or report.versions.get("llava", "1.2.2 source"))
    if compat.applied():
        report.add("ok", "compatibility shims", ", ".join(compat.applied()))


def _check_hook(report: Report) -> None:
    if os.environ.get(SWITCH) == "0":
        report.add("problem", "loading", f"{SWITCH}=0 switches the import hook off")
        return
    result = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=120)
    lines = result.stdout.strip().splitlines()
    found = json.loads(lines[-1]) if result.returncode == 0 and lines else {}
    if found.get("watching"):
        report.add("ok", "loading", "the .pth import hook runs in every Python process of this environment")
    else:
        report.add(
            "warning",
            "loading",
            "the .pth import hook is not active in a fresh process: use `python -m llava_face_plugin.launch` or the "
            "patch, or reinstall the package",
        )
    if os.environ.get(CPU_SWITCH) == "1":
        report.add("warning", "cpu dry run", f"{CPU_SWITCH}=1: CUDA calls are answered on the CPU")


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
    report.face = face.to_dict()
    report.add("ok", "face mode", f"on: preset {face.preset}, {face.segmentation.encoder}, {face.fusion.type}")
    if guard.is_on(config):
        report.add("ok", "guard", "plain LLaVA refuses this directory instead of training it without face mode")
    else:
        report.add(
            "problem",
            "guard",
            "missing: without the plugin LLaVA would train silently; `llava-face enable` it",
        )
    _check_weights(report, model_dir, config, trained)
    _check_files(report, model_dir, face)


def _check_off(report: Report, config: dict[str, Any], on: bool, trained: bool) -> None:
    why = "face.enabled is false" if config.get(KEY) else "no face block"
    report.add("problem" if on or trained else "ok", "face mode", f"off ({why})")
    if guard.is_on(config):
        report.add("problem", "guard", "left behind: plain LLaVA refuses this directory; run `llava-face disable`")


def _check_weights(report: Report, model_dir: Path, config: dict[str, Any], trained: bool) -> None:
    names = face_weight_names(model_dir)
    architecture = (config.get("architectures") or ["?"])[0]
    has_tower = config.get("mm_vision_tower") not in (None, guard.TOWER_MARK)
    if names:
        report.add("ok", "face weights", f"{len(names)} tensors")
    elif trained or (has_tower and "Face" in architecture):
        report.add("problem", "face weights", "none found: this run trained without face mode")
    else:
        report.add("ok", "face weights", "none yet: training starts them fresh, gates closed")


def face_weight_names(model_dir: Path) -> list[str]:
    """Names of the face tensors that a directory holds, in any of upstream's file layouts."""
    names: set[str] = set()
    for index in model_dir.glob("*.index.json"):
        names.update(json.loads(index.read_text())["weight_map"])
    for file in model_dir.glob("*.safetensors"):
        from safetensors import safe_open

        with safe_open(str(file), framework="pt") as stream:
            names.update(stream.keys())
    for name in ("mm_projector.bin", "non_lora_trainables.bin", "pytorch_model.bin"):
        if (model_dir / name).exists():
            import torch

            names.update(torch.load(model_dir / name, map_location="cpu", weights_only=True, mmap=True))
    return sorted(n for n in names if "mm_projector.face." in n)


def _check_files(report: Report, model_dir: Path, face: FaceConfig) -> None:
    segmentation = face.segmentation
    if segmentation.parser_path and not Path(segmentation.parser_path).exists():
        report.add("problem", "parser", f"{segmentation.parser_path} does not exist")
    tokenizer = model_dir / "tokenizer_config.json"
    if tokenizer.exists() and "legacy" not in json.loads(tokenizer.read_text()):
        report.add(
            "warning",
            "tokenizer",
            "tokenizer_config.json has no `legacy` key: transformers 4 and 5 then tokenize differently; add "
            '"legacy": true for Vicuna',
        )
    generation = model_dir / "generation_config.json"
    if generation.exists():
        values = json.loads(generation.read_text())
        sampling = any(values.get(k) not in (None, 1.0) for k in ("temperature", "top_p"))
        if sampling and not values.get("do_sample"):
            report.add(
                "warning",
                "generation_config.json",
                "temperature or top_p without do_sample: LLaVA's final save fails on transformers 4 (LLaVA#1144); "
                "face mode mends it in memory",
            )
