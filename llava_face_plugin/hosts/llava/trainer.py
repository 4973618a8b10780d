"""What face mode adds to LLaVA's trainer: maps and labels in the batches, and each loss part in the log."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from ... import guard
from ...errors import FaceHostError
from ..patching import Patches
from .collator import FaceCollator
from .gate import unwrap

Wrap = Callable[..., Any]


def _none(tokenizer: Any) -> frozenset[int]:
    return frozenset()


def patch_trainer(
    module: ModuleType, patches: Patches, dataset: Wrap, markup: Callable[[Any], frozenset[int]] = _none
) -> None:
    """Wraps ``LLaVATrainer`` in place; a model without face mode passes straight through.

    ``dataset(base, face_config)`` makes the face dataset around upstream's. ``markup(tokenizer)`` are the ids that the
    training's template supervises in questions, too.
    """
    trainer = module.LLaVATrainer
    plain_init, plain_log = trainer.__init__, trainer.log

    @functools.wraps(plain_init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        model = unwrap(kwargs.get("model", args[0] if args else None))
        if model is not None:
            _wrap_data(model, kwargs, dataset)
            _prepare(model, kwargs)
            model.markup = markup(kwargs.get("tokenizer") or kwargs.get("processing_class"))
        plain_init(self, *args, **kwargs)

    @functools.wraps(plain_log)
    def log(self: Any, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        model = unwrap(self.model) if "loss" in logs else None
        if model is not None:
            parts = model.pop_loss_parts()
            logs = {
                **logs,
                **{k: round(self.accelerator.gather(v).mean().item(), 4) for k, v in parts.items()},
            }
        plain_log(self, logs, *args, **kwargs)

    plain_save, plain_load = trainer._save, trainer._load_from_checkpoint

    @functools.wraps(plain_save)
    def _save(self: Any, output_dir: str | None = None, *args: Any, **kwargs: Any) -> None:
        plain_save(self, output_dir, *args, **kwargs)
        if output_dir is not None and unwrap(self.model) is not None and _is_lora(self):
            _save_non_lora(self, Path(output_dir))

    @functools.wraps(plain_load)
    def _load_from_checkpoint(self: Any, checkpoint: str, *args: Any, **kwargs: Any) -> None:
        plain_load(self, checkpoint, *args, **kwargs)
        if unwrap(self.model) is not None and _is_lora(self):
            _load_non_lora(self, Path(checkpoint))

    patches.set(trainer, "__init__", __init__)
    patches.set(trainer, "_save", _save)
    patches.set(trainer, "_load_from_checkpoint", _load_from_checkpoint)
    patches.set(trainer, "log", log)


def _wrap_data(model: Any, kwargs: dict[str, Any], dataset: Wrap) -> None:
    for key in ("train_dataset", "eval_dataset"):
        if kwargs.get(key) is not None:
            kwargs[key] = dataset(kwargs[key], model.face_config)
    if kwargs.get("data_collator") is not None:
        kwargs["data_collator"] = FaceCollator(kwargs["data_collator"])


def _prepare(model: Any, kwargs: dict[str, Any]) -> None:
    """Before upstream's constructor: marks the config that every save will write."""
    if getattr(kwargs.get("args"), "n_gpu", 1) > 1:
        raise FaceHostError(
            "plain `python` on several GPUs makes torch's DataParallel, whose replicas lose the loss parts: start with "
            "torchrun or deepspeed, or set CUDA_VISIBLE_DEVICES to one GPU"
        )
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
    if generation is None or generation.do_sample:
        return
    if generation.temperature not in (None, 1.0) or generation.top_p not in (None, 1.0):
        generation.do_sample = True


# Upstream's LoRA checkpoints hold the adapter only: projector and branch are written at the very end, so a resumed
# run would go on with fresh ones. (DeepSpeed keeps its own copy of every trained weight.)

_NON_LORA = "non_lora_trainables.bin"


def _is_lora(trainer: Any) -> bool:
    return hasattr(trainer.model, "peft_config") and not trainer.is_deepspeed_enabled


def _non_lora(trainer: Any) -> dict[str, torch.nn.Parameter]:
    parameters = trainer.model.named_parameters()
    return {name: p for name, p in parameters if p.requires_grad and "lora_" not in name}


def _save_non_lora(trainer: Any, folder: Path) -> None:
    # Before trainer_state.json, which marks a checkpoint as whole: a kill in between leaves nothing to resume from.
    weights = {name: parameter.detach().cpu().clone() for name, parameter in _non_lora(trainer).items()}
    torch.save(weights, folder / _NON_LORA)


def _load_non_lora(trainer: Any, folder: Path) -> None:
    path = folder / _NON_LORA
    if not path.exists():
        raise FaceHostError(
            f"{folder} holds no {_NON_LORA}: its projector and face branch cannot be resumed; was it saved without "
            "the plugin?"
        )
    weights = torch.load(path, map_location="cpu", weights_only=True)
    if set(weights) != set(_non_lora(trainer)):
        odd = sorted(set(weights) ^ set(_non_lora(trainer)))
        raise FaceHostError(f"{path} does not fit this run: {odd[:3]}")
    trainer.model.load_state_dict(weights, strict=False)
