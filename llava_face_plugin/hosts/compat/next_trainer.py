"""Shims for LLaVA-NeXT's llava/train/llava_trainer.py. ``trnames``: before it runs; the others: after it.

Each wraps the attribute it finds, so that wrappers of others (the face hook's) stay in the chain.
"""

from __future__ import annotations

import builtins
import dis
import functools
import os
from types import FunctionType
from typing import Any

import torch

from ...errors import FaceHostError
from .next_shim import NextShim, imports_gone
from .shim import parameters_of, patch

_TRAINER = "train/llava_trainer.py"


def _trainer_names_moved() -> bool:
    return bool(imports_gone(_TRAINER, "transformers.trainer"))


def _mend_trainer_names() -> None:
    """Gives ``transformers.trainer`` back the names that it no longer imports itself.

    The list of norms has Llama's in it, as on 4.40: without, ``--weight_decay`` would reach every Llama RMSNorm.
    """
    import transformers.trainer
    from accelerate.utils import GradientAccumulationPlugin
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.pytorch_utils import ALL_LAYERNORM_LAYERS

    norms = [*ALL_LAYERNORM_LAYERS, *({LlamaRMSNorm} - set(ALL_LAYERNORM_LAYERS))]
    at_hand = {"ALL_LAYERNORM_LAYERS": norms, "GradientAccumulationPlugin": GradientAccumulationPlugin}
    for name in imports_gone(_TRAINER, "transformers.trainer"):
        if name in at_hand:
            patch(transformers.trainer, name, at_hand[name])


def undefined_names(function: Any) -> set[str]:
    """The global names a Python function (not those nested in it) reads that neither its module nor Python has."""
    if not isinstance(function, FunctionType):
        return set()
    used = {step.argval for step in dis.get_instructions(function) if step.opname == "LOAD_GLOBAL"}
    return used - set(function.__globals__) - set(vars(builtins))


def _loop_lacks_imports() -> bool:
    from llava.train.llava_trainer import LLaVATrainer

    return bool(undefined_names(vars(LLaVATrainer).get("_inner_training_loop")))


def _mend_training_loop() -> None:
    """Trainer's own loop again. Upstream's copy of it serves ``--trainer_mode zo`` (MeZO) alone, which is refused."""
    from llava.train.llava_trainer import LLaVATrainer
    from transformers import Trainer

    # wraps: accelerate counts the parameters of this method when --auto_find_batch_size is on.
    @functools.wraps(Trainer._inner_training_loop)
    def _inner_training_loop(self: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(self, "trainer_mode", "regular") != "regular":
            raise FaceHostError(
                f"--trainer_mode {self.trainer_mode}: the training loop that this LLaVA-NeXT has for it lacks its "
                "imports (llava/train/llava_trainer.py, commit 45f2d92) and cannot run; only 'regular' can be mended"
            )
        return super(LLaVATrainer, self)._inner_training_loop(*args, **kwargs)

    patch(LLaVATrainer, "_inner_training_loop", _inner_training_loop)


def _accelerator_reads_dropped_argument() -> bool:
    from llava.train.llava_trainer import LLaVATrainer
    from transformers import TrainingArguments

    method = vars(LLaVATrainer).get("create_accelerator_and_postprocess")
    if method is None or hasattr(TrainingArguments, "dispatch_batches"):
        return False
    code = method.__code__
    # Among the constants stands what hasattr or getattr asks for: a checkout that does so is mended.
    return "dispatch_batches" in code.co_names and "dispatch_batches" not in code.co_consts


def _mend_accelerator() -> None:
    """Trainer's own accelerator. Upstream's would also divide each loss by the accumulation steps a second time."""
    from llava.train.llava_trainer import LLaVATrainer

    def create_accelerator_and_postprocess(self: Any) -> None:
        super(LLaVATrainer, self).create_accelerator_and_postprocess()

    patch(LLaVATrainer, "create_accelerator_and_postprocess", create_accelerator_and_postprocess)


def _checkpoint_hands_on_metrics() -> bool:
    from llava.train.llava_trainer import LLaVATrainer
    from transformers import Trainer

    own = vars(LLaVATrainer).get("_save_checkpoint")
    return own is not None and "metrics" in parameters_of(own) - parameters_of(Trainer._save_checkpoint)


def _mend_save_checkpoint() -> None:
    """``Trainer._save_checkpoint`` takes the ``metrics`` that upstream's hands on, and drops them."""
    from transformers import Trainer

    original = Trainer._save_checkpoint

    @functools.wraps(original)
    def _save_checkpoint(self: Any, model: Any, trial: Any, metrics: Any = None) -> None:
        original(self, model, trial)

    patch(Trainer, "_save_checkpoint", _save_checkpoint)


def _workers_are_seeded_with_more() -> bool:
    from llava.train import llava_trainer

    seed_worker = getattr(llava_trainer, "seed_worker", None)
    if seed_worker is None or not {"num_workers", "rank"} <= parameters_of(seed_worker):
        return False
    return "partial" not in llava_trainer.LLaVATrainer.get_train_dataloader.__code__.co_names  # a mended checkout


def _mend_seed_worker() -> None:
    """Upstream hands Trainer's function to the DataLoader as it is; by now it asks for two more arguments."""
    from llava.train import llava_trainer

    patch(llava_trainer, "seed_worker", _SeedWorker(llava_trainer.seed_worker))


class _SeedWorker:
    """An object, for a worker that is spawned gets it pickled."""

    def __init__(self, plain: Any) -> None:
        self.plain = plain

    def __call__(self, worker_id: int) -> None:
        workers = torch.utils.data.get_worker_info().num_workers  # type: ignore[union-attr]
        self.plain(worker_id, num_workers=workers, rank=int(os.environ.get("RANK", "0")))


NEXT_TRAINER_SHIMS: tuple[NextShim, ...] = (
    NextShim(
        key="trnames",
        where="llava/train/llava_trainer.py:14",
        breaks_on="transformers 4.57",
        symptom="ImportError: cannot import name 'ALL_LAYERNORM_LAYERS' from 'transformers.trainer'",
        moment="before_trainer",
        needed=_trainer_names_moved,
        mend=_mend_trainer_names,
        opt_in=True,
    ),
    NextShim(
        key="loop",
        where="llava/train/llava_trainer.py:692",
        breaks_on="any transformers, since 45f2d92 (2025-06)",
        symptom="NameError: name 'DebugOption' is not defined (or 'math')",
        moment="trainer",
        needed=_loop_lacks_imports,
        mend=_mend_training_loop,
    ),
    NextShim(
        key="acc",
        where="llava/train/llava_trainer.py:473",
        breaks_on="transformers 4.57",
        symptom="AttributeError: 'TrainingArguments' object has no attribute 'dispatch_batches'",
        moment="trainer",
        needed=_accelerator_reads_dropped_argument,
        mend=_mend_accelerator,
        opt_in=True,
    ),
    NextShim(
        key="ckpt",
        where="llava/train/llava_trainer.py:684",
        breaks_on="transformers 4.57",
        symptom="TypeError: Trainer._save_checkpoint() takes 3 positional arguments but 4 were given",
        moment="trainer",
        needed=_checkpoint_hands_on_metrics,
        mend=_mend_save_checkpoint,
        opt_in=True,
    ),
    NextShim(
        key="seed",
        where="llava/train/llava_trainer.py:570",
        breaks_on="transformers 4.57",
        symptom="TypeError: seed_worker() missing 2 required positional arguments: 'num_workers' and 'rank'",
        moment="trainer",
        needed=_workers_are_seeded_with_more,
        mend=_mend_seed_worker,
        opt_in=True,
    ),
)
