"""``llava-face tiny-model``: a tiny random LLaVA base to try everything on, without downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("tiny-model")(tiny_model)


def tiny_model(
    directory: Annotated[Path, typer.Argument(help="Where to write it; no 'mpt' in the path.")],
    preset: Annotated[str | None, typer.Option(help="Switch face mode on with this preset.")] = None,
    hidden: Annotated[int, typer.Option(help="Width of the language model.")] = 64,
    layers: Annotated[int, typer.Option(help="Layers of the language model.")] = 2,
    image_size: Annotated[int, typer.Option(help="Side of the tower's input in pixels, 14 * n.")] = 56,
    seed: Annotated[int, typer.Option(help="Seed of the random weights and the tokenizer.")] = 0,
) -> None:
    """Write a tiny random LLaVA training base: a Llama directory, with a CLIP tower in its folder clip/."""
    from ..tiny import build_tiny

    out = build_tiny(directory, preset=preset, hidden=hidden, layers=layers, image_size=image_size, seed=seed)
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        typer.echo(f"wrote {path} ({path.stat().st_size} bytes)")
    typer.echo("\nNext, train on it (data.json in LLaVA's format, pictures in images/):\n")
    typer.echo(training_command(out))


def training_command(base: Path) -> str:
    """A LLaVA training command for a tiny base; the variable it begins with is for machines without a GPU."""
    return " \\\n    ".join(
        [
            "LLAVA_FACE_CPU_DRY_RUN=1 python -m llava.train.train_mem",
            f"--model_name_or_path {base} --vision_tower {base / 'clip'} --version v1",
            "--data_path data.json --image_folder images --output_dir checkpoints/llava-tiny",
            "--mm_projector_type mlp2x_gelu --mm_vision_select_layer -2",
            "--mm_use_im_start_end False --mm_use_im_patch_token False --image_aspect_ratio pad",
            "--num_train_epochs 1 --per_device_train_batch_size 4 --learning_rate 1e-3",
            "--model_max_length 2048 --lazy_preprocess True --report_to none",
        ]
    )
