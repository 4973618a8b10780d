"""The whole command of a stage: upstream's script, unchanged, with the paths as shell variables to be filled in."""

from __future__ import annotations

import shlex
from pathlib import Path

from ..errors import FaceConfigError
from ..registry import unknown_name
from .hosts import HOSTS, Flags, flags, patterns
from .plan import Stage, StageFile

_COMMON: Flags = [
    ("mm_projector_type", "mlp2x_gelu"), ("mm_vision_select_layer", "-2"), ("mm_use_im_start_end", "False"),
    ("mm_use_im_patch_token", "False"), ("group_by_modality_length", "True"), ("bf16", "True"), ("tf32", "True"),
    ("per_device_train_batch_size", "$BATCH"), ("gradient_accumulation_steps", "$ACCUMULATION"),
    ("evaluation_strategy", "no"), ("save_strategy", "steps"), ("save_steps", "500"), ("save_total_limit", "1"),
    ("weight_decay", "0."), ("warmup_ratio", "0.03"), ("lr_scheduler_type", "cosine"), ("logging_steps", "1"),
    ("gradient_checkpointing", "True"), ("dataloader_num_workers", "4"), ("lazy_preprocess", "True"),
    ("report_to", "none"),
]  # fmt: skip

_OWN: dict[str, Flags] = {
    # scripts/v1_5/finetune.sh
    "llava": [("version", "v1"), ("image_folder", "$IMAGE_FOLDER"), ("image_aspect_ratio", "pad"),
              ("model_max_length", "2048")],
    # scripts/video/train/SO400M_Qwen2_7B_ov_to_video_am9.sh, with FaVChat's 16 frames
    "llava-next": [("version", "qwen_1_5"), ("image_folder", "$IMAGE_FOLDER"), ("video_folder", "$VIDEO_FOLDER"),
                   ("image_aspect_ratio", "anyres_max_9"), ("image_grid_pinpoints", "(1x1),...,(6x6)"),
                   ("mm_patch_merge_type", "spatial_unpad"), ("model_max_length", "32768"), ("frames_upbound", "16"),
                   ("mm_newline_position", "grid"), ("add_time_instruction", "True"), ("force_sample", "True"),
                   ("mm_spatial_pool_stride", "2")],
}  # fmt: skip

_NO_VIDEO = (
    "# LLaVA 1.5 reads no clips, pictures only: DATA_PATH must be a JSON of pictures, such as of "
    "`llava-face prepare celebvhq` without --stage"
)

_OF_CLIPS = {"--stage", "made-video"}
"""With these words `llava-face prepare` writes clips."""


def command(
    plan: StageFile,
    stage: Stage,
    host: str,
    model_dir: Path | str,
    *,
    facial_trained: bool = False,
    source: str | None = None,
) -> str:
    """A shell command (for transformers: Python) that trains the stage on ``model_dir``.

    Each stage starts from what the one before it has written to ``$OUT-<its name>``. ``model_dir``: a path, or a shell
    variable (``$MODEL_DIR``). ``source``: what ``load_stages`` reads the plan from; default: the plan's name. Raises
    ``FaceConfigError`` for an unknown host, and for what the host's scripts cannot do.
    """
    if host not in HOSTS:
        raise FaceConfigError(unknown_name("host", host, HOSTS))
    if host == "transformers":
        return _snippet(stage, model_dir, source or plan.name)
    own = flags(plan, stage, host, facial_trained=facial_trained)
    lines = [f"# Stage {stage.name} of {plan.name}: trains {', '.join(stage.trainable)}; all else is frozen."]
    lines += [_NO_VIDEO] if host == "llava" else []
    if host != "llava" or not _OF_CLIPS & set(stage.prepare.split()):
        lines.append(f"# Data: {stage.prepare} --root DIR --out PREPARED; DATA_PATH=PREPARED/{stage.data}")
    lines.append('# OUT must have "llava" in its last part, for LoRA also "lora": upstream loads by name.')
    start = _start(plan, stage, host, model_dir, facial_trained)
    paths: Flags = [
        ("data_path", "$DATA_PATH"), ("vision_tower", "$VISION_TOWER"), ("output_dir", f"$OUT-{stage.name}"),
    ]  # fmt: skip
    said = [f"--{name} {_quoted(value)}" for name, value in (*start, *paths, *_OWN[host], *_COMMON, *own)]
    first = "deepspeed llava/train/train_mem.py --deepspeed $DEEPSPEED_CONFIG"
    return "\n".join([*lines, " \\\n  ".join([first, *said])])


def _start(plan: StageFile, stage: Stage, host: str, model_dir: Path | str, facial_trained: bool) -> Flags:
    """From which model a stage starts, and with which adapter."""
    adapter: str | None = None
    start = str(model_dir)
    for earlier in plan.stages[: plan.stages.index(stage)]:
        if _only_adapter(flags(plan, earlier, host, facial_trained=facial_trained)):
            adapter = f"$OUT-{earlier.name}/mm_projector.bin"
            continue
        if "lora" in earlier.trainable:
            raise FaceConfigError(
                f"stages {plan.name}, stage {stage.name}: it follows {earlier.name}, which trains LoRA: merge its "
                "adapters first (scripts/merge_lora_weights.py), and start a stage file of its own from the result"
            )
        start, adapter = f"$OUT-{earlier.name}", None
    return [("model_name_or_path", start), *([("pretrain_mm_mlp_adapter", adapter)] if adapter else [])]


def _only_adapter(own: Flags) -> bool:
    """Whether upstream saves nothing but ``mm_projector.bin`` with these flags."""
    return ("tune_mm_mlp_adapter", "True") in own or ("mm_tunable_parts", "mm_mlp_adapter") in own


def _quoted(value: str) -> str:
    return f'"{value}"' if value.startswith("$") else shlex.quote(value)


def _snippet(stage: Stage, model_dir: Path | str, source: str) -> str:
    said = "\n    ".join(f'r"{pattern}",' for pattern in patterns(stage))
    rate = f"learning_rate={stage.learning_rate:g}, num_train_epochs={stage.epochs:g}"
    return f"""# Stage {stage.name}: trains {", ".join(stage.trainable)}. For a training script of yours; {rate}.
# scripts/recipes/train_hf.py does it with --stage {shlex.quote(f"{source}:{stage.name}")}.
# The same as: llava_face_plugin.stages.hosts.apply(load_stages({source!r}).stage("{stage.name}"), model)
import re

import llava_face_plugin.hosts.hf
from transformers import AutoModelForImageTextToText

model = AutoModelForImageTextToText.from_pretrained({str(model_dir)!r})
trained = re.compile("|".join([
    {said}
]))
for name, parameter in model.named_parameters():
    parameter.requires_grad_(bool(trained.search(name)))"""
