"""``llava-face convert``: a checkpoint of one host as one of another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("convert")(convert)


def convert(
    source: Annotated[Path, typer.Argument(help="A whole LLaVA checkpoint, with or without face mode.")],
    out: Annotated[Path, typer.Argument(help="The directory to write.")],
    to: Annotated[str, typer.Option(help="hf | llava | llava-next: whose classes will load it.")],
    vision_tower: Annotated[
        str | None,
        typer.Option(help="The vision tower: to hf, a directory; else also a name for the configuration to hold."),
    ] = None,
) -> None:
    """Rewrite a checkpoint for another host, with equal logits. Start it again after a stop and it goes on."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn

    from ..checkpoints.conversion import convert as run

    with Progress(
        TextColumn("writing shards"), MofNCompleteColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("", total=None)
        done = run(
            source, out, to, vision_tower=vision_tower,
            progress=lambda n, total: bar.update(task, completed=n, total=total),
        )  # fmt: skip
    face = "with face mode" if done.face else "without face mode"
    typer.echo(f"wrote {out}: {done.family}, {face}, {done.tensors} tensors in {done.shards} files")
    for note in done.notes:
        typer.echo(f"  note: {note}")
