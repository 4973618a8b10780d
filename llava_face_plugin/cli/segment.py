"""``llava-face segment``: the images of a data set become a map store."""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..parser_config import ParserConfig
    from ..segment.run import Progress, Summary


class StoreFormat(str, enum.Enum):
    """How maps are stored."""

    png = "png"
    parquet = "parquet"


class EngineName(str, enum.Enum):
    """Where parsers run."""

    local = "local"
    ray = "ray"


_PARSER = "Parser (or --parser-config)"
_RUN = "Run"


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("segment")(segment)


def _of_parser(help_: str) -> Any:
    return typer.Option(help=help_, rich_help_panel=_PARSER)


def _of_run(help_: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help_, rich_help_panel=_RUN, **more)


def segment(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A folder of images, a LLaVA .json, or .parquet (file or folder).")
    ],
    out: Annotated[Path, typer.Option(metavar="STORE", help="The map store to write, or to go on with.")],
    image_folder: Annotated[Path | None, typer.Option(help="json, parquet: what image paths are relative to.")] = None,
    image_column: Annotated[str, typer.Option(help="parquet: paths, bytes, or struct{bytes,path}.")] = "image",
    id_column: Annotated[str | None, typer.Option(help="parquet: column of the names to file maps under.")] = None,
    parser: Annotated[str | None, _of_parser("Type: facer | torchscript | segformer | compact | precomputed.")] = None,
    parser_config: Annotated[
        Path | None, _of_parser("JSON file of a whole parser block, instead of the options here.")
    ] = None,
    path: Annotated[str | None, _of_parser("The checkpoint, or the maps that are there already.")] = None,
    model: Annotated[str | None, _of_parser("facer: farl/celebm/448 | farl/lapa/448.")] = None,
    vocabulary: Annotated[str | None, _of_parser("Whose ids: celebamask-hq | celebm | lapa | bisenet.")] = None,
    sha256: Annotated[str | None, _of_parser("Of the checkpoint; TorchScript needs it.")] = None,
    align: Annotated[str | None, _of_parser("whole | box | celeba-hq | celebm.")] = None,
    size: Annotated[int | None, _of_parser("torchscript: side of its input in pixels.")] = None,
    detector: Annotated[str | None, _of_parser("retinaface | yunet | assume_cropped.")] = None,
    detector_path: Annotated[str | None, _of_parser("The detector's weights.")] = None,
    detector_model: Annotated[str | None, _of_parser("retinaface: mobilenet | resnet50.")] = None,
    detector_sha256: Annotated[str | None, _of_parser("Of the detector's weights.")] = None,
    min_score: Annotated[float | None, _of_parser("Detections below this do not count.")] = None,
    faces: Annotated[str | None, _of_parser("main | all.")] = None,
    max_faces: Annotated[int | None, _of_parser("At most so many faces a picture.")] = None,
    device: Annotated[str | None, _of_parser("torch device, for example cuda.")] = None,
    batch_size: Annotated[int | None, _of_parser("Faces a forward pass of the network.")] = None,
    format_: Annotated[
        StoreFormat, _of_run("png: a mirrored folder of palette PNGs. parquet: shards.", "--format")
    ] = StoreFormat.png,
    shard: Annotated[str, _of_run("i/n: only the i-th of n blocks, for SLURM arrays.")] = "1/1",
    workers: Annotated[int, _of_run("Threads that decode and encode.", min=1)] = 4,
    images_per_batch: Annotated[int, _of_run("Images the parser is given at once.", min=1)] = 16,
    limit: Annotated[int | None, _of_run("At most so many images.", min=1)] = None,
    max_side: Annotated[
        int | None, _of_run("Scale maps down to this longest side: smaller, and faster to read.", min=1)
    ] = None,
    engine: Annotated[EngineName, _of_run("ray: on a Ray cluster.")] = EngineName.local,
    overwrite: Annotated[bool, _of_run("Delete what the store has, and begin anew.", "--overwrite")] = False,
    retry_failed: Annotated[bool, _of_run("Try images again that failed before.", "--retry-failed")] = False,
    strict: Annotated[
        bool, _of_run("Exit code 1 if any image has failed (else only if all have).", "--strict")
    ] = False,
    as_json: Annotated[bool, _of_run("Print the summary as JSON.", "--json")] = False,
) -> None:
    """Make a label map for every image of INPUT. Run it again to go on after an interruption, or with new images."""
    from ..maps.store import INFO
    from ..parser_config import NETWORKS
    from ..segment.run import Options
    from ..segment.run import segment as run

    given = {
        "type": parser, "path": path, "model": model, "vocabulary": vocabulary, "sha256": sha256, "align": align,
        "size": size, "detector": detector, "detector_path": detector_path, "detector_model": detector_model,
        "detector_sha256": detector_sha256, "min_score": min_score, "faces": faces, "max_faces": max_faces,
        "device": device, "batch_size": batch_size,
    }  # fmt: skip
    config = _config({key: value for key, value in given.items() if value is not None}, parser_config)
    if config.type in NETWORKS and config.detector == "assume_cropped":
        typer.echo("note: no --detector, so every picture is taken for one cropped face", err=True)
    options = Options(
        format=format_.value, shard=_shard(shard), workers=workers, images_per_batch=images_per_batch, limit=limit,
        overwrite=overwrite, retry_failed=retry_failed, max_side=max_side, engine=engine.value,
        image_folder=image_folder, image_column=image_column, id_column=id_column,
    )  # fmt: skip
    try:
        with _progress(quiet=as_json) as progress:
            summary = run(source, out, config, options, progress)
    except KeyboardInterrupt:
        kept = "; what is finished is kept: the same command goes on from here" if (out / INFO).is_file() else ""
        typer.echo(f"stopped{kept}", err=True)
        raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps(summary.to_dict(), indent=2))
    else:
        _print(summary)
    bad = summary.all_failed or (strict and summary.failed.total() + summary.failed_before)
    raise typer.Exit(1 if bad else 0)


def _config(given: dict[str, Any], file: Path | None) -> ParserConfig:
    from ..errors import FaceConfigError
    from ..parser_config import ParserConfig

    if file is None:
        if "type" not in given:
            raise FaceConfigError("segment: which parser? Give --parser TYPE, or --parser-config FILE.json")
        return ParserConfig.parse(given, "segment --parser")
    if given:
        raise FaceConfigError(f"--parser-config has the whole parser block: leave out {_option(next(iter(given)))}")
    if not file.is_file():
        raise FaceConfigError(f"--parser-config {file}: no such file")
    try:
        block = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FaceConfigError(f"--parser-config {file}: cannot be read as JSON ({error})") from error
    return ParserConfig.parse(block, f"--parser-config {file}")


def _option(key: str) -> str:
    return "--parser" if key == "type" else f"--{key.replace('_', '-')}"


def _shard(text: str) -> tuple[int, int]:
    from ..errors import FaceConfigError

    parts = text.split("/")
    if len(parts) != 2 or not all(p.isdigit() for p in parts):
        raise FaceConfigError(f"--shard: expected i/n such as 1/8, got {text!r}")
    return int(parts[0]), int(parts[1])


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
    """A bar with rate and time left for each kind of work that reports itself."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} images/s,"), TimeRemainingColumn(), TextColumn("left"),
    )  # fmt: skip
    with Bars(*columns, console=Console(stderr=True), disable=quiet, speed_estimate_period=60) as bars:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total, rate="-")
            task = next(t for t in bars.tasks if t.id == tasks[what])
            rate = done / task.elapsed if done and task.elapsed else 0.0
            bars.update(tasks[what], completed=done, rate=f"{rate:.1f}" if rate else "-")

        yield report


def _print(summary: Summary) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    table = Table("images", "number", title=f"segmented -> {summary.store}", title_justify="left")
    table.columns[1].justify = "right"
    table.add_row("ok", f"{summary.ok:,}")
    table.add_row("no face", f"{summary.no_face:,}")
    for reason, n in sorted(summary.failed.items()):
        table.add_row(f"[red]failed: {reason}[/red]", f"{n:,}")
    failed = f" ({summary.failed_before:,} of them failed)" if summary.failed_before else ""
    table.add_row(f"already there{failed}", f"{summary.there:,}")
    table.add_row("[bold]all[/bold]", f"[bold]{summary.images:,}[/bold]")
    console.print(table)
    rate = f"; {summary.rate:.1f} images/s once the parser was loaded" if summary.done else ""
    console.print(f"{summary.seconds:.1f} s{rate}")
    for reason, message in summary.failures:
        console.print(f"failed ({reason}): {message}", markup=False)
    total = summary.failed.total()
    if total > len(summary.failures):
        console.print(f"and {total - len(summary.failures):,} more: see {summary.store / 'manifest'}", markup=False)
    if not summary.done:
        console.print("nothing to do: every image was there already")
    if summary.all_failed:
        console.print("[red]every image failed[/red]")
    if summary.failed_before:
        console.print("images that failed before were left alone; --retry-failed tries them again")
    sys.stdout.flush()
