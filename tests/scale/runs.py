"""Trainings of the tiny face model over several ranks, and what they leave."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from .ranks import HERE, Ranks

RECIPES = HERE.parents[1] / "scripts" / "recipes"
ZERO = ("zero2", "zero3", "zero2_offload", "zero3_offload")


@dataclass
class Trained:
    """What a run leaves: its folder, and each rank's record (``worker.py``)."""

    out: Path
    ranks: list[dict[str, Any]]

    @property
    def losses(self) -> list[float]:
        return [entry["loss"] for entry in self.ranks[0]["log"] if "loss" in entry]

    @property
    def face(self) -> dict[str, torch.Tensor]:
        return self.ranks[0]["face"]


@dataclass
class Runs:
    """Trains a way (``ddp``, a config of scripts/recipes/deepspeed, ``fsdp2...``), and keeps each run by its name."""

    ranks: Ranks
    root: Path
    start: Path
    faces: Path
    probe: Path
    done: dict[str, Trained] = field(default_factory=dict)

    def __call__(
        self, way: str, name: str = "whole", world: int = 2, batch: int = 2, env: dict[str, Any] | None = None,
        **other: Any,
    ) -> Trained:  # fmt: skip
        key = f"{way}-{name}"
        if key in self.done:
            return self.done[key]
        out = self.root / key
        flags = {
            "model_name_or_path": self.start, "data_path": self.faces / "train.json", "image_folder": self.faces,
            "output_dir": out, "max_steps": 4, "per_device_train_batch_size": batch, "learning_rate": 1e-3,
            "lr_scheduler_type": "constant", "logging_steps": 1, "report_to": "none", "disable_tqdm": True,
            "save_strategy": "steps", "save_steps": 2, **flags_of(way, self.root), **other,
        }  # fmt: skip
        argv = [HERE / "worker.py", *(text for key, value in flags.items() for text in (f"--{key}", value))]
        record = out / "ranks"
        record.mkdir(parents=True, exist_ok=True)
        variables = {"RECORD": record, "PROBE": self.probe, **variables_of(way, world), **(env or {})}
        self.ranks(argv, out / "logs", world, variables)
        self.done[key] = Trained(out, [torch.load(record / f"rank{rank}.pt") for rank in range(world)])
        return self.done[key]


def flags_of(way: str, root: Path, **more: Any) -> dict[str, Any]:
    if way.startswith("fsdp2"):
        return {}
    if way not in ZERO:
        return {"use_cpu": True}
    config = json.loads((RECIPES / "deepspeed" / f"{way}.json").read_text())
    # Torch's AdamW in place of deepspeed's, whose C++ takes minutes to build.
    config.update(zero_force_ds_cpu_optimizer=False, zero_allow_untested_optimizer=True, **more)
    path = root / f"{way}{len(more)}.json"
    path.write_text(json.dumps(config))
    return {"deepspeed": path}


def variables_of(way: str, world: int) -> dict[str, Any]:
    """For deepspeed, the place of a lone rank; for FSDP2 what `accelerate launch` makes of the recipe's file."""
    if way in ZERO:
        return {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1} if world == 1 else {}
    if not way.startswith("fsdp2"):
        return {}
    config = yaml.safe_load((RECIPES / "accelerate_fsdp2.yaml").read_text())["fsdp_config"]
    if way == "fsdp2_sharded":
        config["fsdp_state_dict_type"] = "SHARDED_STATE_DICT"
    config["fsdp_transformer_cls_to_wrap"] = config.pop("fsdp_transformer_layer_cls_to_wrap")
    return {"ACCELERATE_USE_FSDP": "true", **{name.upper(): str(value) for name, value in config.items()}}


def logits(checkpoint: Path, probe: Path) -> torch.Tensor:
    """Of the checkpoint on one process, for the batch in the file ``probe``."""
    from transformers import AutoModelForImageTextToText

    import llava_face_plugin.hosts.hf  # noqa: F401

    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(**torch.load(probe)).logits
