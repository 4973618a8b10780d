"""``llava-face frames``: clips as folders of frames, cut to the face or whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import torch

    from ..video.rewrite import Outcome, Progress


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("frames")(frames)


def frames(
    source: Annotated[
        Path, typer.Argument(help="A LLaVA JSON whose samples have `video`, or a folder of video files.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the frames and the JSON: the new --video_folder.")],
    video_folder: Annotated[Path | None, typer.Option(help="The folder that the JSON's paths are below.")] = None,
    sampling: Annotated[str, typer.Option(help="uniform:N, fps:RATE:N or face:N.")] = "uniform:16",
    crop: Annotated[bool, typer.Option("--crop/--no-crop", help="Cut to the face that is followed.")] = True,
    detector: Annotated[str | None, typer.Option(help="yunet or retinaface: finds the faces.")] = None,
    detector_path: Annotated[Path | None, typer.Option(help="The detector's file.")] = None,
    detector_model: Annotated[str | None, typer.Option(help="retinaface: mobilenet or resnet50.")] = None,
    detector_sha256: Annotated[str | None, typer.Option(help="Of the detector's file.")] = None,
    min_score: Annotated[float | None, typer.Option(help="Detections below do not count.")] = None,
    side: Annotated[int, typer.Option(help="Of a crop, in pixels.")] = 336,
    pad: Annotated[float, typer.Option(help="Added around the face on each side, as a share of it.")] = 0.3,
    least_seen: Annotated[float, typer.Option(help="Leave clips out whose face is found in a smaller share.")] = 0.5,
    rate: Annotated[float, typer.Option(help="Frames a second of clips that are folders of frames.")] = 2.0,
    mp4: Annotated[bool, typer.Option("--mp4", help="Lossy mp4s in place of folders of PNGs.")] = False,
    maps: Annotated[
        Path | None, typer.Option(help="index.json or store with the frames' maps: they are cut likewise.")
    ] = None,
    device: Annotated[str, typer.Option(help="torch device of the detector.")] = "cpu",
    shard: Annotated[
        str, typer.Option(help="i/n: only each n-th clip; then once without it, for the JSON and index.")
    ] = "1/1",
) -> None:
    """Take frames out of clips, by default cut to the face, and rewrite their JSON. Run it again to go on."""
    from ..errors import FaceConfigError
    from ..segment.entries import read_samples
    from ..video.detector import detector_of
    from ..video.rewrite import Options, rewrite_clips, rewrite_json
    from ..video.sampling import Sampling

    options = Options(Sampling.parse(sampling), crop, side, pad, least_seen, rate, mp4)
    _check_out(source, out, video_folder)
    own = {"path": detector_path, "model": detector_model, "sha256": detector_sha256}
    if detector is None and (lost := [f"--detector-{key}" for key, value in own.items() if value is not None]):
        raise FaceConfigError(f"frames: {lost[0]} is for a detector: name it with --detector")
    samples = None if source.is_dir() else read_samples(source)
    clips = _in_folder(source) if samples is None else _in_json(source, samples, video_folder)
    number, shards = _shard(shard)
    clips = dict(list(clips.items())[number - 1 :: shards])
    finds = maps_of = None
    if detector is not None:
        finds = detector_of(detector, str(detector_path) if detector_path else None, model=detector_model,
                            sha256=detector_sha256, min_score=min_score, device=_device(device))  # fmt: skip
    if maps is not None:
        from ..parsing.precomputed import PrecomputedParser

        maps_of = PrecomputedParser(maps)
    try:
        with _progress() as progress:
            written, outcome = rewrite_clips(clips, out, options, finds, maps_of, progress)
    except KeyboardInterrupt:
        typer.echo("stopped; what is finished is kept: the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    if samples is not None and shards == 1:
        rewrite_json(samples, written, out / source.name, outcome)
    _print(outcome, len(clips), maps)
    raise typer.Exit(0 if written or not clips else 1)


def _check_out(source: Path, out: Path, video_folder: Path | None) -> None:
    """Raises ``FaceConfigError`` if ``out`` is where the clips are, or would have the source JSON overwritten."""
    from ..errors import FaceConfigError

    folder = source if source.is_dir() else video_folder
    if folder is not None and out.resolve() == folder.resolve():
        raise FaceConfigError(f"frames: --out {out} is the folder of the clips themselves: choose another one")
    if not source.is_dir() and (out / source.name).resolve() == source.resolve():
        raise FaceConfigError(f"frames: --out {out} would have {source} overwritten: choose another folder")


def _device(text: str) -> torch.device:
    import torch

    from ..errors import FaceConfigError

    try:
        device = torch.device(text)
        torch.empty(0, device=device)  # a name that torch knows may be of a device that is not here
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        # in that order: no such name; a torch without CUDA; a device without kernels
        raise FaceConfigError(f"--device {text}: {str(error).splitlines()[0]}") from error
    return device


def _shard(text: str) -> tuple[int, int]:
    from ..errors import FaceConfigError

    parts = text.split("/")
    if len(parts) != 2 or not all(p.isdigit() for p in parts) or not 1 <= int(parts[0]) <= int(parts[1]):
        raise FaceConfigError(f"--shard: expected i/n with i from 1 to n, such as 1/8, got {text!r}")
    return int(parts[0]), int(parts[1])


def _in_json(path: Path, samples: list[Any], folder: Path | None) -> dict[str, Path]:
    from ..errors import FaceConfigError, FaceDataError

    if folder is None:
        raise FaceConfigError(f"frames {path}: name the folder that its video paths are below: --video-folder")
    for number, sample in enumerate(samples):
        if not isinstance(sample, dict) or not isinstance(sample.get("video", ""), str):
            raise FaceDataError(f"{path}, sample {number}: expected an object whose `video` is a path")
    clips = {sample["video"]: folder / sample["video"] for sample in samples if "video" in sample}
    if not clips:
        raise FaceDataError(f"{path}: no sample has a `video`")
    return clips


def _in_folder(folder: Path) -> dict[str, Path]:
    from ..data.datasets._clips import VIDEOS
    from ..errors import FaceDataError

    found = [Path(parent) / name for parent, _, names in os.walk(folder) for name in names
             if name.lower().endswith(VIDEOS) and not name.startswith(".")]  # fmt: skip
    if not found:
        raise FaceDataError(f"{folder}: there is no video file in it ({', '.join(VIDEOS)})")
    return {path.relative_to(folder).as_posix(): path for path in sorted(found)}


@contextmanager
def _progress() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield report


def _print(outcome: Outcome, clips: int, maps: Path | None) -> None:
    typer.echo(f"{clips:,} clips: {outcome.made:,} made, {outcome.there:,} already there")
    for reason, count in sorted(outcome.skipped.items()):
        typer.echo(f"  left out: {count:,} x {reason}")
    for message in outcome.failures:
        typer.echo(f"  {message}")
    if outcome.rows:
        typer.echo(f"{outcome.rows:,} samples")
    if outcome.frames:
        without = outcome.frames - outcome.mapped
        typer.echo(f"{outcome.frames:,} frames: {outcome.mapped:,} with a map, {without:,} without")
        if not outcome.mapped:
            told = "maps are found by a frame's exact pixels, and those of a lossy mp4 are others than the picture's"
            typer.echo(f"warning: no frame has a map in {maps}: {told}", err=True)
    for path in outcome.files:
        typer.echo(path)
