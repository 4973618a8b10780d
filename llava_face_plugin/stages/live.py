"""``--check``: the plan against a live model, set up by the host itself."""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

from .. import guard
from ..errors import FaceConfigError, FaceHostError
from ..model_files import read_config
from .count import Counts
from .hosts import apply, flags
from .parts import ROWS, in_stage, part_of
from .plan import Stage, StageFile


def trained_parts(plan: StageFile, stage: Stage, found: Counts, model_dir: Path, tower: str | None) -> dict[str, int]:
    """Part -> parameters that really have ``requires_grad`` in the host's model.

    LLaVA's two packages: upstream's own ``train()`` sets the model up by the stage's flags, and is stopped where it
    would begin to train. transformers: the model is loaded, and ``hosts.apply`` sets it up. Loads all weights; raises
    ``FaceHostError`` where the host is not installed, or does not take this model.
    """
    if found.family == "transformers":
        return apply(stage, _loaded(model_dir))
    host = _host()
    own = [part for name, value in flags(plan, stage, host, facial_trained=found.facial_trained)
           for part in (f"--{name}", value)]  # fmt: skip
    model = _set_up(model_dir, tower, [*own, *_special(host, model_dir)])
    trained: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part = part_of(name)
            trained[part] = trained.get(part, 0) + parameter.numel()
    return trained


def differences(stage: Stage, found: Counts, trained: dict[str, int]) -> list[str]:
    """Where a live model does not train what the stage says, a sentence each; empty if it does.

    LoRA adapters are only looked for: how many parameters they have depends on rank and targets.
    """
    told = []
    for part in ROWS:
        wanted = found.parts.get(part, 0) if in_stage(part, stage.trainable) else 0
        have = trained.get(part, 0)
        if part == "lora":
            if in_stage(part, stage.trainable) != bool(have):
                told.append(f"{part}: {have:,} parameters are trained")
        elif wanted != have:
            told.append(f"{part}: {have:,} parameters are trained, the stage says {wanted:,}")
    return told


class _Stop(Exception):
    """Raised in place of training, with the model as upstream has set it up."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model


class _Caught:
    """Stands in for ``LLaVATrainer``."""

    def __init__(self, model: Any, **_: Any) -> None:
        raise _Stop(model)


def _loaded(model_dir: Path) -> Any:
    from transformers import AutoModelForImageTextToText

    from ..hosts import hf

    hf.register()
    return AutoModelForImageTextToText.from_pretrained(str(model_dir))


def _tower(model_dir: Path, given: str | None) -> str:
    """The tower's folder or name, as given or as the config has it."""
    own = given or read_config(model_dir).get("mm_vision_tower")
    if not isinstance(own, str) or own == guard.TOWER_MARK:
        raise FaceConfigError(f"{model_dir}: it names no vision tower: --check needs --vision-tower, a folder")
    return own


def _host() -> str:
    """Which of LLaVA's packages is here, as ``hosts.flags`` calls it."""
    from ..hosts.llava.which import kind

    found = {"llava_v1": "llava", "llava_next": "llava-next"}.get(str(kind()))
    if found is None:
        raise FaceHostError("neither LLaVA 1.5's package llava nor LLaVA-NeXT's can be imported: --check needs one")
    return found


def _special(host: str, model_dir: Path) -> list[str]:
    """What besides the stage's flags the host needs for such a model."""
    qwen = "qwen" in str(read_config(model_dir).get("model_type", ""))
    if host == "llava":
        if qwen:
            raise FaceHostError(f"{model_dir}: LLaVA 1.5's package, which is installed, has no Qwen: use LLaVA-NeXT's")
        return ["--version", "v1"]
    return ["--version", "qwen_1_5" if qwen else "v1", "--attn_implementation", "sdpa"]


def _set_up(model_dir: Path, tower: str | None, own: list[str]) -> Any:
    from ..hosts import loader

    loader.activate()
    try:
        import llava.train.train as upstream
    except ImportError as error:
        raise FaceHostError(f"llava cannot be imported ({error})") from error
    with tempfile.TemporaryDirectory(prefix="stages_check_") as folder:
        data = Path(folder) / "data.json"
        data.write_text(json.dumps([]), encoding="utf-8")
        arguments = [
            "train.py", "--model_name_or_path", str(model_dir), "--vision_tower", _tower(model_dir, tower),
            "--data_path", str(data), "--mm_projector_type", "mlp2x_gelu", "--mm_vision_select_layer", "-2",
            "--mm_use_im_start_end", "False", "--mm_use_im_patch_token", "False", "--output_dir", folder,
            "--report_to", "none", *own,
        ]  # fmt: skip
        with (
            mock.patch.object(sys, "argv", arguments),
            mock.patch.object(upstream, "LLaVATrainer", _Caught),
            redirect_stdout(sys.stderr),
        ):
            try:
                upstream.train()
            except _Stop as stop:
                return stop.model
            except (ValueError, OSError) as error:  # such as LLaVA-NeXT's, which picks the model's class by the path
                raise FaceHostError(f"{model_dir}: upstream's train() refuses it ({error})") from error
    raise FaceHostError("upstream's train() ended without a trainer: this LLaVA is not one that is known")
