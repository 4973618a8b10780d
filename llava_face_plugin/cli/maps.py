"""``llava-face maps``: is a map store fit to train on?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..maps.check import Check


def register(app: typer.Typer) -> None:
    """Adds the command group to ``app``."""
    maps = typer.Typer(help="Map stores and folders of maps.", no_args_is_help=True)
    maps.command("check")(check)
    app.add_typer(maps, name="maps")


def check(
    store: Annotated[Path, typer.Argument(help="Map store, or folder of PNG or .npy maps.", metavar="STORE")],
    images: Annotated[
        Path | None,
        typer.Option(help="Image folder: also look for images that are missing, changed, or of another shape."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read maps.")] = 4,
    shown: Annotated[
        int, typer.Option(min=0, help="Messages to show of each kind of problem, and of failed rows.")
    ] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON on stdout.")] = False,
) -> None:
    """Read every map: ids, sizes, missing files, duplicates, coverage by part. Exit code 1 if there is a problem."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from ..maps.check import check_maps

    columns = (SpinnerColumn(), TextColumn("checking maps"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        found = check_maps(
            store, images, workers=workers, shown=shown, progress=lambda n: bar.update(task, completed=n)
        )
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
    else:
        _show(store, found)
    if not found.ok:
        raise typer.Exit(1)


def _show(store: Path, found: Check) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    table = Table("part", "maps with it", "mean share of pixels", title=f"{store}: {found.maps:,} maps")
    for column in table.columns[1:]:
        column.justify = "right"
    for part, coverage in found.coverage.items():
        table.add_row(part, f"{coverage.maps:,}", f"{100 * coverage.share:.2f} %")
    console.print(table)
    for title, counts in (("rows", found.statuses), ("failed", found.reasons)):
        if counts:
            console.print(f"{title}: " + ", ".join(f"{n:,} {kind}" for kind, n in counts.most_common()), markup=False)
    for message in found.failures:
        console.print(f"  {message}", markup=False)
    if hidden := (found.reasons.total() - len(found.failures) if found.failures else 0):
        console.print(f"  and {hidden:,} more (--shown)", markup=False)
    common = ", ".join(f"{size} ({n:,})" for size, n in found.sizes.most_common(5))
    console.print(f"sizes: {len(found.sizes):,}; most common: {common or 'none'}", markup=False)
    for number, what in (
        (found.empty, "maps are all background"),
        (found.unknown, "maps have pixels of id 255 (unknown)"),
        (found.reversed_sides, "maps have an l_ part to the left of its r_ partner (mirrored, or labelled otherwise)"),
        (found.images_without_row, "images of the folder are not in the store"),
        (found.same_pixels, "images have the pixels of another image"),
    ):
        if number:
            console.print(f"note: {number:,} {what}", markup=False)
    for kind, number in found.problems.items():
        console.print(f"[red]problem[/red]: {number:,} x {kind}")
        for message in found.examples.get(kind, []):
            console.print(f"  {message}", markup=False)
    console.print("[green]fit to train on[/green]" if found.ok else "[red]not fit to train on[/red]")
