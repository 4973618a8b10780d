"""Shims for llava/train/llava_trainer.py, the flags of scripts/v1_5/*.sh, and deepspeed.

Moments: ``lnlayers`` before llava_trainer.py runs, the others after it. Each wraps the attribute it finds,
so that wrappers of others (the face hook wraps ``LLaVATrainer.__init__`` too) stay in the chain.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Container, Sequence
from typing import Any

from .shim import Shim, parameters_of, patch, release_of

RENAMED_FLAGS = {"--evaluation_strategy": "--eval_strategy", "--warmup_ratio": "--warmup_steps"}
"""Flags of scripts/v1_5/*.sh that newer ``TrainingArguments`` dropped (5.x: warmup steps < 1 are a ratio)."""


def _layernorm_list_moved() -> bool:
    import transformers.trainer

    return not hasattr(transformers.trainer, "ALL_LAYERNORM_LAYERS")


def _mend_layernorm_list() -> None:
    """Gives ``transformers.trainer`` the list back, with Llama's norm in it, as 4.37.2 had.

    Newer lists hold ``nn.LayerNorm`` alone: LLaVATrainer would then apply weight decay to every RMSNorm.
    """
    import transformers.trainer
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.pytorch_utils import ALL_LAYERNORM_LAYERS

    layers = [*ALL_LAYERNORM_LAYERS, *({LlamaRMSNorm} - set(ALL_LAYERNORM_LAYERS))]
    patch(transformers.trainer, "ALL_LAYERNORM_LAYERS", layers)


def renamed_flags(argv: Sequence[str], known: Container[str]) -> list[str]:
    """``argv`` with each dropped flag under its new name, if only the new name is ``known``.

    A flag whose new name stands in ``argv`` already is left alone: the parser then refuses it by name.
    """
    given = {word.partition("=")[0] for word in argv}
    renamed = []
    for word in argv:
        flag, equals, value = word.partition("=")
        new = RENAMED_FLAGS.get(flag)
        if new is not None and flag not in known and new in known and new not in given:
            flag = new
        renamed.append(flag + equals + value)
    return renamed


def _flags_dropped() -> bool:
    from transformers import TrainingArguments

    fields = {f"--{name}" for name in TrainingArguments.__dataclass_fields__}
    return any(old not in fields and new in fields for old, new in RENAMED_FLAGS.items())


def _mend_argv() -> None:
    """The command line's dropped flags reach the parser under their new names."""
    from transformers import HfArgumentParser

    original = HfArgumentParser.parse_args_into_dataclasses

    def parse_args_into_dataclasses(self: Any, args: Any = None, *rest: Any, **kwargs: Any) -> Any:
        if args is None:
            args = renamed_flags(sys.argv[1:], self._option_string_actions)
        return original(self, args, *rest, **kwargs)

    patch(HfArgumentParser, "parse_args_into_dataclasses", parse_args_into_dataclasses)


def _sampler_gets_dataset() -> bool:
    from llava.train.llava_trainer import LLaVATrainer
    from transformers import Trainer

    sent = "train_dataset" in parameters_of(Trainer._get_train_sampler)
    return sent and "train_dataset" not in parameters_of(LLaVATrainer._get_train_sampler)


def _mend_sampler() -> None:
    """``_get_train_sampler`` accepts the data set that Trainer now sends: it is ``self.train_dataset``."""
    from llava.train.llava_trainer import LLaVATrainer

    original = LLaVATrainer._get_train_sampler

    def _get_train_sampler(self: Any, train_dataset: Any = None) -> Any:
        return original(self)

    patch(LLaVATrainer, "_get_train_sampler", _get_train_sampler)


def _checkpoint_without_metrics() -> bool:
    from transformers import Trainer

    return "metrics" not in parameters_of(Trainer._save_checkpoint)


def _mend_save_checkpoint() -> None:
    """Stage 1 keeps upstream's adapter-only checkpoint; every other run goes to Trainer's own method."""
    from llava.train.llava_trainer import LLaVATrainer

    original = LLaVATrainer._save_checkpoint

    def _save_checkpoint(self: Any, model: Any, trial: Any, metrics: Any = None) -> None:
        if getattr(self.args, "tune_mm_mlp_adapter", False):
            original(self, model, trial)
        else:
            super(LLaVATrainer, self)._save_checkpoint(model, trial)

    patch(LLaVATrainer, "_save_checkpoint", _save_checkpoint)


def _tokenizer_argument_gone() -> bool:
    from transformers import Trainer

    # 4.46 to 4.57 accept `tokenizer` through a decorator that the signature does not show.
    return release_of("transformers") >= (5,) and "tokenizer" not in parameters_of(Trainer.__init__)


def _mend_processing_class() -> None:
    """``LLaVATrainer(tokenizer=...)`` becomes ``processing_class=...``."""
    from llava.train.llava_trainer import LLaVATrainer

    original = LLaVATrainer.__init__

    def __init__(self: Any, *args: Any, tokenizer: Any = None, **kwargs: Any) -> None:
        if tokenizer is not None:
            kwargs.setdefault("processing_class", tokenizer)
        original(self, *args, **kwargs)

    patch(LLaVATrainer, "__init__", __init__)


def _prefetch_size_is_float() -> bool:
    # 4.43 writes int(0.9 * hidden_size**2); deepspeed's pydantic 2 models (0.15) refuse a float.
    return release_of("transformers") < (4, 43) and release_of("deepspeed") >= (0, 15)


def _mend_prefetch_size() -> None:
    """``stage3_prefetch_bucket_size: "auto"`` is filled with a whole number."""
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

    original = HfTrainerDeepSpeedConfig.fill_only

    def fill_only(self: Any, key: str, value: Any) -> None:
        if key == "zero_optimization.stage3_prefetch_bucket_size":
            value = int(value)
        original(self, key, value)

    patch(HfTrainerDeepSpeedConfig, "fill_only", fill_only)


def _empty_groups_stop_scheduler() -> bool:
    """torch zips groups and rates strictly (2.13 does), and the scheduler is built before deepspeed.

    transformers 5 builds it after deepspeed has dropped the empty groups, and needs nothing.
    """
    if not release_of("deepspeed") or release_of("transformers") >= (5,):
        return False
    import torch.optim.lr_scheduler

    return "strict=True" in inspect.getsource(torch.optim.lr_scheduler)


def _mend_empty_groups() -> None:
    """Drops parameter groups without parameters, under deepspeed only.

    Where torch does not zip strictly the shim stays away: LoRA runs would stop being the published recipe, in
    which the projector's weights in fact train with ``learning_rate`` and not ``mm_projector_lr``.
    """
    from llava.train.llava_trainer import LLaVATrainer

    original = LLaVATrainer.create_optimizer

    def create_optimizer(self: Any, *args: Any, **kwargs: Any) -> Any:
        optimizer = original(self, *args, **kwargs)
        # accelerate's stand-in for an optimizer that deepspeed itself makes has no groups yet.
        if self.is_deepspeed_enabled and hasattr(optimizer, "param_groups"):
            # In place: accelerate and the scheduler may hold this very list.
            optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
        return optimizer

    patch(LLaVATrainer, "create_optimizer", create_optimizer)


def _deepspeed_leaves_fp32() -> bool:
    return release_of("deepspeed") >= (0, 19, 2)


def cast_fp32_parameters(model: Any, args: Any) -> int:
    """Casts float32 parameters to the half type of a deepspeed run, in place; returns how many it cast.

    Nothing is cast unless ``args.deepspeed`` and one of ``args.bf16``, ``args.fp16`` are set. Parameters
    already partitioned by ZeRO-3 (``ds_id``) have deepspeed's own type and are left alone.
    """
    import torch

    if not args.deepspeed or not (args.bf16 or args.fp16):
        return 0
    half = torch.bfloat16 if args.bf16 else torch.float16
    left = [p for p in model.parameters() if p.dtype == torch.float32 and not hasattr(p, "ds_id")]
    for parameter in left:
        parameter.data = parameter.data.to(half)
    return len(left)


def _mend_deepspeed_cast() -> None:
    """What deepspeed did before 0.19.2: the whole model is in the half type when training starts.

    Upstream builds mm_projector in float32 (llava_arch.py:80), newer peft its LoRA weights too.
    """
    from llava.train.llava_trainer import LLaVATrainer

    original = LLaVATrainer.__init__

    def __init__(self: Any, model: Any = None, args: Any = None, *rest: Any, **kwargs: Any) -> None:
        if model is not None and args is not None:
            cast_fp32_parameters(model, args)
        original(self, model, args, *rest, **kwargs)

    patch(LLaVATrainer, "__init__", __init__)


TRAINER_SHIMS: tuple[Shim, ...] = (
    Shim(
        key="lnlayers",
        where="llava/train/llava_trainer.py:8",
        breaks_on="transformers 4.57, 5.23",
        symptom="ImportError: cannot import name 'ALL_LAYERNORM_LAYERS' from 'transformers.trainer'",
        moment="before_trainer",
        needed=_layernorm_list_moved,
        mend=_mend_layernorm_list,
    ),
    Shim(
        key="argv",
        where="scripts/v1_5/*.sh",
        breaks_on="transformers 4.57 (--evaluation_strategy), 5.23 (and --warmup_ratio)",
        symptom="ValueError: Some specified arguments are not used by the HfArgumentParser",
        moment="trainer",
        needed=_flags_dropped,
        mend=_mend_argv,
    ),
    Shim(
        key="sampler",
        where="llava/train/llava_trainer.py:135",
        breaks_on="transformers 4.57, 5.23",
        symptom="TypeError: LLaVATrainer._get_train_sampler() takes 1 positional argument but 2 were given",
        moment="trainer",
        needed=_sampler_gets_dataset,
        mend=_mend_sampler,
    ),
    Shim(
        key="savecp",
        where="llava/train/llava_trainer.py:249",
        breaks_on="transformers 4.57, 5.23",
        symptom="TypeError: Trainer._save_checkpoint() takes 3 positional arguments but 4 were given",
        moment="trainer",
        needed=_checkpoint_without_metrics,
        mend=_mend_save_checkpoint,
    ),
    Shim(
        key="procclass",
        where="llava/train/train.py:962",
        breaks_on="transformers >= 5.0",
        symptom="TypeError: Trainer.__init__() got an unexpected keyword argument 'tokenizer'",
        moment="trainer",
        needed=_tokenizer_argument_gone,
        mend=_mend_processing_class,
    ),
    Shim(
        key="z3int",
        where="transformers/integrations/deepspeed.py:228",
        breaks_on="transformers < 4.43 with deepspeed >= 0.15",
        symptom="ZeRO-3: ValidationError: stage3_prefetch_bucket_size Input should be a valid integer",
        moment="trainer",
        needed=_prefetch_size_is_float,
        mend=_mend_prefetch_size,
    ),
    Shim(
        key="groups",
        where="llava/train/llava_trainer.py:167",
        breaks_on="transformers 4.37, 4.57 with deepspeed and a torch that zips strictly",
        symptom="LoRA with mm_projector_lr: ValueError: zip() argument 2 is longer than argument 1",
        moment="trainer",
        needed=_empty_groups_stop_scheduler,
        mend=_mend_empty_groups,
    ),
    Shim(
        key="dscast",
        where="llava/model/llava_arch.py:80",
        breaks_on="deepspeed >= 0.19.2, any transformers",
        symptom="bf16 with ZeRO-3: AssertionError in zero/utils.py, or a float and BFloat16 mismatch",
        moment="trainer",
        needed=_deepspeed_leaves_fp32,
        mend=_mend_deepspeed_cast,
    ),
)
