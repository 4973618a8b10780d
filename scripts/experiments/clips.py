"""FaVChat's parts on made clips: which of them a tiny video model needs for an attribute that no single frame tells.

    python scripts/experiments/clips.py --out DIR --kind head --seeds 5

Draws the clips, trains the stand-in for FaRL (facial_standin.py), then a tiny LLaVA-OneVision for each seed and variant
(variants.py) in two stages (training.py), the second for each way in which the frames are shown. Each finished cell is
a line in DIR/cells.jsonl; started again, it goes on behind the last. At the end the tables.
"""

from __future__ import annotations

import copy
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import transformers
import typer
from clip_model import ByPixels, Recipe, build, build_base, event_task, frame_tokens, state_task
from facial_standin import TAPS, standin
from made_frames import Clips, clips_of
from table import add_cell, is_done, keep_settings, markdown, read_cells
from torch import Tensor
from training import balanced_accuracy, learn_events, learn_states, state_accuracy
from variants import VARIANTS

TRAIN_SEED, TEST_SEED = 1, 2
FRAMES = 9
RECIPE = Recipe()
IN_ORDER, ONE, SHUFFLED = "in order", "one frame", "shuffled"

CONTROLS = {name: [IN_ORDER, *([ONE, SHUFFLED] if name == "full" else [])] for name in VARIANTS}
"""How the frames are shown to each variant."""


def main(
    out: Annotated[Path, typer.Option(help="Where cells, clips and the stand-in's weights are kept.")],
    kind: Annotated[list[str], typer.Option(help="head | blink; several times for several.")],
    seeds: Annotated[int, typer.Option(min=1, help="Of the model's start and of the order of the data.")] = 5,
    clips: Annotated[int, typer.Option(min=2, help="Training clips of a kind.")] = 1200,
    held_out: Annotated[int, typer.Option(min=2, help="Other clips of other persons to ask about.")] = 400,
    first_steps: Annotated[int, typer.Option(min=1, help="Of the first stage, on single frames.")] = Recipe.first_steps,
    variant: Annotated[list[str] | None, typer.Option(help="Several times for several; default: all.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of the second stage, on clips.")] = Recipe.steps,
    stills: Annotated[int, typer.Option(min=1, help="That the stand-in is trained on.")] = 12_000,
    facial_steps: Annotated[int, typer.Option(min=1, help="Of the stand-in's training.")] = 2_500,
) -> None:
    """Run the cells that are not there yet, and print the table."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    recipe, path = replace(RECIPE, first_steps=first_steps, steps=steps), out / "cells.jsonl"
    keep_settings(path, {"stills": stills, "facial steps": facial_steps})
    print(standin(out / "standin.pth", out / "drawn", stills, facial_steps), flush=True)
    facial, memory = {"path": str(out / "standin.pth"), "taps": TAPS}, ByPixels()
    same = {"clips": clips, "held out": held_out, "recipe": asdict(recipe)}
    for one in kind:
        drawn = [clips_of(one, n, s, FRAMES, out / "drawn") for n, s in ((clips, TRAIN_SEED), (held_out, TEST_SEED))]
        for seed, name in ((seed, name) for seed in range(seeds) for name in variant or VARIANTS):
            named = {"kind": one, "variant": name, "seed": seed, **same}
            frames = [f for f in CONTROLS[name] if not is_done(read_cells(path), {**named, "frames": f})]
            for cell in _cells(name, frames, one, seed, drawn, facial, recipe, memory) if frames else ():
                add_cell(path, {**named, **cell})
                print(read_cells(path)[-1], flush=True)
    cells = [cell for cell in read_cells(path) if is_done([cell], same)]
    for value in ("accuracy", "state accuracy"):
        print(value, markdown(cells, "row", "kind", value), sep="\n\n", end="\n\n")


def _cells(
    variant: str,
    shown: Sequence[str],
    kind: str,
    seed: int,
    drawn: Sequence[Clips],
    facial: dict[str, Any],
    recipe: Recipe,
    memory: ByPixels,
) -> Iterator[dict[str, Any]]:
    """The first stage once, the second for each way in which the frames are shown."""
    start, spent = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory(prefix="clips-") as folder:
        plain = build_base(Path(folder), recipe, seed)
        states, events = (task(kind, Path(folder) / "parts") for task in (state_task, event_task))
        model = build(VARIANTS[variant], plain, facial, recipe, seed, memory)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    first = learn_states(model, drawn[0], states, recipe, seed)
    knows = state_accuracy(model, drawn[1], states, recipe)
    tokens = [frame_tokens(model, clips, recipe) for clips in drawn]
    after_first = copy.deepcopy(model.state_dict())
    for frames in shown:
        model.load_state_dict(after_first)
        training, unseen = (as_shown(each, frames, n) for n, each in enumerate(tokens))
        second = learn_events(model, training, drawn[0].which, events, recipe, seed)
        yield {
            "row": variant if frames == IN_ORDER else f"{variant}, {frames}", "frames": frames,
            "accuracy": balanced_accuracy(model, unseen, drawn[1].which, events),
            "trained accuracy": balanced_accuracy(model, training[:400], drawn[0].which[:400], events),
            "state accuracy": knows, "first loss": _end(first), "loss": _end(second),
            "trained": trained,
            "seconds": round(time.monotonic() - start), "cpu seconds": round(time.process_time() - spent),
            "taps": facial["taps"], "versions": _versions(),
        }  # fmt: skip
        start, spent = time.monotonic(), time.process_time()


def as_shown(tokens: Tensor, frames: str, seed: int) -> Tensor:
    """(N, T, ...): in order; each clip's middle frame all the time; or each clip's frames shuffled, once."""
    if frames == IN_ORDER:
        return tokens
    clips, count = tokens.shape[:2]
    if frames == ONE:
        return tokens[:, [count // 2] * count]
    order = np.random.default_rng([seed, 12]).permuted(np.tile(np.arange(count), (clips, 1)), axis=1)
    return tokens[torch.arange(clips)[:, None], torch.from_numpy(order)]


def _end(losses: Sequence[float]) -> float:
    return round(float(np.mean(losses[-50:])), 4)


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}


if __name__ == "__main__":
    typer.run(main)
