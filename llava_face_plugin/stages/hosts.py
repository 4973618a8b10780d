"""A stage in each host's own terms: the flags of upstream's scripts, or patterns of parameter names.

Upstream's scripts know three groups: the tower, everything under ``mm_projector`` (where the face branch hangs), and
the language model. What cannot be said in these is refused, not approximated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import FaceConfigError
from ..registry import unknown_name
from .parts import in_stage, part_of
from .plan import Stage, StageFile

ADAPTER = ("facial", "fusion", "projector")
"""The parts under ``mm_projector``: trained together, or not at all."""

Flags = list[tuple[str, str]]
"""Names of flags and their values, as upstream's argument parsers take them."""


def flags(plan: StageFile, stage: Stage, host: str, *, facial_trained: bool = False) -> Flags:
    """The flags by which ``host`` (``llava`` or ``llava-next``) trains what the stage names, and its rates.

    ``facial_trained``: ``face.facial.trained`` of the model; a frozen facial encoder is no part of the model's tree.
    Raises ``FaceConfigError`` naming file and stage for what the host's scripts cannot do.
    """
    if host not in _FLAGS:
        raise FaceConfigError(unknown_name("host with training scripts", host, _FLAGS))
    where = f"stages {plan.name}, stage {stage.name}"
    adapter = _adapter(stage, where, host, facial_trained)
    found = _FLAGS[host](stage, where, adapter)
    found += [("learning_rate", f"{stage.learning_rate:g}"), ("num_train_epochs", f"{stage.epochs:g}")]
    if stage.projector_learning_rate is not None and adapter:
        found.append(("mm_projector_lr", f"{stage.projector_learning_rate:g}"))
    return found


def apply(stage: Stage, model: Any) -> dict[str, int]:
    """Sets ``requires_grad`` of every parameter of a model of transformers; returns the trained ones by part.

    For training scripts of one's own. Raises ``FaceConfigError`` if the stage trains a part that the model lacks.
    """
    trained: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = part_of(name)
        parameter.requires_grad_(in_stage(part, stage.trainable))
        if parameter.requires_grad:
            trained[part] = trained.get(part, 0) + parameter.numel()
    missing = [part for part in stage.trainable if part not in trained]
    if missing:
        hint = {
            "facial": " (face.facial.trained is false, or there is none)",
            "lora": " (add it with PEFT first: neither train_hf.py nor --check does)",
        }
        raise FaceConfigError(
            f"stage {stage.name} trains {missing[0]}, which this model has no parameters of{hint.get(missing[0], '')}"
        )
    return trained


def patterns(stage: Stage) -> list[str]:
    """Regular expressions of the parameters that are trained, as transformers names them (``re.search``)."""
    plain = r"^(?!.*(lora_|original_module\.))"  # PEFT keeps the module that it has copied, frozen, as original_module
    copy = r"(modules_to_save\.[^.]+\.)?"
    inside = plain + r".*multi_modal_projector\." + copy
    known = {
        "tower": [plain + r".*vision_tower\."],
        "facial": [inside + r"face\." + copy + r"facial\."],
        "fusion": [inside + r"face\." + copy + r"(fusion|adapter|segmentation|knowledge)\."],
        "projector": [inside + r"(?!face\.|modules_to_save\.)"],
        "llm": [plain + r"(?!.*(vision_tower|multi_modal_projector)\.)"],
        "lora": [r"^(?!.*original_module\.).*lora_"],
    }
    return [pattern for part in stage.trainable for pattern in known[part]]


def _adapter(stage: Stage, where: str, host: str, facial_trained: bool) -> bool:
    """Whether what is under ``mm_projector`` is trained. Raises where only some of it would be."""
    have = [part for part in ADAPTER if part != "facial" or facial_trained]
    wanted = [part for part in have if part in stage.trainable]
    if "facial" in stage.trainable and not facial_trained:
        raise FaceConfigError(
            f"{where}: it trains the facial encoder, but face.facial.trained is false: "
            "`llava-face enable MODEL_DIR --set facial.trained=true`"
        )
    if wanted and wanted != have:
        left = ", ".join(part for part in have if part not in wanted)
        raise FaceConfigError(
            f"{where}: the scripts of {host} train all that is under mm_projector or none of it: {', '.join(wanted)} "
            f"cannot be trained with {left} frozen (transformers can: --print-command transformers)"
        )
    return bool(wanted)


def _llava(stage: Stage, where: str, adapter: bool) -> Flags:
    if "tower" in stage.trainable:
        raise FaceConfigError(f"{where}: LLaVA 1.5's scripts never train the vision tower")
    if "lora" in stage.trainable:
        return [*_lora(stage), *([] if adapter else [("freeze_mm_mlp_adapter", "True")])]
    if "llm" in stage.trainable:
        return [] if adapter else [("freeze_mm_mlp_adapter", "True")]
    if not adapter:
        raise FaceConfigError(f"{where}: it trains nothing that LLaVA 1.5's scripts could train")
    return [("tune_mm_mlp_adapter", "True")]


def _llava_next(stage: Stage, where: str, adapter: bool) -> Flags:
    parts = ["mm_vision_tower"] * ("tower" in stage.trainable) + ["mm_mlp_adapter"] * adapter
    parts += ["mm_language_model"] * bool({"llm", "lora"} & set(stage.trainable))
    found: Flags = [("mm_tunable_parts", ",".join(parts))]
    if "tower" in stage.trainable and stage.tower_learning_rate is not None:
        found.append(("mm_vision_tower_lr", f"{stage.tower_learning_rate:g}"))
    return found + (_lora(stage) if "lora" in stage.trainable else [])


def _lora(stage: Stage) -> Flags:
    return [("lora_enable", "True"), ("lora_r", str(stage.lora_rank)), ("lora_alpha", str(stage.lora_alpha))]


_FLAGS: dict[str, Callable[[Stage, str, bool], Flags]] = {"llava": _llava, "llava-next": _llava_next}
HOSTS = (*_FLAGS, "transformers")
