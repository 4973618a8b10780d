"""What face mode adds to LLaVA's trainer: maps and labels in the batches, and each loss part in the log."""

from __future__ import annotations

import functools
import warnings
from types import ModuleType
from typing import Any

from . import guard
from .llava_v1 import unwrap
from .llava_v1_data import FaceCollator, FaceDataset
from .patching import Patches


def patch_trainer(module: ModuleType, patches: Patches) -> None:
    """Wraps ``LLaVATrainer.__init__`` and ``log`` in place; a model without face mode passes straight through."""
    trainer = module.LLaVATrainer
    plain_init, plain_log = trainer.__init__, trainer.log

    @functools.wraps(plain_init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        model = unwrap(kwargs.get("model", args[0] if args else None))
        if model is not None:
            _prepare(model, kwargs)
        plain_init(self, *args, **kwargs)

    @functools.wraps(plain_log)
    def log(self: Any, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        model = unwrap(self.model) if "loss" in logs else None
        if model is not None:
            parts = model.pop_loss_parts()
            logs = {**logs, **{k: round(self.accelerator.gather(v).mean().item(), 4) for k, v in parts.items()}}
        plain_log(self, logs, *args, **kwargs)

    patches.set(trainer, "__init__", __init__)
    patches.set(trainer, "log", log)


def _prepare(model: Any, kwargs: dict[str, Any]) -> None:
    """Before upstream's constructor: wraps data, and marks the config that every save will write."""
    for key in ("train_dataset", "eval_dataset"):
        if kwargs.get(key) is not None:
            kwargs[key] = FaceDataset(kwargs[key], model.face_config)
    if kwargs.get("data_collator") is not None:
        kwargs["data_collator"] = FaceCollator(kwargs["data_collator"])
    config = model.config
    config.mm_projector_type = guard.PROJECTOR_MARK + guard.plain_projector(config.mm_projector_type)
    if not all(p.requires_grad for p in model.get_model().mm_projector.face.parameters()):
        warnings.warn(
            "face mode is on, but its parameters are frozen (--freeze_mm_mlp_adapter); they will not train",
            stacklevel=2,
        )
    _mend_generation_config(model)


def _mend_generation_config(model: Any) -> None:
    # Vicuna 1.5 ships temperature and top_p without do_sample; transformers refuses to save that, after the
    # whole training (haotian-liu/LLaVA#1144).
    generation = getattr(model, "generation_config", None)
    if generation is not None and not generation.do_sample:
        if generation.temperature not in (None, 1.0) or generation.top_p not in (None, 1.0):
            generation.do_sample = True
