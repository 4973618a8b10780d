"""``llava-face doctor``: preflight before a run, check after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def doctor(
    model_dir: Annotated[Path | None, typer.Argument(help="A model directory to check too.")] = None,
    on: Annotated[bool, typer.Option("--on", help="Require face mode to be on (before a run).")] = False,
    trained: Annotated[bool, typer.Option("--trained", help="Require trained face weights (after a run).")] = False,
    data: Annotated[Path | None, typer.Option(help="Also check this training JSON, every sample.")] = None,
    image_folder: Annotated[Path, typer.Option(help="Folder of the images and maps of --data.")] = Path(),
    decode: Annotated[bool, typer.Option("--decode", help="Decode every image of --data: slow.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Say what is on, which host and version, what is hooked. Exit code 1 if anything is wrong."""
    from ..errors import FaceConfigError
    from ..hosts.doctor import examine

    if model_dir is None and (on or trained):
        raise FaceConfigError("doctor: --on and --trained are about a MODEL_DIR")
    report = examine(model_dir, on=on, trained=trained)
    if data is not None:
        from ..hosts.doctor_data import check_data

        check_data(report, data, image_folder, decode=decode, show_progress=not as_json)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=2))
    else:
        _print(report)
    raise typer.Exit(0 if report.healthy else 1)


def _print(report: object) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..hosts.doctor import Report

    assert isinstance(report, Report)
    console = Console()
    console.print("  ".join(f"{name} {version}" for name, version in report.versions.items()), highlight=False)
    table = Table(show_header=False, box=None, pad_edge=False)
    style = {
        "ok": "[green]ok[/green]",
        "warning": "[yellow]warning[/yellow]",
        "problem": "[red]problem[/red]",
    }
    for finding in report.findings:
        table.add_row(style[finding.level], finding.what, finding.detail)
    console.print(table, highlight=False)
    console.print("[green]healthy[/green]" if report.healthy else "[red]not healthy[/red]")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(doctor)
