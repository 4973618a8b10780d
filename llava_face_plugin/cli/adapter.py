"""``llava-face adapter``: the face branch in a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the command group to ``app``."""
    adapter = typer.Typer(help="The face branch alone: out of a model, into another.", no_args_is_help=True)
    adapter.command("save")(save)
    adapter.command("apply")(apply)
    app.add_typer(adapter, name="adapter")


def save(
    model_dir: Annotated[Path, typer.Argument(help="A trained face LLaVA of any host, or a PEFT or LoRA output.")],
    out: Annotated[Path, typer.Argument(help="The safetensors file to write.", metavar="FILE")],
    base: Annotated[
        Path | None, typer.Option(help="The model directory that a PEFT or LoRA output was trained on.")
    ] = None,
    with_projector: Annotated[
        bool, typer.Option("--with-projector", help="Put the projector in too (if it was trained as well).")
    ] = False,
) -> None:
    """Write the face branch of MODEL_DIR into one small file."""
    from .. import summary
    from ..checkpoints.save import save_adapter

    adapter = save_adapter(model_dir, out, base=base, with_projector=with_projector)
    count = sum(tensor.numel() for tensor in adapter.tensors.values())
    typer.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB): {len(adapter.tensors)} tensors, {count:,} parameters")
    typer.echo(f"  from          {adapter.host}, widths {adapter.vision_width} and {adapter.llm_width}")
    typer.echo(f"  segmentation  {adapter.face.segmentation.encoder or 'none'}")
    typer.echo(f"  facial        {summary.facial(adapter.face.facial)}")
    typer.echo(f"  fusion        {summary.fusion(adapter.face.fusion)}")
    knowledge = adapter.face.knowledge
    typer.echo(f"  knowledge     {f'{len(knowledge.attributes)} attributes' if knowledge else 'off'}")
    frozen = adapter.face.facial is not None and not adapter.face.facial.trained
    if frozen and not adapter.facial_sha256:
        typer.echo("  note: the facial encoder's weights are not here; who applies this file cannot check theirs")
    typer.echo(f"  projector     {'in the file' if adapter.projector else 'not in the file'}")


def apply(
    adapter: Annotated[Path, typer.Argument(help="A file that `adapter save` wrote.")],
    model_dir: Annotated[Path, typer.Argument(help="A plain LLaVA of any host; it is not changed.")],
    out: Annotated[Path, typer.Option(help="The new directory; large files become hard links where possible.")],
    facial: Annotated[
        str | None, typer.Option(help="Where the weights of a frozen facial encoder lie here, if not where they were.")
    ] = None,
) -> None:
    """Write a face LLaVA: MODEL_DIR with the branch of ADAPTER, switched on."""
    from .. import summary
    from ..checkpoints.apply import apply_adapter

    done = apply_adapter(adapter, model_dir, out, facial=facial)
    typer.echo(f"face mode is on in {out}: {summary.sources(done.face)}, {summary.fusion(done.face.fusion)}")
    for note in done.notes:
        typer.echo(f"  note: {note}")
    typer.echo(f"check it: llava-face doctor {out} --trained")
