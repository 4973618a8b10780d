"""One process of lmms-eval: its model, its command, its environment, its progress, and what a log says went wrong.

lmms-eval 0.7.3 runs one task at a time here: several in one process can be mixed up at their boundary by models that
batch (docs/upstream.md), and one that fails would take the others with it.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.files import sha256_of
from ..errors import FaceConfigError, FaceDataError, FaceHostError
from .questions import DATA_ENV
from .results import ModelInfo

PATIENCE = 15.0
"""Seconds that a process gets to end by itself (our default)."""
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
_SPLITS = ",{}[]'\""  # lmms-eval parses paths as lists of arguments
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ANSWERED = re.compile(rb"Model Responding:[^\r\n]*?(\d+)/(\d+) \[")
_UNANSWERED = re.compile(
    r" - Error (?:(?:in |while |during )?generati(?:ng|on)(?: text| batch)?: (?P<after>[^\n]*)"
    r"|(?P<before>(?:(?!\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \|).){0,4000}?)\s?in generating\b)",
    re.DOTALL,
)
_PATHS = (
    ("mm_vision_tower",), ("vision_tower",), ("face", "segmentation", "maps"), ("face", "segmentation", "vision_tower"),
    ("face", "segmentation", "parser", "path"), ("face", "segmentation", "parser", "detector_path"),
    ("face", "facial", "path"),
)  # fmt: skip
"""Keys of a ``config.json`` whose values can be files beside the model that change what it sees."""
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_OURS = re.compile(r"llava_face_plugin\.errors\.Face\w*Error: (.+)")
_OTHERS = re.compile(r"^((?!tenacity\.)[\w.]*(?:Error|Exception)\b(?:: .*)?)$", re.MULTILINE)


@dataclass(frozen=True)
class Model:
    """The model that is asked. ``runner`` is lmms-eval's name of the code that loads it."""

    runner: str = "face_llava"
    path: Path | None = None
    args: str = ""
    """As lmms-eval's ``--model_args``, without ``pretrained``."""

    def arguments(self, device: str | None) -> str:
        """lmms-eval's ``--model_args``. ``llava_hf`` needs its ``device_map`` said, or fails on an empty one."""
        parts = [f"pretrained={self.path}"] if self.path else []
        if self.runner == "llava_hf" and "device_map" not in self.given():
            parts.append(f"device_map={device or _device()}")
        return ",".join([*parts, *([self.args] if self.args else [])])

    def given(self) -> list[str]:
        """Names of the arguments in ``args``."""
        return list(self._values())

    def device(self, device: str | None) -> str | None:
        """Where it runs: ``device``, or what ``args`` say; for the runners we know else their own choice."""
        values = self._values()
        chosen = device or values.get("device") or values.get("device_map")
        return chosen or (_device() if self.path and self.runner in ("face_llava", "llava_hf") else None)

    def sources(self) -> list[Path]:
        """What answers depend on and lies on this machine: the model directory, what is named in ``args``
        (``model_base=DIR``, ``detector_path=FILE``), and the vision tower, maps, parser and facial encoder that their
        ``config.json`` names."""
        given = [Path(value) for value in self._values().values() if value]
        found = [*([self.path] if self.path else []), *(path for path in given if path.exists())]
        named = [path for folder in found for path in _named(folder / "config.json")]
        return list(dict.fromkeys(path.resolve() for path in [*found, *named]))

    def _values(self) -> dict[str, str]:
        return dict(re.findall(r"(?:^|,)\s*(\w+)=([^,]*)", self.args))


@dataclass(frozen=True)
class Settings:
    """How it is run. ``limit`` decides which questions are asked; ``device`` the dtype (on a CPU float32), and so can
    change answers. ``batch_size`` and ``processes`` change none in float32; in half precision they can tip a near tie.
    """

    device: str | None = None
    batch_size: int | None = None
    limit: int | None = None
    processes: int = 1


def model_info(model: Model, out: Path) -> ModelInfo:
    """What tells this model from others of its name. ``out`` does not count where it lies in the model's directory.

    Raises ``FaceDataError`` for a ``config.json`` that is no JSON.
    """
    sources = model.sources()
    files = hashlib.sha256()
    for source in sources:
        # Not only the weights at the top: towers, adapters and experts lie in folders of their own.
        found = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
        for file in (p for p in found if not p.is_relative_to(out.resolve())):
            status = file.stat()
            files.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    return ModelInfo(
        runner=model.runner, path=str(model.path.resolve()) if model.path else "", args=model.args,
        config_sha256=sha256_of(model.path / "config.json") if model.path else "",
        files_sha256=files.hexdigest() if sources else "",
    )  # fmt: skip


def check(model: Model, settings: Settings, out: Path) -> None:
    """Raises ``FaceConfigError`` for what lmms-eval would misread or fail at, ``FaceHostError`` where it is absent."""
    if importlib.util.find_spec("lmms_eval") is None:
        raise FaceHostError("evaluating needs lmms-eval: pip install 'llava-face-plugin[eval]'")
    for what, path in (("model directory", model.path), ("folder for the results", out)):
        if path is not None and (bad := sorted(set(_SPLITS) & set(str(path)))):
            raise FaceConfigError(
                f"{path}: lmms-eval cannot take {' '.join(bad)} in the path of a {what}: rename or link"
            )
    options = {"batch_size", *(["pretrained"] if model.path else []), *(["device"] if settings.device else [])}
    if twice := sorted(options & set(model.given())):
        raise FaceConfigError(f"--model-args must not have {twice[0]}: there is an option for it")
    if model.path is not None and not (model.path / "config.json").is_file():
        raise FaceConfigError(f"{model.path}: no model directory (it has no config.json)")
    if model.path is None and model.runner in ("face_llava", "llava_hf"):
        raise FaceConfigError(f"{model.runner} needs a model directory: --model DIR")
    if model.runner == "dummy" and settings.processes > 1:
        raise FaceConfigError("lmms-eval's dummy model cannot run in several processes (it has no device)")
    if model.runner == "llava_hf" and settings.batch_size not in (None, 1):
        raise FaceConfigError(f"lmms-eval's llava_hf takes batch size 1 only, not {settings.batch_size}")


def command(model: Model, settings: Settings, task: str, tasks_folder: Path, out: Path) -> list[str]:
    """Run ``task`` and write lmms-eval's files below ``out``."""
    module = ["lmms_eval"]
    if settings.processes > 1:
        several = f"--nproc-per-node={settings.processes}"
        module = ["torch.distributed.run", "--standalone", several, "-m", "llava_face_plugin.evaluation.lmms_rank"]
    device = settings.device or (_device() if model.runner == "llava_hf" else None)
    line = [
        sys.executable, "-m", *module,
        "--model", model.runner, "--tasks", task, "--include_path", str(tasks_folder),
        "--output_path", str(out), "--log_samples", "--verbosity", "INFO",
    ]  # fmt: skip
    optional = {
        "--model_args": model.arguments(settings.device), "--device": device,
        "--batch_size": settings.batch_size, "--limit": settings.limit,
    }  # fmt: skip
    return line + [text for name, value in optional.items() if value for text in (name, str(value))]


def environment(questions: Path) -> dict[str, str]:
    """This process's own, offline unless the user says otherwise. Without HF_TOKEN, which lmms-eval writes into its
    log and its results; a stored login still works."""
    own = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"}
    return {**dict.fromkeys(_OFFLINE, "1"), "PYTHONUNBUFFERED": "1", **own, DATA_ENV: str(questions)}


def run(line: Sequence[str], log: Path, env: dict[str, str], watch: Callable[[int], None]) -> int:
    """The exit status. ``watch`` gets the number of answers so far. The process ends with us; where we are killed
    (SIGKILL), on Linux only."""
    with open(log, "wb") as stream:
        process = subprocess.Popen(
            line, stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env, start_new_session=True,
            preexec_fn=_dying_with_us(),
        )  # fmt: skip
        try:
            while True:
                try:
                    return process.wait(timeout=0.5)
                except subprocess.TimeoutExpired:
                    watch(answered(log))
        except BaseException:
            _stop(process)
            raise


def answered(log: Path) -> int:
    """How many questions the model has answered, by the progress bar in the log."""
    with open(log, "rb") as stream:
        stream.seek(max(0, log.stat().st_size - 8192))
        found = _ANSWERED.findall(stream.read())
    return int(found[-1][0]) if found else 0


def unanswered(log: Path) -> list[str]:
    """The errors that the runner caught and answered with "" (llava_hf and most of lmms-eval's own do), in order."""
    found = _UNANSWERED.finditer(_log_text(log))
    return [" ".join((m["before"] or m["after"] or "no message").split())[:300] for m in found]


def what_went_wrong(log: Path) -> str:
    """This package's own message if the log holds one, else its last error and last lines."""
    text = _log_text(log)
    if ours := _OURS.findall(text):
        return str(ours[-1])
    errors = _OTHERS.findall(text)
    tail = [line for line in text.splitlines() if line.strip()][-12:]
    return "\n".join([errors[-1] if errors else "no error in the log; its last lines:", *(f"  | {x}" for x in tail)])


def _log_text(log: Path) -> str:
    return _COLOUR.sub("", log.read_text(encoding="utf-8", errors="replace")).replace("\r", "\n")


def _named(config: Path) -> list[Path]:
    """The files and folders that it names and that exist; a hub name is none. Raises ``FaceDataError``."""
    if not config.is_file():
        return []
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FaceDataError(f"{config}: not JSON ({error})", "damaged") from error
    out = []
    for keys in _PATHS:
        value = values
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str) and value and Path(value).exists():
            out.append(Path(value))
    return out


def _dying_with_us() -> Callable[[], object] | None:
    """For ``preexec_fn``. Without it a killed parent (SIGKILL, out of memory) leaves a model on the GPU."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: after the fork nothing may take a lock
    return lambda: prctl(_DIE_WITH_PARENT, signal.SIGTERM)


def _device() -> str:
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """The whole session: torchrun has processes of its own."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sent)
            process.wait(PATIENCE)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
