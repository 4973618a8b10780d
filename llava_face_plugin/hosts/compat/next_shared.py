"""Breaks that LLaVA-NeXT shares with llava 1.2.2: dropped flags, and what deepspeed and torch do to its trainer.

LLaVA-NeXT's trainer takes keywords only. So the last has a mend of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .next_shim import NextShim
from .shim import patch
from .trainer import TRAINER_SHIMS, cast_fp32_parameters


def _mend_deepspeed_cast() -> None:
    """The whole model is in the half type when training starts, as deepspeed saw to before 0.19.2."""
    from llava.train.llava_trainer import LLaVATrainer

    original = LLaVATrainer.__init__

    def __init__(self: Any, **kwargs: Any) -> None:
        if kwargs.get("model") is not None and kwargs.get("args") is not None:
            cast_fp32_parameters(kwargs["model"], kwargs["args"])
        original(self, **kwargs)

    patch(LLaVATrainer, "__init__", __init__)


def _shared(key: str, where: str, mend: Callable[[], None] | None = None) -> NextShim:
    shim = next(s for s in TRAINER_SHIMS if s.key == key)
    return NextShim(key, where, shim.breaks_on, shim.symptom, shim.moment, shim.needed, mend or shim.mend)


NEXT_SHARED_SHIMS: tuple[NextShim, ...] = (
    _shared("argv", "scripts/train/*.sh"),
    _shared("z3int", "transformers/integrations/deepspeed.py:243"),
    _shared("groups", "llava/train/llava_trainer.py:625"),
    _shared("dscast", "llava/model/llava_arch.py:104", _mend_deepspeed_cast),
)
