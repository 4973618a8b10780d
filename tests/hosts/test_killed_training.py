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
from safetensors.torch import load_file

from . import upstream

pytestmark = pytest.mark.launch


@pytest.fixture
def process_group() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("stage", ["finetune", "lora"])
def test_kill_and_resume_equals_uninterrupted(
    launch_base: Path, base: Path, faces: Path, root: Path, train_script: Path, stage: str,
    process_group: list[subprocess.Popen[str]],
) -> None:  # fmt: skip
    found = {}
    for name in ("whole", "killed"):
        out = root / f"llava-{stage}-{name}"
        # Slow enough to be killed between the checkpoint and the end.
        arguments = upstream.flags(
            launch_base, base / "clip", faces, out, stage, num_train_epochs=10, max_steps=None, save_steps=4, seed=7,
            lora_dropout=0.0 if stage == "lora" else None,
            pretrain_mm_mlp_adapter=adapter(launch_base, base, faces, root),
        )  # fmt: skip
        start = [sys.executable, str(seeded(train_script)), *map(str, arguments)]
        if name == "killed":
            process = subprocess.Popen(
                start, cwd=root, env=upstream.environment(), text=True, start_new_session=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            process_group.append(process)
            wait_for(out / "checkpoint-4" / "trainer_state.json", process)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert not (out / "trainer_state.json").exists(), "the run ended before it could be killed"
            for later in out.glob("checkpoint-*"):
                if int(later.name.split("-")[1]) > 4:
                    shutil.rmtree(later)
        result = upstream.run(start, root)
        assert result.returncode == 0, result.stderr[-4000:]
        file = "model.safetensors" if stage == "finetune" else "non_lora_trainables.bin"
        found[name] = load_file(out / file) if stage == "finetune" else torch.load(out / file, weights_only=True)
    for key, value in found["whole"].items():
        assert torch.equal(value, found["killed"][key]), key


def seeded(train_script: Path) -> Path:
    """The same script with torch seeded first: upstream draws LoRA weights before it sets its seed."""
    script = train_script.with_name("seeded.py")
    script.write_text(
        f"import runpy, torch\ntorch.manual_seed(0)\nrunpy.run_path({str(train_script)!r}, run_name='__main__')\n"
    )
    return script


def adapter(launch_base: Path, base: Path, faces: Path, root: Path) -> Path:
    """A stage-1 adapter, so that two runs start alike (upstream does not seed its projector)."""
    out = root / "llava-start"
    if not (out / "mm_projector.bin").exists():
        upstream.train(upstream.flags(launch_base, base / "clip", faces, out, "stage1", max_steps=1))
    return out / "mm_projector.bin"


def wait_for(path: Path, process: subprocess.Popen[str], seconds: int = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, "the run ended before its first checkpoint"
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.01)
    time.sleep(0.05)
