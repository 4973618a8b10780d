"""``llava-face tasks-path`` and ``questions``: the tasks for lmms-eval, and the questions that they ask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the commands to ``app``."""
    app.command("tasks-path")(tasks_path)
    app.command("questions")(questions)


def tasks_path() -> None:
    """Print the folder of the face tasks: lmms-eval ... --include_path "$(llava-face tasks-path)"."""
    from ..evaluation.tasks import task_folder

    typer.echo(task_folder())


def _list(wanted: bool) -> None:
    """``--list``: every task with what its questions are made from."""
    if not wanted:
        return
    from ..evaluation.builders import BENCHMARKS

    for name in BENCHMARKS:
        b = BENCHMARKS[name]
        files = "".join(f"\n    {line}" for line in b.layout.splitlines())
        made_from = f"the manifest of {' or '.join(b.datasets)}" if b.datasets else f"files below --root:{files}"
        settings = "".join(f"\n  --set {key}={value}" for key, value in b.settings.items())
        typer.echo(f"{name}\n  {b.title}\n  split {b.split}; from {made_from}{settings}\n")
    raise typer.Exit


def questions(
    out: Annotated[Path, typer.Option(help="Folder to write TASK.parquet into: $FACE_EVAL_DATA of the evaluation.")],
    root: Annotated[Path, typer.Option(help="Folder of the images, or of the benchmark's own files.")],
    tasks: Annotated[
        list[str] | None, typer.Argument(help="Tasks, see --list. Default: all that fit the manifest.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="manifest.parquet of `llava-face prepare`, or its folder.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, val, test or all. Default: the benchmark's own.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many images, drawn by the seed.")] = None,
    seed: Annotated[int, typer.Option(help="Rotates the options of every question.")] = 0,
    verify: Annotated[bool, typer.Option(help="Decode every image once, and leave out broken ones.")] = True,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of a benchmark: see its README in the tasks folder.")
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", is_eager=True, callback=_list, help="Show all tasks and what they are made from.")
    ] = False,
) -> None:
    """Write the questions of face tasks: text, answers and image paths, never an image."""
    from rich.console import Console
    from rich.progress import track

    from ..errors import FaceConfigError, FaceDataError
    from ..evaluation.builders import BENCHMARKS, BuildOptions, build, fitting

    console = Console(stderr=True)
    pairs = [text.partition("=") for text in set_ or []]
    if bad := [text for text, (key, _, value) in zip(set_ or [], pairs, strict=True) if not key or not value]:
        raise FaceConfigError(f"--set {bad[0]}: expected KEY=VALUE")
    settings = {key: value for key, _, value in pairs}
    options = BuildOptions(
        split, seed, limit, verify,
        progress=lambda what, doing: track(what, description=doing, console=console, transient=True),
    )  # fmt: skip
    chosen = [BENCHMARKS[name] for name in tasks] if tasks else fitting(manifest)
    known = {name for benchmark in chosen for name in benchmark.settings}
    if unknown := sorted(settings.keys() - known):
        raise FaceConfigError(f"--set {unknown[0]}: these tasks have {', '.join(sorted(known)) or 'no settings'}")
    failed: list[FaceDataError] = []
    for benchmark in chosen:
        try:
            own = {name: value for name, value in settings.items() if name in benchmark.settings}
            path, header = build(benchmark, root, out, manifest, replace(options, settings=own))
        except FaceDataError as error:
            if tasks:
                raise
            failed.append(error)
            console.print(f"{benchmark.task}: left out: {error}", soft_wrap=True, style="yellow", highlight=False)
            continue
        typer.echo(f"{path}: {header.rows:,} questions, digest {header.digest[:12]}")
        for reason, count in sorted(header.skipped.items()):
            typer.echo(f"  left out: {count:,} x {reason}")
        for note in header.notes:
            typer.echo(f"  {note}")
        if header.licence:
            typer.echo(f"  licence: {header.licence}")
    if len(failed) == len(chosen):
        raise failed[0]
