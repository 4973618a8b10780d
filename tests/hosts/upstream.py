"""Upstream's own training and loading, run unmodified: in this process, or as a user starts it."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from llava_face_plugin.hosts import compat

STEP_FLAGS = {
    "finetune": [],
    "lora": ["--lora_enable", "True", "--lora_r", "8", "--lora_alpha", "16", "--mm_projector_lr", "2e-4"],
    "stage1": ["--tune_mm_mlp_adapter", "True", "--group_by_modality_length", "False", "--version", "plain"],
}
"""What scripts/v1_5/finetune.sh, finetune_lora.sh and pretrain.sh differ in (sizes and rates are the tests')."""


def flags(model: Path, tower: Path, data: Path, out: Path, stage: str = "finetune", **other: Any) -> list[str]:
    """The flags of scripts/v1_5/*.sh with paths and sizes changed; ``other`` overrides or adds."""
    values: dict[str, Any] = {
        "model_name_or_path": model,
        "version": "v1",
        "data_path": data / "train.json",
        "image_folder": data,
        "vision_tower": tower,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "image_aspect_ratio": "pad",
        "group_by_modality_length": True,
        "bf16": False,
        "output_dir": out,
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "evaluation_strategy": "no",
        "save_strategy": "steps",
        "save_steps": 50000,
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "warmup_ratio": 0.0,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "model_max_length": 2048,
        "gradient_checkpointing": True,
        "dataloader_num_workers": 0,
        "lazy_preprocess": True,
        "report_to": "none",
        "use_cpu": True,
    }
    extra = dict(zip([f.removeprefix("--") for f in STEP_FLAGS[stage][::2]], STEP_FLAGS[stage][1::2], strict=True))
    values.update(extra)
    if stage == "stage1":
        values["data_path"] = data / "plain.json"
    values.update(other)
    return [text for key, value in values.items() if value is not None for text in (f"--{key}", str(value))]


def train(arguments: Sequence[str], on_step: Callable[[Any, Any], None] | None = None, seed: int = 0) -> Any:
    """``python llava/train/train_mem.py arguments`` in this process. Returns upstream's trainer.

    ``on_step(trainer, model)`` is called after each backward, before the optimizer steps.
    """
    from llava.train.llava_trainer import LLaVATrainer

    seen: list[Any] = []
    plain_step = LLaVATrainer.training_step

    def training_step(self: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        if not seen:
            seen.append(self)
        loss = plain_step(self, model, *args, **kwargs)
        if on_step is not None:
            on_step(self, model)
        return loss

    torch.manual_seed(seed)
    with (
        mock.patch.object(sys, "argv", ["train_mem.py", *arguments]),
        mock.patch.object(LLaVATrainer, "training_step", training_step),
    ):
        runpy.run_module("llava.train.train_mem", run_name="__main__")
    return seen[0]


def logs(out: Path) -> list[dict[str, Any]]:
    """The per-step entries of a finished run's log."""
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    return [entry for entry in history if "loss" in entry]


def environment(**changes: str | None) -> dict[str, str]:
    """The environment of a fresh training process on this CPU; a ``None`` removes a variable."""
    values: Mapping[str, str | None] = {
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "LLAVA_FACE_CPU_DRY_RUN": "1",
        # Resume on the pinned transformers (docs/upstream.md); elsewhere it would hide an unsafe load.
        "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1" if compat.transformers_series() == "4.37" else None,
        **changes,
    }
    out = {**os.environ, **{k: v for k, v in values.items() if v is not None}}
    for key in [k for k, v in values.items() if v is None]:
        out.pop(key, None)
    return out


def run(command: Sequence[Any], cwd: Path, timeout: int = 300, **env: str | None) -> subprocess.CompletedProcess[str]:
    """A command as a user starts it, its output captured."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def python() -> str:
    return sys.executable
