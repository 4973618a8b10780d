"""The doctor's look at the packages called ``llava``: what is hooked in them, and what in a directory trips them up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..errors import FaceError
from . import compat
from .doctor import Report
from .environment import CPU_SWITCH, SWITCH
from .llava import which

# Run in a fresh interpreter, as torchrun or srun would start one: was the .pth hook processed there?
_PROBE = """
import json, sys
from llava_face_plugin.hosts import imports, loader
print(json.dumps({"way": loader.way(), "watching": imports.is_watching()}))
"""


def check_environment(report: Report) -> None:
    """Which ``llava`` and transformers are here, and whether new processes load the plugin."""
    if which.kind() == "llava_next":
        _check_llava_next(report)
    else:
        _check_host(report)
    _check_hook(report)


def check_directory(report: Report, model_dir: Path) -> None:
    """Files and names in a model directory that upstream's loader or its last save trips over."""
    _check_files(report, model_dir)
    if which.kind() != "llava_next":  # there face mode goes by the config's model_type
        _check_name(report, model_dir)


def _check_llava_next(report: Report) -> None:
    try:
        import llava

        from . import llava_next

        llava_next.check_host()
    except ImportError as error:
        report.add("problem", "llava", f"LLaVA-NeXT cannot be imported: {error}")
        return
    except FaceError as error:
        report.add("problem", "llava", str(error))
        return
    version = report.versions.get("transformers")
    report.add("ok", "llava", f"LLaVA-NeXT in {Path(llava.__path__[0]).parent}, on transformers {version}")
    if llava_next.mended():
        report.add("ok", "compatibility shims", ", ".join(llava_next.mended()))


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


def _check_files(report: Report, model_dir: Path) -> None:
    tokenizer = _read_json(report, model_dir / "tokenizer_config.json")
    if tokenizer is not None and "legacy" not in tokenizer:
        report.add(
            "warning",
            "tokenizer",
            "tokenizer_config.json has no `legacy` key: transformers 4 and 5 then tokenize differently; add "
            '"legacy": true for Vicuna',
        )
    generation = _read_json(report, model_dir / "generation_config.json") or {}
    sampling = any(generation.get(key) not in (None, 1.0) for key in ("temperature", "top_p"))
    if sampling and not generation.get("do_sample"):
        report.add(
            "warning",
            "generation_config.json",
            "temperature or top_p without do_sample: LLaVA's final save fails on transformers 4 (LLaVA#1144); "
            "face mode mends it in memory",
        )


def _read_json(report: Report, path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        report.add("problem", path.name, f"not a valid JSON object: {error}")
        return None


def _check_name(report: Report, model_dir: Path) -> None:
    """LLaVA's loader goes by the directory's name (llava/model/builder.py)."""
    name = model_dir.resolve().name.lower()
    adapter = (model_dir / "adapter_config.json").exists()
    saved = adapter or any((model_dir / f).exists() for f in ("mm_projector.bin", "trainer_state.json"))
    if saved and "llava" not in name:
        report.add("warning", "name", f"{name!r} has no 'llava' in it: LLaVA would load a plain language model")
    if adapter and "lora" not in name:
        report.add("warning", "name", f"{name!r} has no 'lora' in it: LLaVA would not load the adapter")
    for other in ("mpt", "mistral"):
        if other in (str(model_dir.resolve()).lower() if other == "mpt" else name):
            report.add("warning", "name", f"{other!r} in the path makes LLaVA take another language model")
    if "moe" in str(model_dir.resolve()).lower():
        report.add("warning", "name", "'moe' in the path makes LLaVA-NeXT (not LLaVA 1.5) take a Qwen of experts")
