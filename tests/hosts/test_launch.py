"""Real processes: three ways of loading, three launchers, and the bare environment."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llava_face_plugin.hosts.doctor import examine
from llava_face_plugin.model_files import read_config

from . import upstream

pytestmark = pytest.mark.launch

REPO = Path(__file__).resolve().parents[2]
PATCH = REPO / "patches" / "llava-1.2.2" / "0001-plugin-entry-points.patch"
WAYS = ("hook", "launch", "patch")
ZERO = {
    "zero2": {"stage": 2, "overlap_comm": True, "contiguous_gradients": True, "sub_group_size": 1e9,
              "reduce_bucket_size": "auto"},
    "zero3": {"stage": 3, "overlap_comm": True, "contiguous_gradients": True, "sub_group_size": 1e9,
              "reduce_bucket_size": "auto", "stage3_prefetch_bucket_size": "auto",
              "stage3_param_persistence_threshold": "auto", "stage3_max_live_parameters": 1e9,
              "stage3_max_reuse_distance": 1e9, "stage3_gather_16bit_weights_on_model_save": True},
}  # fmt: skip


@pytest.fixture(scope="module")
def no_hook(root: Path) -> Path:
    """A folder for PYTHONPATH that undoes the .pth hook, as if it had never been installed."""
    folder = root / "no-hook"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("from llava_face_plugin.hosts import loader\nloader.deactivate()\n")
    return folder


@pytest.fixture(scope="module")
def patched_llava(root: Path) -> Path:
    """A folder for PYTHONPATH with a copy of the installed llava that carries our patch."""
    import llava

    folder = root / "patched"
    folder.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "serve", "*.json", "*.jsonl")
    shutil.copytree(Path(llava.__path__[0]), folder / "llava", ignore=ignore)
    result = subprocess.run(["git", "apply", PATCH], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return folder


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def command(launcher: str, way: str, script: Path) -> list[Any]:
    """How a user starts a script: python, torchrun or deepspeed, two processes for the last two."""
    bin_dir = Path(sysconfig.get_path("scripts"))
    launch = ["llava_face_plugin.launch"] if way == "launch" else []
    if launcher == "python":
        return [sys.executable, *(["-m", *launch] if launch else []), script]
    if launcher == "torchrun":
        start = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc_per_node",
            2,
            "--master_port",
            port(),
        ]
        return [*start, *(["-m", *launch] if launch else []), script]
    start = [bin_dir / "deepspeed", "--num_gpus", 2, "--master_port", port()]
    return [*start, *(["--module", *launch] if launch else []), script]


def variables(way: str, no_hook: Path, patched_llava: Path) -> dict[str, str | None]:
    folders = {"hook": [], "launch": [no_hook], "patch": [no_hook, patched_llava]}[way]
    path = os.pathsep.join(str(f) for f in folders)
    return {"PYTHONPATH": path or None, "ACCELERATE_USE_CPU": None}


def zero_config(root: Path, stage: str) -> Path:
    path = root / f"{stage}.json"
    path.write_text(json.dumps({
        "fp16": {"enabled": "auto"}, "bf16": {"enabled": "auto"}, "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto", "gradient_accumulation_steps": "auto", "zero_optimization": ZERO[stage],
    }))  # fmt: skip
    return path


def check_trained(out: Path, result: subprocess.CompletedProcess[str], ranks: int = 1, steps: int = 3) -> None:
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    assert read_config(out)["architectures"] == ["LlavaFaceLlamaForCausalLM"]
    report = examine(out, trained=True)
    assert [f for f in report.findings if f.what in ("face weights", "guard") and f.level != "ok"] == []
    gate = load_file(out / "model.safetensors")["model.mm_projector.face.fusion.gate"]
    assert gate.abs().max() > 0, "the gate never opened: nothing was trained"
    check_ranks(out, ranks, steps)


def check_ranks(out: Path, ranks: int, steps: int) -> None:
    """28 samples, 4 a rank and step: two ranks that do not know of each other would see half of what one epoch is."""
    epoch = json.loads((out / "trainer_state.json").read_text())["epoch"]
    assert epoch == pytest.approx(steps * 4 * ranks / 28, rel=0.2), "the ranks did not train together"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("launcher", ["python", "torchrun", "zero2"])
def test_unmodified_script_trains_face_mode(
    launch_base: Path, base: Path, faces: Path, root: Path, train_script: Path, no_hook: Path, patched_llava: Path,
    launcher: str, way: str,
) -> None:  # fmt: skip
    if launcher == "zero2":
        pytest.importorskip("deepspeed")
    out = root / f"llava-{launcher}-{way}"
    other: dict[str, Any] = {}
    if launcher == "zero2":  # --use_cpu would take deepspeed out of the Trainer
        other = {"deepspeed": zero_config(root, "zero2"), "use_cpu": None}
    arguments = upstream.flags(launch_base, base / "clip", faces, out, max_steps=3, **other)
    start = command("deepspeed" if launcher == "zero2" else launcher, way, train_script)
    result = upstream.run([*start, *arguments], root, **variables(way, no_hook, patched_llava))
    check_trained(out, result, ranks=1 if launcher == "python" else 2)


@pytest.mark.parametrize("stage", ["stage1", "lora"])
@pytest.mark.parametrize("launcher", ["torchrun", "zero2"])
def test_other_stages_over_two_processes(
    launch_base: Path, base: Path, faces: Path, root: Path, train_script: Path, launcher: str, stage: str
) -> None:
    out = root / f"llava-{launcher}-{stage}"
    other: dict[str, Any] = {}
    if launcher == "zero2":
        pytest.importorskip("deepspeed")
        other = {"deepspeed": zero_config(root, "zero2"), "use_cpu": None}
    elif stage == "lora":
        other = {"ddp_find_unused_parameters": False}  # upstream's own need (docs/upstream.md)
    arguments = upstream.flags(launch_base, base / "clip", faces, out, stage, max_steps=3, **other)
    start = command("deepspeed" if launcher == "zero2" else launcher, "hook", train_script)
    result = upstream.run([*start, *arguments], root)
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    file = "mm_projector.bin" if stage == "stage1" else "non_lora_trainables.bin"
    weights = torch.load(out / file, weights_only=True)
    gates = [value for name, value in weights.items() if name.endswith("face.fusion.gate")]
    assert len(gates) == 1 and gates[0].abs().max() > 0
    assert [f for f in examine(out, trained=True).findings if f.what == "face weights" and f.level != "ok"] == []


@pytest.mark.parametrize("stage", ["finetune", "lora"])
def test_zero3(launch_base: Path, base: Path, faces: Path, root: Path, train_script: Path, stage: str) -> None:
    pytest.importorskip("deepspeed")
    out = root / f"llava-zero3-{stage}"
    arguments = upstream.flags(
        launch_base, base / "clip", faces, out, stage, max_steps=3, deepspeed=zero_config(root, "zero3"), use_cpu=None,
        bf16=True,
    )  # fmt: skip
    result = upstream.run([*command("deepspeed", "hook", train_script), *arguments], root)
    if stage == "finetune":
        check_trained(out, result, ranks=2)
        return
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    weights = torch.load(out / "non_lora_trainables.bin", weights_only=True)
    gates = [value for name, value in weights.items() if name.endswith("face.fusion.gate")]
    assert len(gates) == 1 and gates[0].numel() > 1 and gates[0].abs().max() > 0


def test_a_bare_environment_still_trains_face_mode(
    launch_base: Path, base: Path, faces: Path, root: Path, train_script: Path
) -> None:
    """``srun --export=NONE`` and pdsh hand over next to nothing: the hook needs no variable."""
    out = root / "llava-bare"
    arguments = upstream.flags(launch_base, base / "clip", faces, out, max_steps=2)
    keep = ["PATH", "HOME"]
    env = {key: os.environ[key] for key in keep if key in os.environ}
    script = root / "cpu_train.py"  # the dry run's variable does not travel either
    script.write_text(
        "import os; os.environ['LLAVA_FACE_CPU_DRY_RUN'] = '1'\n"
        "from llava_face_plugin.hosts.compat.cpu import install_cpu_dry_run; install_cpu_dry_run()\n"
        f"import runpy; runpy.run_path({str(train_script)!r}, run_name='__main__')\n"
    )
    result = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)], cwd=root, env=env, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    check_trained(out, result, steps=2)


@pytest.mark.contract
@pytest.mark.parametrize("absence", ["switched off", "not installed"])
def test_without_the_plugin_nothing_is_trained(
    launch_base: Path, base: Path, faces: Path, root: Path, train_script: Path, no_hook: Path, absence: str
) -> None:
    out = root / f"llava-absent-{absence.split()[0]}"
    arguments = upstream.flags(launch_base, base / "clip", faces, out, max_steps=2)
    absent = {"LLAVA_FACE": "0"} if absence == "switched off" else {"PYTHONPATH": str(no_hook)}
    # The shims that let llava train on newer transformers stay: it must be the guard that stops it.
    train = train_script.with_name("train_plain.py")
    train.write_text(
        "from llava_face_plugin.hosts import compat, imports\n"
        "import llava\n"
        "assert 'llava_face_plugin.hosts.llava_v1' not in __import__('sys').modules\n"
        "imports.when_imported('llava.train.llava_trainer', before=lambda: compat.apply('before_trainer'),\n"
        "                      after=lambda module: compat.apply('trainer'))\n"
        "from llava.train.train import train\n"
        "train()\n"
    )
    result = upstream.run([sys.executable, train, *arguments], root, LLAVA_FACE_CPU_DRY_RUN=None, **absent)
    assert result.returncode != 0
    assert "Unknown vision tower: (none): face mode is on but llava_face_plugin is not active" in result.stderr
    assert not (out / "model.safetensors").exists()
