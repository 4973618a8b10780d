"""``llava-face attributes``: what a face model says of images, and what the rules make of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor

    from ..hosts.attributes import FaceModel
    from ..knowledge.decode import Decision
    from ..rulebook import Rule

NOTE = "An attribute is a label that a data set's annotators would give a picture; it is no fact about the person."
_WITHOUT_BAR = 3  # up to so many images no progress bar is shown


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("attributes")(attributes)


def attributes(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures: JPEG, PNG, WEBP, BMP.")],
    model: Annotated[Path, typer.Option(metavar="DIR", help="A trained face model with a knowledge block.")],
    model_base: Annotated[
        str | None, typer.Option(help="The LLM that a LoRA or projector-only output in --model belongs to.")
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="Leave out a rule group, e.g. gender.")] = None,
    rules: Annotated[bool, typer.Option(help="--no-rules: every attribute by its own probability.")] = True,
    threshold: Annotated[float, typer.Option(help="Present from this probability on; between 0 and 1.")] = 0.5,
    maps: Annotated[
        Path | None, typer.Option(help="Map store or index.json to look maps up in, instead of the model's parser.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="torch device. Default: cuda where there is one.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a forward pass.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Probabilities of every attribute, and the most probable assignment that breaks no rule of the model.

    Exit code 1 if an image could not be read; the others are answered.
    """
    import torch

    from ..errors import FaceConfigError
    from ..hosts.attributes import FaceModel, knowledge_of
    from ..hosts.doctor import face_weight_names

    if not 0.0 < threshold < 1.0:
        raise FaceConfigError(f"--threshold is {threshold}; expected a number between 0 and 1")
    chosen = _rules(knowledge_of(model), model, without or []) if rules else []
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    face = FaceModel.load(model, model_base, where, maps)
    answers, failed = _ask(face, images, chosen, threshold, batch_size)
    result = {
        "model": str(model), "trained": bool(face_weight_names(model)), "maps": face.map_source(),
        "threshold": threshold, "rules": len(chosen), "images": answers, "failed": failed, "note": NOTE,
    }  # fmt: skip
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        _print(result)
    raise typer.Exit(1 if failed else 0)


def _rules(knowledge: Any, model: Path, without: Sequence[str]) -> list[Rule]:
    """The model's rules but those of the groups ``without``. Raises ``FaceConfigError`` for a group that it has not."""
    from ..errors import FaceConfigError
    from ..registry import unknown_name

    rules = [item.rule for item in knowledge.rules]
    groups = {rule.group for rule in rules if rule.group} | set(knowledge.without)
    for group in without:
        if group not in groups:
            raise FaceConfigError(f"{model}: {unknown_name('rule group', group, groups)}")
    return [rule for rule in rules if rule.group not in without]


def _ask(
    face: FaceModel, images: Sequence[Path], rules: Sequence[Rule], threshold: float, batch_size: int
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Answers in the order of the images, and what went wrong with the others."""
    import numpy as np

    from ..errors import FaceDataError, FaceHostError
    from ..knowledge.decode import decode
    from ..maps.files import open_image

    answers: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    batch: list[tuple[Path, Tensor]] = []
    names = face.knowledge.vocabulary

    def answer() -> None:
        rows = face.probabilities([pixels for _, pixels in batch]) if batch else ()
        for (path, pixels), row in zip(batch, rows, strict=True):
            if not np.isfinite(row).all():
                failed.append({"image": str(path), "error": f"image {path}: the model's probabilities are not numbers"})
                continue
            try:
                decision = decode(row, rules, names, threshold)
            except FaceHostError as error:
                raise FaceHostError(f"{error}; or give --no-rules") from error
            answers.append(_answer(path, pixels, names, row, decision))
        batch.clear()

    with _progress(len(images)) as advance:
        for path in images:
            try:
                batch.append((path, face.prepare(open_image(path))))
            except FaceDataError as error:
                failed.append({"image": str(path), "error": str(error)})
            if len(batch) == batch_size:
                answer()
            advance()
        answer()
    return answers, failed


def _answer(path: Path, pixels: Tensor, names: Sequence[str], row: np.ndarray, decision: Decision) -> dict[str, Any]:
    from ..hosts.attributes import has_map

    return {
        "image": str(path),
        "map": has_map(pixels),
        "attributes": {
            name: {"probability": round(p, 6), "present": present, "changed": name in decision.changed}
            for name, p, present in zip(names, row.tolist(), decision.present.tolist(), strict=True)
        },
        "changed": list(decision.changed),
        "rules_broken_before": [rule.text() for rule in decision.broken],
    }


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=total <= _WITHOUT_BAR) as bar:
        task = bar.add_task("images", total=total)
        yield lambda: bar.advance(task)


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"model {result['model']}, {result['rules']} rules, threshold {result['threshold']:g}")
    if not result["trained"]:
        console.print("warning: this model has no trained face weights; what follows are little more than priors")
    console.print(f"maps  {result['maps']}")
    for answer in result["images"]:
        _print_one(console, answer)
    done, failed = result["images"], result["failed"]
    changed = sum(len(answer["changed"]) for answer in done)
    touched = sum(bool(answer["changed"]) for answer in done)
    console.print(f"\n{len(done)} images: the rules changed {changed} attributes, in {touched} of them")
    if failed:
        console.print(f"{len(failed)} images failed:")
        for failure in failed:
            console.print(f"  {failure['error']}")
    console.print(NOTE)
    sys.stdout.flush()


def _print_one(console: Any, answer: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("attribute", "probability", "decision", "changed by rules", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    ranked = sorted(answer["attributes"].items(), key=lambda item: -item[1]["probability"])
    for name, found in ranked:
        style = "bold" if found["present"] else "dim"
        words = ("yes" if found["present"] else "no", "changed" if found["changed"] else "")
        table.add_row(name, f"{found['probability']:.3f}", *words, style=style)
    console.print(f"\n{answer['image']}" + ("" if answer["map"] else "  (no map)"))
    console.print(table)
    if answer["changed"]:
        console.print(f"{len(answer['changed'])} changed by rules: {', '.join(answer['changed'])}")
        console.print(f"rules broken before: {'; '.join(answer['rules_broken_before'])}")
