"""Train the compact face parser on a CelebAMask-HQ-format folder, score it on held-out pairs, and export it.

    python scripts/train_parser.py --root DIR --out DIR

``--root`` has ``images/NAME.jpg`` and ``masks/NAME.png`` (palette or gray PNGs of the 19 canonical ids). ``--out`` gets
``parser.safetensors`` (parser type ``compact``), ``parser.torchscript.pt`` (parser type ``torchscript``),
``report.json``, and ``checkpoint.pt``, from which ``--resume`` goes on. The two parsers and the report are written
anew at each evaluation; they are of the weights' moving average at that time, never chosen by the held-out scores.
"""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from parser_training.loop import Recipe, Training
from parser_training.outputs import REPORT, export, table, usage, write_report
from parser_training.pairs import Pair, Pairs, TrainingSet, read_pairs
from parser_training.progress import Meter
from parser_training.scores import Scores, evaluate
from rich.console import Console

from llava_face_plugin import __version__
from llava_face_plugin.errors import FaceConfigError, FaceError, FaceHostError

CHECKPOINT = "checkpoint.pt"
DEFAULT = Recipe()
console = Console(soft_wrap=True)


def main(
    root: Annotated[Path, typer.Option(help="Folder with images/NAME.jpg and masks/NAME.png.")],
    out: Annotated[Path, typer.Option(help="Folder for the parser, its report and the checkpoint.")],
    holdout: Annotated[int, typer.Option(min=1, help="Pairs kept apart for scoring, drawn by the seed.")] = 100,
    size: Annotated[int, typer.Option(min=64, max=512, help="Side of the network's input in pixels.")] = DEFAULT.size,
    epochs: Annotated[int, typer.Option(min=1)] = DEFAULT.epochs,
    batch_size: Annotated[int, typer.Option(min=2)] = DEFAULT.batch_size,
    lr: Annotated[float, typer.Option(min=1e-7, max=1.0, help="Highest learning rate of AdamW.")] = DEFAULT.lr,
    seed: Annotated[int, typer.Option(min=0)] = DEFAULT.seed,
    device: Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:1.")] = "cpu",
    bf16: Annotated[bool, typer.Option("--bf16", help="Autocast to bfloat16: fast on GPUs and CPUs with AMX.")] = False,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Threads that decode the pairs.")] = 2,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Finish within so many minutes of training.")] = None,
    evaluate_every: Annotated[int, typer.Option(min=1, help="Epochs from one evaluation to the next.")] = 20,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
) -> None:
    """Train, score, export."""
    try:
        checkpoint = out / CHECKPOINT
        if checkpoint.exists() != resume:
            state = "there is none to resume" if resume else "exists: give --resume, or another --out"
            raise FaceConfigError(f"checkpoint {checkpoint}: {state}")
        recipe = Recipe(
            size=size, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed, bf16=bf16, minutes=minutes
        )  # fmt: skip
        pairs = read_pairs(root, size, workers)
        training_pairs, held_out = pairs.split(holdout, seed)
        training = Training(recipe, TrainingSet(training_pairs, size), _device(device))
        facts = _facts(root, pairs, training_pairs, held_out)
        if resume:
            training.resume(checkpoint)
        _run(training, held_out, out, facts, evaluate_every)
    except FaceError as error:
        raise SystemExit(f"error: {error}") from error


def _facts(root: Path, pairs: Pairs, training: list[Pair], held_out: list[Pair]) -> dict[str, Any]:
    """What the report says of the data; printed as well."""
    for name, why in pairs.skipped.items():
        console.print(f"skipped {name}: {why}", markup=False)
    exchanged = sum(p.exchanged for p in pairs.good)
    console.print(
        f"{len(training)} training and {len(held_out)} held-out pairs, {len(pairs.skipped)} skipped; left and right "
        f"brought to the image side in {exchanged} masks of both"
    )
    return {
        "command": shlex.join(["python", *sys.argv]),
        "created_by": f"llava_face_plugin {__version__}, torch {torch.__version__}",
        "data": {
            "root": str(root), "training_pairs": len(training), "held_out_pairs": len(held_out),
            "skipped": pairs.skipped, "masks_brought_to_image_side": exchanged,
            "held_out_names": [p.name for p in held_out],
        },
    }  # fmt: skip


def _run(training: Training, held_out: list[Pair], out: Path, facts: dict[str, Any], evaluate_every: int) -> None:
    state = training.state
    with Meter(console, training) as meter:
        for loss in training.epochs(meter.step):
            meter.epoch(loss)
            state.history.append({"epoch": state.epoch, "loss": loss})
            if state.epoch % evaluate_every == 0 and training.progress() < 1.0:
                meter.scored(_score(training, held_out, out, facts))
            training.save(out / CHECKPOINT)
    scores = _score(training, held_out, out, facts)
    training.save(out / CHECKPOINT)
    console.print(table(scores, f"{len(held_out)} held-out pairs, epoch {state.epoch}"))
    console.print(f"{state.seconds / 60:.1f} minutes of training; {out / REPORT}", markup=False)
    console.print(usage(out, training.recipe.size), markup=False)


def _score(training: Training, held_out: list[Pair], out: Path, facts: dict[str, Any]) -> Scores:
    """Score the averaged weights, note it in the history, and write parser and report."""
    state, recipe = training.state, training.recipe
    began = time.perf_counter()
    scores = evaluate(state.average, held_out, training.device)
    state.history[-1]["mean_f1"] = scores.mean_f1
    run = {
        "recipe": vars(recipe), "device": str(training.device), "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in state.net.parameters()),
        "epochs": state.epoch, "steps": state.step, "finished": training.progress() >= 1.0,
        "minutes": round(state.seconds / 60, 2), "evaluation_seconds": round(time.perf_counter() - began, 2),
        "loss": state.history[-1]["loss"],
    }  # fmt: skip
    summary = {**run, "mean_f1": scores.mean_f1, "training_pairs": facts["data"]["training_pairs"]}
    digests = export(out, state.average, recipe.size, summary)
    write_report(out, {**facts, **run, "history": state.history}, scores, digests)
    return scores


def _device(name: str) -> torch.device:
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise FaceHostError(f"--device {name}: not usable here ({str(error).splitlines()[0]})") from error


if __name__ == "__main__":
    typer.run(main)
