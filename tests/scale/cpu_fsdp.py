"""FSDP over CPU ranks: accelerate shards only over ranks that have an accelerator each."""

from __future__ import annotations

import os
from typing import Any

from accelerate import state


def install() -> None:
    """Has accelerate take launched CPU ranks for such, where FSDP is asked for. Their device stays the CPU."""
    original = state.PartialState._prepare_backend

    def prepare(self: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        backend, kind = original(self, *args, **kwargs)
        wanted = os.environ.get("ACCELERATE_USE_FSDP") == "true" and kind == state.DistributedType.MULTI_CPU
        return backend, state.DistributedType.MULTI_GPU if wanted else kind

    state.PartialState._prepare_backend = prepare  # type: ignore[method-assign]
