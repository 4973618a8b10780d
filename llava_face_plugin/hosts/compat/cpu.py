"""Dry runs of llava's GPU-only scripts on a machine without a GPU. For dry runs and tests only.

Opt-in: nothing happens unless the environment has ``LLAVA_FACE_CPU_DRY_RUN=1`` and torch finds no CUDA
device. Each shim waits for its module to be imported: ``install_cpu_dry_run`` loads neither torch nor llava.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from types import ModuleType
from typing import Any

from ..environment import CPU_SWITCH
from ..imports import when_imported
from ..patching import Patches


@dataclass(frozen=True)
class CpuShim:
    """One thing that stops llava on a CPU."""

    key: str
    module: str
    """The module after whose import the mend runs."""
    why: str
    mend: Callable[[Any], None]


_patches = Patches()
_applied: list[str] = []


def _skip_synchronize(torch: Any) -> None:
    _patches.set(torch.cuda, "synchronize", lambda device=None: None)


def _move_to_cpu(torch: Any) -> None:
    original_to = torch.Tensor.to

    def on_cpu(target: Any) -> Any:
        if isinstance(target, str) and target.startswith("cuda"):
            return "cpu"
        if isinstance(target, torch.device) and target.type == "cuda":
            return torch.device("cpu")
        return target

    def to(self: Any, *args: Any, **kwargs: Any) -> Any:
        if "device" in kwargs:
            kwargs["device"] = on_cpu(kwargs["device"])
        return original_to(self, *map(on_cpu, args), **kwargs)

    _patches.set(torch.Tensor, "to", to)
    _patches.set(torch.Tensor, "cuda", lambda self, *args, **kwargs: self)


def _leave_group() -> None:
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        with contextlib.suppress(RuntimeError):  # a rank that has failed does not come
            distributed.monitored_barrier(timeout=timedelta(seconds=20))
        distributed.destroy_process_group()


def _leave_group_at_exit(torch: Any) -> None:
    atexit.register(_leave_group)


def _plain_attention(llava: Any) -> None:
    cls = llava.LlavaLlamaForCausalLM
    original = cls.from_pretrained.__func__

    def from_pretrained(cls: type, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("attn_implementation") == "flash_attention_2":
            kwargs["attn_implementation"] = "sdpa"
        return original(cls, *args, **kwargs)

    _patches.set(cls, "from_pretrained", classmethod(from_pretrained))


def _allow_bf16(training_args: Any) -> None:
    _patches.set(training_args, "is_torch_bf16_gpu_available", lambda: True)


def _distribute_over_gloo(state: Any) -> None:
    original = state.PartialState._prepare_backend

    def _prepare_backend(self: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        backend, kind = original(self, *args, **kwargs)
        launched = int(os.environ.get("LOCAL_RANK", "-1")) != -1
        if launched and kind == state.DistributedType.NO:
            return "gloo", state.DistributedType.MULTI_CPU
        return backend, kind

    _patches.set(state.PartialState, "_prepare_backend", _prepare_backend)


def _use_gloo_only(comm: Any) -> None:
    _patches.set(comm, "build_shm_op", lambda: None)


CPU_SHIMS: tuple[CpuShim, ...] = (
    CpuShim("sync", "torch", "train.py:210 calls torch.cuda.synchronize()", _skip_synchronize),
    CpuShim("cuda2cpu", "torch", "llava/eval/*.py move tensors to 'cuda' by name", _move_to_cpu),
    CpuShim(
        "pgexit",
        "torch",
        "a rank that exits inside its gloo group may abort (-6), with all saved",
        _leave_group_at_exit,
    ),
    CpuShim("attn", "llava", "train_mem.py:4 asks for flash_attention_2", _plain_attention),
    CpuShim("bf16gate", "transformers.training_args", "--bf16 True is refused without a GPU", _allow_bf16),
    CpuShim(
        "accelcpu",
        "accelerate.state",
        "accelerate takes launched CPU ranks for single processes: deepspeed stops, torchrun trains N models",
        _distribute_over_gloo,
    ),
    CpuShim("noshm", "deepspeed.comm.torch", "a C++ build of minutes; gloo does the job", _use_gloo_only),
)


def is_dry_run() -> bool:
    """True if the environment asks for a CPU dry run (whether there is a GPU is only known once torch is)."""
    return os.environ.get(CPU_SWITCH) == "1"


def install_cpu_dry_run() -> bool:
    """Has every CPU shim wait for its module; returns ``is_dry_run()``. Imports nothing, may be repeated."""
    if is_dry_run():
        for shim in CPU_SHIMS:
            if shim.key not in _applied:
                when_imported(shim.module, after=_mend_without_cuda(shim))
    return is_dry_run()


def mend_on_cpu(module: str) -> None:
    """Applies the CPU shims of an imported module now, as the wait for it would have."""
    for shim in CPU_SHIMS:
        if shim.module == module:
            _mend_without_cuda(shim)(sys.modules[module])


def _mend_without_cuda(shim: CpuShim) -> Callable[[ModuleType], None]:
    def mend(module: ModuleType) -> None:
        import torch

        # Waited for twice if installed twice, or again after imports.forget().
        if shim.key not in _applied and not torch.cuda.is_available():
            shim.mend(module)
            _applied.append(shim.key)

    return mend


def cpu_applied() -> tuple[str, ...]:
    """The keys of the CPU shims in force in this process."""
    return tuple(_applied)


def undo_cpu_dry_run() -> None:
    """Takes the CPU shims in force back (those still waiting for their module go with ``imports.forget``)."""
    _patches.undo()
    atexit.unregister(_leave_group)
    _applied.clear()
