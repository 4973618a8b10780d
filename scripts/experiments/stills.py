"""FaVChat's parts, one left out at a time, on real stills: CelebA and FairFace, a tiny random LLaVA 1.5, five seeds.

    python scripts/experiments/pretrain_facial.py fairface --root DATA/fairface --out W/fairface.pth --epochs 14
    python scripts/experiments/pretrain_facial.py celeba --root DATA/celeba --out W/celeba.pth --epochs 60
    python scripts/experiments/stills.py run --root DATA --weights W --out cells.jsonl
    python scripts/experiments/stills.py table cells.jsonl

The facial encoder of each data set was trained on the other one. A cell is one variant with one seed on one set: one
line of JSON in ``--out``. Cells that are there are not computed again.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from clip_model import ByPixels, build
from still_model import RECIPE, Recipe, build_base
from still_questions import Encoded, Question, encode, questions_of
from still_sets import Stills, balanced_accuracy, celeba, fairface
from still_table import tables
from table import add_cell, is_done, keep_settings, read_cells
from torch import Tensor
from transformers import AutoTokenizer
from variants import VARIANTS

from llava_face_plugin.encoders.backbones import normalise
from llava_face_plugin.facial_config import CLIP_MEAN, CLIP_STD

SETS = {"celeba": "fairface", "fairface": "celeba"}
"""Data set -> the other one, on which its facial encoder was trained."""
CELEBA_HELD_OUT = 500
FAIRFACE_TRAIN = 4_000
"""The first of its train images that are there."""
FACIAL_SIDE, TAPS = 48, [1, 3, 5]
WARM_UP = 0.1
"""Share of the steps."""

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Task:
    """A data set as the model sees it."""

    stills: Stills
    questions: list[Question]
    encoded: list[Encoded]
    pixels: Tensor
    """(N, 3, S, S) float32, the tower's input."""

    @classmethod
    def of(cls, stills: Stills, tokenizer: Any) -> Task:
        questions = questions_of(stills)
        pixels = normalise(stills.pixels.float() / 255, CLIP_MEAN, CLIP_STD)
        return cls(stills, questions, encode(questions, tokenizer), pixels)


class Draws:
    """Training pairs: a question, one of its answers, an image it is true of, each drawn evenly.

    So no answer is commoner than another, and a model that does not look scores at chance.
    """

    def __init__(self, task: Task, seed: int) -> None:
        self.task = task
        self.random = np.random.default_rng([seed, 13])
        known = ~task.stills.held_out
        self.pools = [
            [torch.nonzero(known & (question.labels == answer))[:, 0] for answer in range(len(question.answers))]
            for question in task.questions
        ]

    def batch(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """``size`` rows: images (B,), token ids (B, L), labels (B, L)."""
        images, ids, labels = [], [], []
        for number in self.random.integers(len(self.pools), size=size):
            answer = self.random.integers(len(self.pools[number]))
            pool = self.pools[number][answer]
            images.append(pool[self.random.integers(len(pool))])
            ids.append(self.task.encoded[number].ids[answer])
            labels.append(self.task.encoded[number].labels[answer])
        return torch.stack(images), torch.stack(ids), torch.stack(labels)


def train(model: Any, task: Task, recipe: Recipe, seed: int) -> list[float]:
    """Trains everything but tower and facial encoder; returns the loss of each step. Padding comes last: no mask."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, recipe.steps, pct_start=WARM_UP)
    draws, losses = Draws(task, seed), []
    model.train()
    for _ in range(recipe.steps):
        images, ids, labels = draws.batch(recipe.batch)
        loss = model(input_ids=ids, pixel_values=task.pixels[images], labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def answers(model: Any, task: Task, number: int, images: Tensor) -> Tensor:
    """(N,) the answers' numbers: of the question's answers the one with the likeliest first token."""
    encoded, found = task.encoded[number], []
    prompt = encoded.ids[:1, : encoded.length]
    model.eval()
    for part in images.split(100):
        ids = prompt.expand(len(part), -1)
        logits = model(input_ids=ids, pixel_values=task.pixels[part], logits_to_keep=1).logits
        found.append(logits[:, -1, encoded.first].argmax(dim=-1))
    return torch.cat(found)


def score(model: Any, task: Task) -> dict[str, Any]:
    """Held-out balanced accuracy of each question, their mean, mean plain accuracy, and accuracy by group."""
    images = torch.nonzero(task.stills.held_out)[:, 0]
    balanced, plain, groups = {}, [], {}
    for number, question in enumerate(task.questions):
        found, wanted = answers(model, task, number, images), question.labels[images]
        balanced[question.name] = balanced_accuracy(found, wanted)
        plain.append((found == wanted).float().mean().item())
        groups[question.name] = _by_group(task.stills, images, found == wanted)
    mean = float(np.mean(list(balanced.values())))
    return {"mean": mean, "accuracy": float(np.mean(plain)), "balanced": balanced, "groups": groups}


def _by_group(stills: Stills, images: Tensor, right: Tensor) -> dict[str, float]:
    """Gender and race -> share of right answers; empty for a set without them."""
    if "race" not in stills.labels:
        return {}
    out = {}
    for g, gender in enumerate(stills.classes["gender"]):
        for r, race in enumerate(stills.classes["race"]):
            mine = (stills.labels["gender"][images] == g) & (stills.labels["race"][images] == r)
            out[f"{race}, {gender} ({int(mine.sum())})"] = right[mine].float().mean().item()
    return out


def levels(task: Task) -> dict[str, float]:
    """What answers without looking score: balanced accuracy of any one answer, plain accuracy of the commonest."""
    counts = [question.labels[task.stills.held_out].bincount() for question in task.questions]
    return {
        "chance": float(np.mean([1 / len(question.answers) for question in task.questions])),
        "majority": float(np.mean([(count.max() / count.sum()).item() for count in counts])),
        "train_images": int((~task.stills.held_out).sum()),
        "held_out": int(task.stills.held_out.sum()),
    }


def cell(
    name: str, base: Path, task: Task, weights: Path, recipe: Recipe, seed: int, memory: ByPixels
) -> dict[str, Any]:
    """The variant of that name, trained and scored. ``weights``: the facial encoder's; ``memory``: of it alone."""
    start = time.process_time()
    facial = {"path": str(weights), "taps": TAPS, "size": FACIAL_SIDE}
    with tempfile.TemporaryDirectory(prefix="stills_cell_") as folder:  # the switched-on model stands beside the base
        plain = Path(shutil.copytree(base, Path(folder) / "plain"))
        model = build(VARIANTS[name], plain, facial, recipe, seed, memory)
    losses = train(model, task, recipe, seed)
    found = score(model, task)
    return {
        **found, "loss": float(np.mean(losses[-max(len(losses) // 10, 1) :])),
        "trained": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "seconds": round(time.process_time() - start, 1), **levels(task),
    }  # fmt: skip


def read_set(name: str, root: Path) -> Stills:
    """``celeba`` or ``fairface`` below ``root``; of the latter ``FAIRFACE_TRAIN`` train images and all val images."""
    if name == "celeba":
        return celeba(root / name, RECIPE.side, CELEBA_HELD_OUT)
    stills = fairface(root / name, RECIPE.side)
    known, held_out = (torch.nonzero(mask)[:, 0] for mask in (~stills.held_out, stills.held_out))
    return stills.of(torch.cat([known[:FAIRFACE_TRAIN], held_out]))


def corpus(sets: Sequence[Stills]) -> list[str]:
    """The questions and answers of all sets, for one tokenizer."""
    asked = [question for stills in sets for question in questions_of(stills)]
    return [f"USER: {question.text} ASSISTANT: {answer}" for question in asked for answer in question.answers]


@app.command()
def run(
    root: Annotated[Path, typer.Option(help="Folder with celeba/ and fairface/.")],
    weights: Annotated[Path, typer.Option(help="Folder with celeba.pth and fairface.pth of pretrain_facial.py.")],
    out: Annotated[Path, typer.Option(help="File of cells, a line of JSON each; is gone on with.")],
    seeds: Annotated[int, typer.Option(min=1)] = 5,
    steps: Annotated[int, typer.Option(min=1)] = RECIPE.steps,
    only: Annotated[list[str], typer.Option(help="celeba or fairface; without it, both.")] = list(SETS),  # noqa: B006
) -> None:
    """Train and score every cell that is not there yet, seed by seed."""
    recipe = replace(RECIPE, steps=steps)
    files = [weights / f"{SETS[name]}.pth" for name in only]
    keep_settings(out, {f"SHA-256 of {f.name}": hashlib.sha256(f.read_bytes()).hexdigest() for f in files})
    sets = {name: read_set(name, root) for name in SETS}  # both: the tokenizer reads all questions
    memories = {name: ByPixels() for name in SETS}
    for seed in range(seeds):
        with tempfile.TemporaryDirectory(prefix="stills_seed_") as folder:  # "tmp" + "t..." would hold LLaVA's "mpt"
            base = build_base(Path(folder), recipe, seed, corpus(list(sets.values())))
            tokenizer = AutoTokenizer.from_pretrained(base)
            for name in only:
                task = Task.of(sets[name], tokenizer)
                for variant in VARIANTS:
                    key = {"set": name, "variant": variant, "seed": seed, "steps": steps}
                    if is_done(read_cells(out), key):
                        continue
                    found = cell(variant, base, task, weights / f"{SETS[name]}.pth", recipe, seed, memories[name])
                    add_cell(out, {**key, **found})
                    print(f"{name}, {variant}, seed {seed}: {found['mean']:.3f}, {found['seconds']} CPU s", flush=True)


@app.command("table")
def print_tables(cells: Annotated[Path, typer.Argument(help="The file of cells.")]) -> None:
    """The tables of docs/results.md."""
    print(tables(read_cells(cells)))


if __name__ == "__main__":
    app()
