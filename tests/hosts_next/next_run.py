"""LLaVA-NeXT's unchanged train_mem.py, as a user starts it."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from tests.hosts_next.next_assets import PINPOINTS, SIGLIP_PINPOINTS, checkout

IMAGE_FLAGS = {
    "image_aspect_ratio": "anyres_max_9",
    "image_grid_pinpoints": PINPOINTS,
    "mm_patch_merge_type": "spatial_unpad",
}
VIDEO_FLAGS = {
    "frames_upbound": 4,
    "mm_spatial_pool_stride": 2,
    "mm_newline_position": "grid",
    "add_time_instruction": True,
    "force_sample": True,
}
STAGES: dict[str, dict[str, Any]] = {
    "finetune": {"mm_tunable_parts": "mm_vision_tower,mm_mlp_adapter,mm_language_model", "bf16": True},
    "lora": {
        "mm_tunable_parts": "mm_mlp_adapter,mm_language_model",
        "lora_enable": True,
        "lora_r": 8,
        "lora_alpha": 16,
        "mm_projector_lr": 2e-4,
    },
    "stage1": {"mm_tunable_parts": "mm_mlp_adapter", "version": "plain", "group_by_modality_length": False},
}
"""What scripts/train/*.sh of LLaVA-NeXT differ in."""


def flags(model: Path, tower: Path | str, data: Path, out: Path, stage: str = "finetune", **other: Any) -> list[str]:
    """The flags of scripts/train/finetune_onevision.sh with paths and sizes changed; ``other`` overrides or adds.

    ``data``: one of the JSON files of ``next_assets.build_data``. A ``None`` in ``other`` drops a flag.
    """
    values: dict[str, Any] = {
        "model_name_or_path": model,
        "version": "qwen_1_5" if "qwen" in str(model) else "v1",
        "data_path": data,
        "image_folder": data.parent,
        "video_folder": data.parent,
        "vision_tower": tower,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "group_by_modality_length": True,
        **IMAGE_FLAGS,
        **VIDEO_FLAGS,
        "attn_implementation": "sdpa",
        "output_dir": out,
        "run_name": out.name,
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "save_strategy": "no",
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "model_max_length": 2048,
        "gradient_checkpointing": True,
        "dataloader_num_workers": 0,
        "lazy_preprocess": True,
        "report_to": "none",
        "use_cpu": True,
        **STAGES[stage],
    }
    if "siglip" in str(tower):
        values["image_grid_pinpoints"] = SIGLIP_PINPOINTS
    values.update(other)
    return [text for key, value in values.items() if value is not None for text in (f"--{key}", str(value))]


def environment(hub: Path | None = None, **changes: str | None) -> dict[str, str]:
    """A process' environment for a run on this CPU. ``hub``: where ``build_siglip`` wrote. ``None`` removes a name."""
    values: dict[str, str | None] = {
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "LLAVA_FACE_CPU_DRY_RUN": "1",
        "DS_ACCELERATOR": "cpu",
        "PYTHONDONTWRITEBYTECODE": "1",  # the checkout is the user's
        **({"HF_HOME": str(hub)} if hub else {}),
        **changes,
    }
    out = {**os.environ, **{name: value for name, value in values.items() if value is not None}}
    for name in [name for name, value in values.items() if value is None]:
        out.pop(name, None)
    return out


def train(
    arguments: list[str],
    cwd: Path,
    hub: Path | None = None,
    ranks: int = 0,
    root: Path | None = None,
    timeout: int = 300,
    **env: str | None,
) -> subprocess.CompletedProcess[str]:
    """``python llava/train/train_mem.py arguments`` in a process of its own, its output captured; it may fail.

    ``ranks``: so many of them by torchrun, as DeepSpeed needs it even for one. ``root``: another checkout.
    """
    root = root or checkout()
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)] if ranks else []
    command = [sys.executable, *torchrun, str(root / "llava" / "train" / "train_mem.py"), *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment(hub, **env), capture_output=True, text=True, timeout=timeout
    )


def train_here(arguments: list[str], seed: int = 0) -> Any:
    """As ``train``, but in this process and from one random state. Returns upstream's trainer."""
    from llava.train.llava_trainer import LLaVATrainer

    seen: list[Any] = []
    plain_train = LLaVATrainer.train

    def train(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(self)
        return plain_train(self, *args, **kwargs)

    torch.manual_seed(seed)
    script = str(checkout() / "llava" / "train" / "train_mem.py")
    with mock.patch.object(sys, "argv", [script, *arguments]), mock.patch.object(LLaVATrainer, "train", train):
        runpy.run_path(script, run_name="__main__")
    return seen[0]


def succeeded(done: subprocess.CompletedProcess[str]) -> bool:
    """True. Raises ``AssertionError`` with the end of its output if the process failed."""
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return True


def losses(out: Path) -> list[float]:
    """The loss of each step of a finished run."""
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]
