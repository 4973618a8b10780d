"""Where the bytes of a run lie: on each GPU and in the host's memory, by the rules of ZeRO.

Weights, gradients and optimizer states as in Rajbhandari et al. 2020 (ZeRO, arXiv 1910.02054, section 3), with AdamW;
buffers as LLaVA's zero2.json and zero3.json set them. Constants that are ours say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .skeleton import FACE_VIT, FACIAL
from .tracing import GRADIENTS, Traced
from .work import Spread, Work

GIB = 2**30
CONTEXT = GIB
"""CUDA's context, cuBLAS's and NCCL's own memory. Our assumption."""
LIVE_PARAMETERS = 10**9
"""Weights gathered at a time: ``stage3_max_live_parameters`` and ``..._reuse_distance`` of LLaVA's zero3.json."""
SUB_GROUP = 10**9
"""``sub_group_size`` of LLaVA's zero3.json: trained parameters that a process updates at a time."""
FLATTENING = 3
"""Copies of a partition's gradients that ZeRO-1 and 2 hold while they make one in fp32 (measured: docs/plan.md)."""
WEIGHTS, OPTIMIZER, BUFFERS, STEP = "weights", "optimizer states", "communication buffers", "step's copies"
OVERHEAD = "CUDA context"


@dataclass(frozen=True)
class Moment:
    """Bytes on one GPU at one moment of a step, by part."""

    name: str
    parts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True)
class Memory:
    """A process's two full moments, and its share of the host's memory under offload."""

    moments: tuple[Moment, Moment]
    host: int

    @property
    def peak(self) -> Moment:
        return max(self.moments, key=lambda moment: moment.total)


def keeps_gradients(spread: Spread) -> bool:
    """Whether gradients pile up while activations go; else they are partitioned, or all there from before."""
    return spread.zero < 2 and spread.accumulation == 1


def memory(traced: Traced, work: Work, spread: Spread, text: Mapping[str, Any]) -> Memory:
    """Of one GPU.

    Args:
        traced: of a step with gradients kept as ``keeps_gradients`` says.
        text: the language model's shapes, from which Trainer sets DeepSpeed's bucket sizes.
    """
    trained, frozen = sum(traced.trained.values()), sum(traced.frozen.values())
    outside = traced.frozen.get(FACE_VIT, 0) + traced.frozen.get(FACIAL, 0)  # of the model: no ZeRO partitions them
    gpus, size = spread.gpus, work.bytes
    share = gpus if spread.zero == 3 else 1
    weights = (trained + frozen - outside) * size // share
    gradients = trained * size // (gpus if spread.zero >= 2 else 1)
    states = trained * _state_bytes(spread, size) // (gpus if spread.zero else 1)
    host = 0
    if spread.offloads_parameters:
        host, weights = host + weights, 0
    if spread.offloads_optimizer:
        # DeepSpeed's CPU optimizer: states, and the partition's gradients in fp32
        host, states, gradients = host + states + 4 * trained // gpus, 0, 0
    weights += outside * size
    piling = traced.alive.get(GRADIENTS, 0) if keeps_gradients(spread) else gradients
    alive = {part: size for part, size in traced.alive.items() if part != GRADIENTS}
    buffers = _buffers(trained, frozen - outside, size, spread, text)
    running = {
        WEIGHTS: weights, GRADIENTS: piling, OPTIMIZER: states, **alive, BUFFERS: buffers, OVERHEAD: CONTEXT,
    }  # fmt: skip
    if spread.zero == 1:
        gradients //= gpus  # the others' are given up before the step
    copies = _step_copies(trained, size, spread)
    stepping = {WEIGHTS: weights, GRADIENTS: gradients, OPTIMIZER: states, STEP: copies, OVERHEAD: CONTEXT}
    return Memory((Moment("forward and backward", running), Moment("optimizer step", stepping)), host)


def _state_bytes(spread: Spread, size: int) -> int:
    """Of one trained parameter: two moments, in DeepSpeed in fp32 beside an fp32 copy of the weight."""
    return 4 + 8 if spread.zero else 2 * size


def _step_copies(trained: int, size: int, spread: Spread) -> int:
    """AdamW's copy of its second moments; in DeepSpeed also the partition's gradients in fp32, flattened before."""
    if spread.offloads_optimizer:
        return 0
    moments = 1 if spread.optimizer == "adamw_torch" else 0
    if not spread.zero:
        return moments * trained * size
    own = trained // spread.gpus
    if spread.zero == 3:
        return (4 + 4 * moments) * min(own, SUB_GROUP)
    return max(FLATTENING * size + 4, 4 + 4 * moments) * own


def _buffers(trained: int, frozen: int, size: int, spread: Spread, text: Mapping[str, Any]) -> int:
    """Buckets of gradients (two, for they overlap with the backward), and under ZeRO-3 gathered weights."""
    if spread.gpus == 1 and not spread.offloads_parameters:
        return 0
    if spread.zero == 0:
        return trained * size  # DistributedDataParallel's buckets hold all gradients once more
    bucket = min(int(text["hidden_size"]) ** 2, trained)  # "auto" in LLaVA's files: Trainer's hidden_size ** 2
    gathered = min(LIVE_PARAMETERS, trained + frozen) if spread.zero == 3 else 0
    return (2 * bucket + gathered) * size
