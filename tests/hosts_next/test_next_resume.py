"""Real processes: a training that is killed and resumed ends as one that was not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from tests.hosts_next import next_assets, next_models, next_run
from tests.hosts_next.conftest import Assets

pytestmark = pytest.mark.launch

# torch refuses the random states in a checkpoint of the pinned transformers (docs/upstream.md).
UNSAFE = "1" if transformers.__version__.startswith("4.40.") else None
SEEDED = """
import runpy, sys, torch
torch.manual_seed(0)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""train_mem.py draws projector and LoRA weights before it sets its seed."""


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def start(arguments: list[str], cwd: Path) -> subprocess.Popen[str]:
    script = str(next_assets.checkout() / "llava" / "train" / "train_mem.py")
    return subprocess.Popen(
        [sys.executable, "-c", SEEDED, script, *arguments], cwd=cwd, text=True, start_new_session=True,
        env=next_run.environment(None, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=UNSAFE),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-4000:]


def wait_for(path: Path, process: subprocess.Popen[str], seconds: int = 240) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        if process.poll() is not None:
            raise AssertionError(f"the run ended before {path}: {process.communicate()[0][-4000:]}")
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.01)
    time.sleep(0.05)


@pytest.mark.parametrize("stage", ["finetune", "lora"])
def test_kill_and_resume_equals_uninterrupted(
    assets: Assets, stage: str, started: list[subprocess.Popen[str]]
) -> None:  # fmt: skip
    source = next_models.switched_on(next_models.plain(assets), assets.root / "llava-on-qwen-checkpoint")
    found = {}
    for name in ("whole", "killed"):
        out = assets.root / f"llava-qwen-{stage}-{name}"
        # Long enough to be killed between the checkpoint and the end.
        arguments = next_run.flags(
            source, assets.clip, assets.data / "mixed.json", out, stage, max_steps=16, save_strategy="steps",
            save_steps=2, lora_dropout=0.0 if stage == "lora" else None,
            add_time_instruction=False,  # upstream adds it to a question each time that it reads the video
        )  # fmt: skip
        if name == "killed":
            process = start(arguments, assets.root)
            started.append(process)
            wait_for(out / "checkpoint-2" / "trainer_state.json", process)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert not (out / "trainer_state.json").exists(), "the run ended before it could be killed"
            for later in out.glob("checkpoint-*"):
                if later.name != "checkpoint-2":
                    shutil.rmtree(later)
        finish(start(arguments, assets.root))
        if stage == "lora":
            found[name] = torch.load(out / "non_lora_trainables.bin", weights_only=True)
        else:
            found[name] = load_file(out / "model.safetensors")
    assert any(next_models.FACE in key for key in found["whole"])
    for key, value in found["whole"].items():
        assert torch.equal(value, found["killed"][key]), key
