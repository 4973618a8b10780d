"""Checkpoints in parts: consolidated into one that loads, or resumed on another number of ranks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .ranks import HERE
from .runs import Runs, Trained, flags_of, logits

pytestmark = pytest.mark.launch


def loadable(weights: Path, run: Path) -> Path:
    """The files that belong to weights, as docs/scale.md says."""
    for file in run.glob("*.json"):
        if file.name not in ("model.safetensors.index.json", "trainer_state.json"):
            shutil.copy(file, weights)
    return weights


@pytest.mark.parametrize("way", [pytest.param("zero2", marks=pytest.mark.scale), "zero3_offload"])
def test_zero_to_fp32_makes_a_checkpoint_that_loads(runs: Runs, probe: Path, tmp_path: Path, way: str) -> None:
    run = runs(way)
    step = run.out / "checkpoint-4"
    command = [sys.executable, step / "zero_to_fp32.py", step, tmp_path / "merged", "--safe_serialization"]
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    assert torch.allclose(logits(loadable(tmp_path / "merged", run.out), probe), run.ranks[0]["logits"], atol=1e-5)


@pytest.mark.scale
@pytest.mark.parametrize("way", ["zero2", "zero3"])
def test_universal_checkpoint_resumes_on_one_rank(runs: Runs, way: str) -> None:
    whole, out = runs(way), runs.root / f"{way}-universal"
    shutil.copytree(whole.out / "checkpoint-2", out / "checkpoint-2")
    command = [
        sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state",
        "--input_folder", out / "checkpoint-2" / "global_step2",
        "--output_folder", out / "checkpoint-2" / "global_step2_universal",
    ]  # fmt: skip
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-3000:]
    (out / "checkpoint-2" / "latest_universal").write_text("global_step2_universal")
    flags = flags_of(way, runs.root, checkpoint={"load_universal": True})
    resumed = runs(way, "universal", world=1, gradient_accumulation_steps=2, **flags)
    assert resumed.losses == pytest.approx(whole.losses, abs=2e-3)
    # Under ZeRO-3 deepspeed 0.19.8 shares one step counter of torch's AdamW among all parameter groups: docs/scale.md.
    atol = 1e-3 if way == "zero3" else 1e-6
    for name, value in whole.face.items():
        assert torch.allclose(resumed.face[name], value, atol=atol), name


def test_sharded_fsdp2_merges_and_resumes(runs: Runs, probe: Path, tmp_path: Path) -> None:
    """SHARDED_STATE_DICT: a rank writes what it holds, and the trainer's last save_model() writes nothing."""
    run = runs("fsdp2_sharded")
    assert not (run.out / "model.safetensors").exists()
    from accelerate.utils import merge_fsdp_weights

    merge_fsdp_weights(str(run.out / "checkpoint-4" / "pytorch_model_fsdp_0"), str(tmp_path / "merged"))
    merged = loadable(tmp_path / "merged", runs.start)
    assert torch.allclose(logits(merged, probe), run.ranks[0]["logits"], atol=1e-5)
    shutil.copytree(run.out / "checkpoint-2", runs.root / "fsdp2_sharded-resumed" / "checkpoint-2")
    resumed = runs("fsdp2_sharded", "resumed")
    for name, value in run.face.items():
        assert torch.allclose(resumed.face[name], value, atol=1e-6), name


def test_plain_fully_shard_equals_one_process_and_its_checkpoint_merges(
    runs: Runs, one: Trained, tmp_path: Path
) -> None:
    """No accelerate: torch's own FSDP2 and its checkpoint in parts."""
    argv = [HERE / "worker_fully_shard.py", runs.start, runs.faces, tmp_path]
    runs.ranks(argv, tmp_path / "logs")
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    dcp_to_torch_save(tmp_path / "sharded", tmp_path / "merged.pt")
    merged = torch.load(tmp_path / "merged.pt")
    for name, value in one.face.items():
        assert torch.allclose(merged[name], value, rtol=1e-3, atol=1e-4), name
