"""``llava-face enable`` and ``llava-face disable``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def enable(
    model_dir: Annotated[Path, typer.Argument(help="A LLaVA checkpoint, or the LLM a training starts from.")],
    preset: Annotated[
        str, typer.Option(help="light | faceinsight | favchat | favchat-v6 (these two need --set facial.path=FILE).")
    ] = "light",
    knowledge: Annotated[
        str | None, typer.Option(help="A knowledge file, or 'made' for the drawn faces' knowledge.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value over the preset, e.g. fusion.type=append or facial.path=farl.pth."),
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="Leave out a rule group, e.g. gender.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Leave the model alone; write a linked copy with face mode there.")
    ] = None,
    auto_map: Annotated[
        bool,
        typer.Option(
            "--auto-map",
            help="transformers' own classes: trust_remote_code=True then loads the directory without importing "
            "the plugin first.",
        ),
    ] = False,
) -> None:
    """Switch face mode on in MODEL_DIR (writes the "face" block of its config.json)."""
    from .. import summary, switch

    face = switch.enable(
        model_dir,
        preset=preset,
        knowledge=knowledge,
        settings=set_ or [],
        without=without or [],
        out=out,
        auto_map=auto_map,
    )
    target = out or model_dir
    typer.echo(f"face mode is on in {target}: preset {face.preset}")
    typer.echo(f"  segmentation  {face.segmentation.encoder or 'none: label maps are not read'}")
    typer.echo(f"  facial        {summary.facial(face.facial)}")
    typer.echo(f"  fusion        {summary.fusion(face.fusion)}")
    if face.knowledge is None:
        typer.echo("  knowledge     off (give --knowledge FILE to switch it on)")
    else:
        block = face.knowledge
        edges = sum(len(row) for row in block.graph.values())
        typer.echo(
            f"  knowledge     {block.file}: {len(block.attributes)} attributes, {edges} edges at tau {block.tau}, "
            f"{len(block.rules)} rules"
        )
        if block.file == switch.MADE:
            typer.echo("  note: this is the knowledge of the drawn faces; for real data give --knowledge FILE")
    typer.echo(f"check it: llava-face doctor {target}")


def disable(model_dir: Annotated[Path, typer.Argument(help="A model directory.")]) -> None:
    """Switch face mode off in MODEL_DIR (removes the "face" block; weights are left as they are)."""
    from .. import switch

    found = switch.disable(model_dir)
    typer.echo(f"face mode is off in {model_dir}" + ("" if found else " (it was off already)"))


def register(app: typer.Typer) -> None:
    """Adds both commands."""
    app.command()(enable)
    app.command()(disable)
