"""``llava-face prepare``: a data set becomes a manifest, LLaVA conversations, questions and a knowledge file."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .prepare_clips import MADE_VIDEO, SPELLINGS, check_clip_options, made_video, staged

if TYPE_CHECKING:
    from rich.console import Console

    from ..data.prepared import Prepared, Progress

MADE = "made"
_SHOWN_PROBLEMS = 10


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("prepare")(prepare)


def _list(wanted: bool) -> None:
    """``--list``: every data set with its files and its terms."""
    if not wanted:
        return
    from ..data.datasets import DATASETS

    typer.echo("made\n  drawn faces, no download, no real person\n")
    typer.echo(f"{MADE_VIDEO}\n  drawn talking heads: clips with events that no single frame tells\n")
    for name in DATASETS:
        info = DATASETS[name]
        layout = "\n".join(f"    {line}" for line in info.layout.splitlines())
        typer.echo(f"{name}\n  {info.title}: {info.citation}\n  licence: {info.licence}\n  files:\n{layout}\n")
    raise typer.Exit


def prepare(
    dataset: Annotated[str, typer.Argument(help="made: drawn faces, no download. Your own copy of any in --list.")],
    out: Annotated[Path, typer.Option(help="Folder to write into.")],
    root: Annotated[
        Path | None, typer.Option(help="Your copy of the data set (not for made). Not needed with --labels alone.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="The annotation file, plain or .zip, if it is not in --root (of a set with two lists: with its "
            "official name, or a folder or .zip of both). Without --root: no images."
        ),
    ] = None,
    partition: Annotated[Path | None, typer.Option(help="The file of the official splits, likewise.")] = None,
    identities: Annotated[Path | None, typer.Option(help="The file of the persons, likewise.")] = None,
    images: Annotated[Path | None, typer.Option(help="The image folder, if it is not the usual one.")] = None,
    labels_only: Annotated[bool, typer.Option(help="Look for no image: manifest and knowledge file only.")] = False,
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
    styles: Annotated[
        str,
        typer.Option(help="Conversations: closed,list,choice,describe. Default: closed, or choice without attributes."),
    ] = "",
    balance: Annotated[
        bool, typer.Option(help="closed: ask as often about rare attributes and answers as others.")
    ] = False,
    questions: Annotated[
        int | None,
        typer.Option(min=1, help="Questions an image, in the conversations. Default: 4; a clip: 3, made-video: 2."),
    ] = None,
    val_questions: Annotated[
        int | None,
        typer.Option(min=1, help="Questions an image, in the question file. Default: all attributes."),
    ] = None,
    text_only: Annotated[int, typer.Option(min=0, help="Samples without a picture to mix in.")] = 0,
    seed: Annotated[int, typer.Option(help="Decides everything that is drawn by lot.")] = 0,
    knowledge: Annotated[bool, typer.Option(help="Write the knowledge file.")] = True,
    rules: Annotated[
        str | None, typer.Option(help="Rules: a YAML file or a built-in name. Default: the fitting ones.")
    ] = None,
    max_rate: Annotated[float, typer.Option(min=0, max=1, help="Drop rules that are broken more often.")] = 0.02,
    maps: Annotated[
        Path | None,
        typer.Option(help="Folder of PNG maps with the images' stems, or a store of `llava-face segment`."),
    ] = None,
    celeba_root: Annotated[
        Path | None,
        typer.Option(help="celebamask_hq: where CelebA's partition and identities are. Default: --root."),
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="celebvhq: the clips themselves, for FaVChat's stages: summary, qa or hard.")
    ] = None,
    check_videos: Annotated[bool, typer.Option(help="--stage: decode every clip once, leave out broken ones.")] = False,
    seconds: Annotated[
        tuple[float, float], typer.Option(min=0, help="--stage: shortest and longest clip that is used.")
    ] = (1.0, 60.0),
    frames: Annotated[int, typer.Option(help="made-video: frames a clip, at least 9.")] = 16,
    rate: Annotated[float, typer.Option(help="made-video: frames a second of the mp4s.")] = 8.0,
    mp4: Annotated[bool, typer.Option(help="made-video: also write mp4s (lossy; the PNGs are exact).")] = False,
    list_: Annotated[
        bool, typer.Option("--list", is_eager=True, callback=_list, help="Show all data sets, their files and terms.")
    ] = False,
) -> None:
    """Write a manifest, LLaVA training JSON, a question file, maps and a knowledge file. Images are never copied."""
    from ..errors import FaceConfigError

    dataset = SPELLINGS.get(dataset, dataset)
    given = {"--labels": labels, "--partition": partition, "--identities": identities, "--images": images}
    check_clip_options(dataset, stage, root, {"--check-videos": check_videos})
    _check_options(dataset, root, given, maps, celeba_root)
    work: Callable[..., Prepared]
    if dataset in (MADE, MADE_VIDEO):
        if styles or balance or labels_only:
            raise FaceConfigError(f"prepare {dataset}: --styles, --balance and --labels-only are for real data sets")
        if dataset == MADE:
            work = functools.partial(
                _made, out, train, val, _size(size), questions or 4, val_questions, knowledge, rules, max_rate, seed,
                text_only,
            )  # fmt: skip
        else:
            work = functools.partial(
                made_video, out, train, val, _size(size), frames, rate, questions or 2, seed, mp4, knowledge, rules,
                max_rate,
            )  # fmt: skip
    elif stage is not None and root is not None:
        if styles or balance or labels_only or maps is not None:
            raise FaceConfigError(f"prepare {dataset} --stage: leave --styles, --balance, --labels-only and --maps out")
        clip_read = {"labels": labels, "images": images}
        work = functools.partial(
            staged,
            root,
            out,
            stage,
            clip_read,
            questions,
            seed,
            limit,
            check_videos,
            seconds,
            knowledge,
            rules,
            max_rate,
        )
    else:
        from ..data.splits import SplitOptions

        options = SplitOptions(
            split, limit, val_limit, holdout, questions or 4, val_questions, seed, text_only,
            tuple(s.strip() for s in styles.split(",") if s.strip()), balance,
        )  # fmt: skip
        read = {
            "labels": labels, "partition": partition, "identities": identities, "images": images, "maps": maps,
            "celeba_root": celeba_root, "look_for_images": root is not None and not labels_only,
        }  # fmt: skip
        work = functools.partial(_read, dataset, root, out, read, options, knowledge, rules, max_rate)
    with _progress() as progress:
        prepared = work(progress=progress)
    _summary(dataset, prepared)


def _check_options(
    dataset: str, root: Path | None, given: dict[str, Path | None], maps: Path | None, celeba_root: Path | None
) -> None:
    from ..data.datasets import DATASETS
    from ..errors import FaceConfigError
    from ..registry import unknown_name

    made = dataset in (MADE, MADE_VIDEO)
    if not made and dataset not in DATASETS:
        raise FaceConfigError(unknown_name("data set", dataset, (MADE, MADE_VIDEO, *DATASETS)))
    if made:
        if root is not None:
            raise FaceConfigError(f"prepare {dataset} draws its faces: leave --root out")
    elif root is None and given["--labels"] is None:
        raise FaceConfigError(
            f"prepare {dataset} needs --root, the folder of your copy (or --labels, for a manifest without images)"
        )
    if made and (wrong := [option for option, path in given.items() if path is not None]):
        raise FaceConfigError(f"prepare {dataset}: {wrong[0]} is an option of real data sets only")
    if maps is not None and (made or DATASETS[dataset].own_maps):
        raise FaceConfigError(f"prepare {dataset}: its maps come with it, leave --maps out")
    if celeba_root is not None and dataset != "celebamask_hq":
        raise FaceConfigError(f"prepare {dataset}: --celeba-root is an option of celebamask_hq only")


def _read(
    dataset: str, root: Path | None, out: Path, read: dict[str, Any], options: Any, knowledge: bool,
    rules: str | None, max_rate: float, *, progress: Progress,
) -> Prepared:  # fmt: skip
    from ..data.datasets import ReadOptions
    from ..data.prepare import prepare as prepare_dataset

    given = ReadOptions(**read, progress=progress)
    return prepare_dataset(dataset, root, out, given, options, knowledge=knowledge, rules=rules, max_rate=max_rate)


def _made(
    out: Path, train: int, val: int, size: tuple[int, int], k: int, val_k: int | None, knowledge: bool,
    rules: str | None, max_rate: float, seed: int, text_only: int, *, progress: Progress,
) -> Prepared:  # fmt: skip
    from ..data import made
    from ..data.manifest_file import save_manifest
    from ..data.prepared import write_knowledge
    from ..errors import FaceHostError

    prepared = made.make(out, train, val, seed, size, k=k, val_k=val_k, text_only=text_only, progress=progress)
    if knowledge:
        write_knowledge(prepared, "made", rules=rules, max_rate=max_rate)
    try:
        prepared.manifest = made.manifest_of(prepared)
        save_manifest(prepared.manifest, out / "manifest.parquet")
        prepared.files["manifest"] = out / "manifest.parquet"
    except FaceHostError as error:  # drawn faces train without pyarrow; only evaluation asks for the manifest
        prepared.notes.append(f"no manifest: {error}")
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
    from rich.markup import escape
    from rich.table import Table

    from ..data.datasets import DATASETS

    console = Console(soft_wrap=True, highlight=False)
    table = Table("prepared", "number", title=f"{dataset} -> {prepared.out}", title_justify="left")
    table.columns[1].justify = "right"
    if prepared.manifest is not None:
        table.add_row("manifest rows", f"{len(prepared.manifest):,}")
    for name, n in prepared.rows.items():
        table.add_row(name, f"{n:,}")
    for reason, n in sorted(prepared.skipped.items()):
        table.add_row(f"[dim]skipped: {escape(reason)}[/dim]", f"[dim]{n:,}[/dim]")
    console.print(table)
    problems = prepared.manifest.problems if prepared.manifest is not None else []
    for problem in problems[:_SHOWN_PROBLEMS]:
        console.print(f"skipped: {problem}", markup=False)
    if len(problems) > _SHOWN_PROBLEMS:
        console.print(f"... {len(problems) - _SHOWN_PROBLEMS} more are named in the manifest")
    if "knowledge" in prepared.files:
        console.print(f"knowledge counted from {len(prepared.labels['train']):,} train rows")
    for note in prepared.notes:
        console.print(f"note: {note}", markup=False)
    if dataset in DATASETS:
        console.print(f"licence: {DATASETS[dataset].licence}", markup=False)
    for kind, path in prepared.files.items():
        console.print(f"wrote {kind}: {path}", markup=False)
    _what_next(console, prepared)


def _what_next(console: Console, prepared: Prepared) -> None:
    from ..data.manifest import SPLITS

    train = next((path for kind, path in prepared.files.items() if kind == "train" or kind.endswith("_train")), None)
    if train is not None:
        folder = "--video_folder" if _clips(train) else "--image_folder"
        console.print("\nTrain with upstream's scripts and these arguments:\n", markup=False)
        console.print(f"  --data_path {train} {folder} {prepared.image_folder}", markup=False)
        if folder == "--video_folder":
            console.print("\nLLaVA-NeXT reads clips, LLaVA 1.5 does not: docs/video.md", markup=False)
            return
    data = next((prepared.files[split] for split in SPLITS if split in prepared.files), None)
    if data is not None and ("maps" in prepared.files or "map index" in prepared.files):
        picture = prepared.out / "overlay.png"
        look = f"llava-face overlay {data} --image-folder {prepared.image_folder} --out {picture}"
        console.print(f"\nLook at the maps:\n\n  {look}", markup=False)


def _clips(path: Path) -> bool:
    """Whether the first row of a training JSON names a clip: one sample is one line."""
    with open(path, encoding="utf-8") as stream:
        return '"video": "' in "".join(next(stream, "") for _ in range(2)).partition('"face_attributes"')[0]
