"""``llava-face stages``: what each stage of a training trains, in numbers, and the command for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..stages.count import Counts
    from ..stages.plan import Stage, StageFile


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("stages")(stages)


def stages(
    model_dir: Annotated[Path | None, typer.Argument(help="A model directory with face mode on.")] = None,
    file: Annotated[str, typer.Option(help="favchat, favchat-lora, favchat-v6, or a YAML file of yours.")] = "favchat",
    stage: Annotated[str | None, typer.Option(help="Only this stage.")] = None,
    vision_tower: Annotated[
        str | None, typer.Option(help="The tower's folder, for an LLM that names none. Default: LLaVA 1.5's.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Have the host set the model up and compare; loads all weights.")
    ] = False,
    print_command: Annotated[
        str | None, typer.Option(help="Print upstream's command for the stages: llava, llava-next or transformers.")
    ] = None,
) -> None:
    """Show which parts are trained and which are frozen in each stage, with parameter counts. Loads no weights."""
    from ..errors import FaceConfigError
    from ..stages.plan import load_stages

    plan = load_stages(file)
    if stage is not None:
        plan.stage(stage)
    if print_command is not None:
        if check:
            raise FaceConfigError("stages: either --check or --print-command, not both")
        _print_commands(plan, stage, print_command, model_dir, file)
        return
    if model_dir is None:
        if check:
            raise FaceConfigError("stages: --check is about a MODEL_DIR")
        _about(plan)
        return
    from ..stages.count import count

    found = count(model_dir, vision_tower)
    _table(plan, stage, found, model_dir)
    if check and not _checked(plan, stage, found, model_dir, vision_tower):
        raise typer.Exit(1)


def _print_commands(plan: StageFile, only: str | None, host: str, model_dir: Path | None, file: str) -> None:
    from ..config import FaceConfig
    from ..model_files import read_config
    from ..stages.command import command
    from ..stages.fits import refuse_unfit
    from ..stages.plan import full_name

    face = None
    if model_dir is not None:
        config = read_config(model_dir)
        refuse_unfit(host, config, model_dir)
        face = FaceConfig.of(config, str(model_dir))
    trained = face is not None and face.facial is not None and face.facial.trained
    for stage in plan.stages:
        if only in (None, stage.name):
            start = "$MODEL_DIR" if model_dir is None else model_dir
            typer.echo(command(plan, stage, host, start, facial_trained=trained, source=full_name(file)) + "\n")


def _about(plan: StageFile) -> None:
    typer.echo(f"{plan.name}: {' '.join(plan.description.split())}\n")
    for stage in plan.stages:
        rate = f"rate {stage.learning_rate:g}"
        if stage.projector_learning_rate is not None:
            rate += f" (projector and branch {stage.projector_learning_rate:g})"
        typer.echo(f"{stage.name}: {' '.join(stage.about.split())}")
        typer.echo(f"  trains {', '.join(stage.trainable)}; {rate}; {stage.epochs:g} epochs")
        typer.echo(f"  data {stage.data}: {stage.prepare} --root DIR --out DIR")
        typer.echo(f"  source: {' '.join(stage.source.split())}\n")


def _table(plan: StageFile, only: str | None, found: Counts, model_dir: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..stages.parts import PARTS, ROWS, in_stage

    chosen = [s for s in plan.stages if only in (None, s.name)]
    table = Table("part", "parameters", title=f"{model_dir}: stages of {plan.name}", title_justify="left")
    table.columns[1].justify = "right"
    for stage in chosen:
        table.add_column(stage.name)
    for part in ROWS:
        n = found.parts.get(part, 0)
        if n:
            said = ["[green]trained[/green]" if in_stage(part, s.trainable) else "[dim]frozen[/dim]" for s in chosen]
            table.add_row(part, f"{n:,}", *said)
        elif part in found.outside:
            frozen = ["[dim]frozen[/dim]"] * len(chosen)
            table.add_row(f"{part} (read from its path)", f"{found.outside[part]:,}", *frozen)
        elif part in PARTS and any(in_stage(part, s.trainable) for s in chosen):
            there = "added in training" if part == "lora" else "not in this model"
            table.add_row(part, "", *[there if in_stage(part, s.trainable) else "" for s in chosen])
    total = [sum(n for part, n in found.parts.items() if in_stage(part, s.trainable)) for s in chosen]
    table.add_section()
    table.add_row("trained", "", *[f"{n:,}" for n in total])
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    for note in [*found.notes, *_refusals(plan, chosen, found)]:
        console.print(f"note: {note}", markup=False)


def _refusals(plan: StageFile, chosen: Sequence[Stage], found: Counts) -> list[str]:
    """What LLaVA-NeXT's scripts, which can do more than LLaVA 1.5's, cannot do either."""
    from ..errors import FaceConfigError
    from ..stages.hosts import flags

    told = []
    for stage in chosen if found.family == "llava" else ():
        try:
            flags(plan, stage, "llava-next", facial_trained=found.facial_trained)
        except FaceConfigError as error:
            told.append(str(error))
    return told


def _checked(plan: StageFile, only: str | None, found: Counts, model_dir: Path, tower: str | None) -> bool:
    from ..stages.live import differences, trained_parts

    good = True
    for stage in plan.stages:
        if only not in (None, stage.name):
            continue
        wrong = differences(stage, found, trained_parts(plan, stage, found, model_dir, tower))
        good = good and not wrong
        typer.echo(f"{stage.name}: " + ("; ".join(wrong) or "the live model trains just that"))
    return good
