"""FaVChat's parts on made clips: which of them a tiny video model needs for an attribute that no single frame tells.

    python scripts/experiments/clips.py --out DIR --kind blink --seeds 5

Draws the clips, trains the stand-in for FaRL (facial_standin.py), then one tiny LLaVA-OneVision for each cell: a variant
(variants.py), a seed, and how the frames are shown. Each finished cell is a line in DIR/cells.jsonl; started again, it
goes on behind the last. At the end the table.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import transformers
import typer
from facial_standin import TAPS, standin
from made_frames import Clips, clips_of
from table import add_cell, is_done, markdown, read_cells
from training import ByPixels, Recipe, balanced_accuracy, build, build_base, task_of, train
from variants import VARIANTS

TRAIN_SEED, TEST_SEED = 1, 2
FRAMES = 9
IN_ORDER, ONE, SHUFFLED = "in order", "one frame", "shuffled"


class Row(NamedTuple):
    """A row of the table."""

    variant: str
    frames: str

    @property
    def name(self) -> str:
        return self.variant if self.frames == IN_ORDER else f"{self.variant}, {self.frames}"


ROWS = [*(Row(name, IN_ORDER) for name in VARIANTS), Row("full", ONE), Row("full", SHUFFLED)]


def main(
    out: Annotated[Path, typer.Option(help="Where cells, clips and the stand-in's weights are kept.")],
    kind: Annotated[list[str], typer.Option(help="blink | head | mouth | smile; several times for several.")],
    seeds: Annotated[int, typer.Option(min=1, help="Of the model's start and of the order of the data.")] = 5,
    clips: Annotated[int, typer.Option(min=2, help="Training clips of a kind.")] = 3000,
    held_out: Annotated[int, typer.Option(min=2, help="Other clips of other persons to ask about.")] = 400,
    steps: Annotated[int, typer.Option(min=1)] = Recipe.steps,
    rate: Annotated[float, typer.Option()] = Recipe.rate,
    stills: Annotated[int, typer.Option(min=1, help="That the stand-in is trained on.")] = 12_000,
    facial_steps: Annotated[int, typer.Option(min=1, help="Of the stand-in's training.")] = 2_500,
) -> None:
    """Run the cells that are not there yet, and print the table."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    recipe, path = Recipe(steps=steps, rate=rate), out / "cells.jsonl"
    print(standin(out / "standin.pth", out / "drawn", stills, facial_steps), flush=True)
    facial, memory = {"path": str(out / "standin.pth"), "taps": TAPS}, ByPixels()
    for one in kind:
        drawn = [clips_of(one, n, s, FRAMES, out / "drawn") for n, s in ((clips, TRAIN_SEED), (held_out, TEST_SEED))]
        for seed, row in ((seed, row) for seed in range(seeds) for row in ROWS):
            cell = {"kind": one, "variant": row.variant, "frames": row.frames, "seed": seed}
            if not is_done(read_cells(path), cell):
                add_cell(path, {**cell, "row": row.name, **_run(row, one, seed, drawn, facial, recipe, memory)})
                print(read_cells(path)[-1], flush=True)
    cells = [cell for cell in read_cells(path) if cell["kind"] in kind]
    print(markdown(cells, "row", "kind", "accuracy"))


def _run(
    row: Row, kind: str, seed: int, drawn: list[Clips], facial: dict[str, Any], recipe: Recipe, memory: ByPixels
) -> dict[str, Any]:
    start, spent = time.monotonic(), time.process_time()
    training, unseen = (as_shown(clips, row.frames, n) for n, clips in enumerate(drawn))
    with tempfile.TemporaryDirectory(prefix="clips-") as folder:
        plain = build_base(Path(folder), recipe, seed)
        task = task_of(kind, Path(folder) / "parts")
        model = build(VARIANTS[row.variant], plain, facial, recipe, seed, memory)
    losses = train(model, training, task, recipe, seed)
    some = Clips(*(column[: len(unseen.which)] for column in training))
    return {
        "accuracy": balanced_accuracy(model, unseen, task, recipe),
        "trained accuracy": balanced_accuracy(model, some, task, recipe),
        "loss": round(float(np.mean(losses[-50:])), 4),
        "clips": len(training.which), "held out": len(unseen.which),
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "seconds": round(time.monotonic() - start), "cpu seconds": round(time.process_time() - spent),
        "recipe": asdict(recipe), "versions": _versions(),
    }  # fmt: skip


def as_shown(clips: Clips, frames: str, seed: int) -> Clips:
    """The clips in order; each one's middle frame all the time; or each one's frames shuffled, once."""
    if frames == IN_ORDER:
        return clips
    count = clips.pixels.shape[1]
    if frames == ONE:
        return clips._replace(pixels=clips.pixels[:, [count // 2] * count])
    rng = np.random.default_rng([seed, 12])
    return clips._replace(pixels=np.stack([rng.permutation(clip) for clip in clips.pixels]))


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}


if __name__ == "__main__":
    typer.run(main)
