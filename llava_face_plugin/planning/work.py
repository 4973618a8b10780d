"""What a plan is asked about: one micro step of one process, and how a run spreads over GPUs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import FaceConfigError
from .tokens import Visual

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
STAGES = ("pretrain", "finetune", "lora")
OFFLOADS = ("none", "optimizer", "parameters", "both")
OPTIMIZERS = ("adamw_torch", "adamw_torch_fused")
"""Names of transformers' Trainer. LLaVA's default is the first, which works with a copy of its second moments."""


def one_of(option: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raises ``FaceConfigError`` for a value that an option does not take."""
    if value not in allowed:
        raise FaceConfigError(f"--{option} {value}: expected one of {', '.join(map(str, allowed))}")


@dataclass(frozen=True)
class Work:
    """One forward and backward. Hashable: what is traced once is not traced again."""

    visual: Visual
    text: int
    """LLM tokens of a sample besides the image's."""
    batch: int = 16
    """Samples of one micro step of one process (LLaVA 1.5's finetune.sh)."""
    stage: str = "finetune"
    """``pretrain``: projector and branch; ``finetune``: and the LLM; ``lora``: and low-rank updates of the LLM."""
    dtype: str = "bf16"
    lora_rank: int = 128
    """LLaVA's ``lora_r``."""
    checkpointing: bool = True
    train_tower: bool = False
    attention: str = "sdpa"
    """``sdpa`` stands for every kernel that keeps no matrix of scores, flash-attention too; ``eager`` keeps it."""

    def __post_init__(self) -> None:
        one_of("stage", self.stage, STAGES)
        one_of("dtype", self.dtype, tuple(DTYPES))
        one_of("attention", self.attention, ("sdpa", "eager"))
        for option, value in (("batch", self.batch), ("lora-rank", self.lora_rank), ("text tokens", self.text)):
            if value < 1:
                raise FaceConfigError(f"--{option}: must be at least 1, not {value}")

    @property
    def bytes(self) -> int:
        """Of one weight."""
        return DTYPES[self.dtype].itemsize

    @property
    def tokens(self) -> int:
        """LLM tokens of a sample with face mode off."""
        return self.visual.tokens + self.text


@dataclass(frozen=True)
class Spread:
    """How the states of a model lie on the GPUs. ``zero`` 0: no DeepSpeed, DistributedDataParallel on several GPUs."""

    gpus: int = 1
    zero: int = 3
    offload: str = "none"
    accumulation: int = 1
    optimizer: str = "adamw_torch"

    def __post_init__(self) -> None:
        one_of("optim", self.optimizer, OPTIMIZERS)
        one_of("zero", self.zero, (0, 1, 2, 3))
        one_of("offload", self.offload, OFFLOADS)
        if self.gpus < 1 or self.accumulation < 1:
            raise FaceConfigError("--gpus and --grad-accum must be at least 1")
        if self.offload != "none" and self.zero == 0:
            raise FaceConfigError("--offload needs DeepSpeed: --zero 1, 2 or 3")
        if self.offloads_parameters and self.zero != 3:
            raise FaceConfigError("--offload parameters needs --zero 3")

    @property
    def offloads_optimizer(self) -> bool:
        return self.offload in ("optimizer", "both")

    @property
    def offloads_parameters(self) -> bool:
        return self.offload in ("parameters", "both")
