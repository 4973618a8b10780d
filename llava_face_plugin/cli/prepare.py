"""``llava-face prepare``: a data set becomes LLaVA conversations, questions and a knowledge file."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..data.prepared import Prepared, Progress


class Dataset(str, enum.Enum):
    """What can be prepared."""

    made = "made"
    celeba = "celeba"
    celebamask_hq = "celebamask_hq"


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("prepare")(prepare)


def prepare(
    dataset: Annotated[Dataset, typer.Argument(help="made: drawn faces, no download. The others: your own copy.")],
    out: Annotated[Path, typer.Option(help="Folder to write into.")],
    root: Annotated[Path | None, typer.Option(help="Your copy of the data set (not for made).")] = None,
    train: Annotated[int, typer.Option(min=1, help="made: number of training faces.")] = 1000,
    val: Annotated[int, typer.Option(min=0, help="made: number of validation faces.")] = 100,
    size: Annotated[str, typer.Option(help="made: WIDTHxHEIGHT of the pictures.")] = "178x218",
    split: Annotated[str, typer.Option(help="Split the conversations are made from: train, val or test.")] = "train",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many images in the conversations.")] = None,
    val_limit: Annotated[int | None, typer.Option(min=1, help="At most so many images in the questions.")] = None,
    holdout: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Images held out of train for questions: a share (below 1) or a number. "
            "Default: the val images, or 0.1 if none is there.",
        ),
    ] = None,
    questions: Annotated[int, typer.Option(min=1, help="Questions an image, in the conversations.")] = 4,
    val_questions: Annotated[
        int | None,
        typer.Option(min=1, help="Questions an image, in the question file. Default: all attributes."),
    ] = None,
    text_only: Annotated[int, typer.Option(min=0, help="Samples without a picture to mix in.")] = 0,
    seed: Annotated[int, typer.Option(help="Decides everything that is drawn by lot.")] = 0,
    knowledge: Annotated[bool, typer.Option(help="Write the knowledge file.")] = True,
    rules: Annotated[
        str | None, typer.Option(help="Rules: a YAML file, celeba or made. Default: the fitting one.")
    ] = None,
    maps: Annotated[Path | None, typer.Option(help="celeba: folder of PNG maps with the images' stems.")] = None,
    celeba_root: Annotated[
        Path | None,
        typer.Option(help="celebamask_hq: where CelebA's partition and identities are. Default: --root."),
    ] = None,
) -> None:
    """Write LLaVA training JSON, a question file, maps and a knowledge file. Images are never copied."""
    from ..errors import FaceConfigError

    if (root is None) != (dataset is Dataset.made):
        needed = "draws its faces: leave --root out" if root is not None else "needs --root, the folder of your copy"
        raise FaceConfigError(f"prepare {dataset.value} {needed}")
    for option, given, owner in (
        ("--maps", maps, Dataset.celeba),
        ("--celeba-root", celeba_root, Dataset.celebamask_hq),
    ):
        if given is not None and dataset is not owner:
            raise FaceConfigError(f"prepare {dataset.value}: {option} is an option of {owner.value} only")
    drawn: dict[str, Any] = {"seed": seed, "text_only": text_only}
    common = drawn | {
        "split": split, "limit": limit, "val_limit": val_limit, "holdout": holdout, "k": questions,
        "val_k": val_questions, "knowledge": knowledge, "rules": rules,
    }  # fmt: skip
    work: Callable[..., Prepared]
    if dataset is Dataset.made:
        shape = _size(size)
        work = functools.partial(_made, out, train, val, shape, questions, val_questions, knowledge, rules, **drawn)
    elif dataset is Dataset.celeba:
        from ..data import celeba

        work = functools.partial(celeba.prepare, root or Path(), out, maps=maps, **common)
    else:
        from ..data import celebamask_hq

        work = functools.partial(celebamask_hq.prepare, root or Path(), out, celeba_root=celeba_root, **common)
    with _progress() as progress:
        prepared = work(progress=progress)
    _summary(dataset.value, prepared)


def _made(
    out: Path, train: int, val: int, size: tuple[int, int], k: int, val_k: int | None, knowledge: bool,
    rules: str | None, *, seed: int, text_only: int, progress: Progress,
) -> Prepared:  # fmt: skip
    from ..data import made
    from ..data.prepared import write_knowledge

    prepared = made.make(out, train, val, seed, size, k=k, val_k=val_k, text_only=text_only, progress=progress)
    if knowledge:
        write_knowledge(prepared, "made", rules=rules)
    return prepared


def _size(text: str) -> tuple[int, int]:
    from ..errors import FaceConfigError

    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isdigit() for p in parts):
        raise FaceConfigError(f"--size: expected WIDTHxHEIGHT such as 178x218, got {text!r}")
    return int(parts[0]), int(parts[1])


@contextmanager
def _progress() -> Iterator[Progress]:
    """A rich progress bar for each kind of work that reports itself."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield report


def _summary(dataset: str, prepared: Prepared) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    table = Table("prepared", "number", title=f"{dataset} -> {prepared.out}", title_justify="left")
    table.columns[1].justify = "right"
    for name, n in prepared.rows.items():
        table.add_row(name, f"{n:,}")
    for reason, n in sorted(prepared.skipped.items()):
        table.add_row(f"[dim]skipped: {reason}[/dim]", f"[dim]{n:,}[/dim]")
    console.print(table)
    if "knowledge" in prepared.files:
        console.print(f"knowledge counted from {len(prepared.labels['train']):,} train rows")
    for note in prepared.notes:
        console.print(f"note: {note}", markup=False)
    for kind, path in prepared.files.items():
        console.print(f"wrote {kind}: {path}", markup=False)
    console.print("\nTrain with upstream's scripts and these arguments:\n", markup=False)
    data = next((p for k, p in prepared.files.items() if p.suffix == ".json" and k != "map index"), None)
    console.print(f"  --data_path {data} --image_folder {prepared.image_folder}", markup=False)
    if "maps" in prepared.files or "map index" in prepared.files:
        picture = prepared.out / "overlay.png"
        look = f"llava-face overlay {data} --image-folder {prepared.image_folder} --out {picture}"
        console.print(f"\nLook at the maps:\n\n  {look}", markup=False)
