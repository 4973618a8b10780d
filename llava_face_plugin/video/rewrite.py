"""Clips as folders of frames, or short mp4s, cut to faces or whole; and their JSON, which names those instead.

For training scripts that choose frames by themselves, or know no faces: they get just the frames that are meant.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import FaceConfigError, FaceDataError
from ..labels import NO_MAP
from ..maps.files import atomic_path, write_map
from ..maps.rows import clean_name
from ..parsing.detectors.base import Detector
from ..parsing.precomputed import PrecomputedParser, index
from .crops import LEAST_SEEN, track_face
from .folder import FRAMES, RATE, frame_names
from .frames import Frames, read_frames
from .sampling import Sampling
from .sources import check_sources, write_source
from .track import PAD, crop_frames, crop_maps
from .write import write_frames, write_mp4

SETTINGS = "frames.json"
SIDE = 336
"""Of a crop, in pixels: that of LLaVA 1.5's tower (our default)."""
MOST_PAD = 10.0
"""More than that the face would be a dot (our default)."""

Progress = Callable[[str, int, int], None]
"""(what, done, total)."""


@dataclass(frozen=True)
class Options:
    """What is made of each clip."""

    sampling: Sampling = field(default_factory=Sampling)
    crop: bool = True
    """Cut to the face that is followed; else whole frames."""
    side: int = SIDE
    pad: float = PAD
    least_seen: float = LEAST_SEEN
    rate: float = RATE
    """Frames a second of clips that are folders of frames."""
    mp4: bool = False
    """Lossy mp4s, in place of folders of PNGs."""

    def __post_init__(self) -> None:
        if self.side < 16 or (self.mp4 and self.side % 2):
            raise FaceConfigError(f"frames: side must be at least 16, and even for mp4, got {self.side}")
        if not 0 <= self.pad <= MOST_PAD or not 0 <= self.least_seen <= 1:
            raise FaceConfigError(
                f"frames: pad is from 0 to {MOST_PAD:g}, and least_seen a share from 0 to 1, "
                f"got {self.pad} and {self.least_seen}"
            )
        if not 0 < self.rate <= 1000:
            raise FaceConfigError(f"frames: rate must be above 0 and at most 1000 a second, got {self.rate}")


@dataclass
class Outcome:
    """``made`` and ``there`` (from an earlier run): clips; ``rows``: samples of the JSON; ``skipped``: reason ->
    clips; ``failures``: a sentence for each of the first ``SHOWN``; ``mapped`` of ``frames`` have a map, where maps
    are asked for."""

    made: int = 0
    there: int = 0
    rows: int = 0
    frames: int = 0
    mapped: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


SHOWN = 20


def rewrite_clips(
    clips: Mapping[str, Path],
    out: Path,
    options: Options,
    detector: Detector | None = None,
    maps: PrecomputedParser | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, str], Outcome]:
    """Makes frames of ``clips`` (name -> file or folder) below ``out``; what is there already is kept.

    Args:
        detector: needed for crops and for sampling ``face``.
        maps: looks the frames' maps up by their pixels; they are cut likewise and indexed in ``out/index.json``.
    Returns: name -> path below ``out``, of the clips that could be made; and what happened. Broken clips and, where
    they are cut, those without a face are counted; a later run tries them again.

    Raises ``FaceConfigError`` if ``out`` holds frames of other settings or of other clips of the same names, or
    settings do not fit.
    """
    if detector is None and (options.crop or options.sampling.kind == "face"):
        raise FaceConfigError(
            "frames: crops and sampling 'face' need a detector: give --detector; or --no-crop and another --sampling"
        )
    if maps is not None and options.mp4:
        raise FaceConfigError("frames: an mp4 is lossy, so that no map is found for its frames; leave --mp4 out")
    places = {name: _place(name, options.mp4) for name in clips}
    _check_places(places)
    _check_settings(out, options, detector, maps)
    check_sources(out, {_stem(name): clip for name, clip in clips.items() if (out / places[name]).exists()})
    outcome, written = Outcome(), {}
    for number, (name, source) in enumerate(clips.items(), 1):
        target = out / places[name]
        if target.exists():
            outcome.there += 1
            written[name] = places[name]
        else:
            try:
                write_source(out, _stem(name), source)
                _make(source, target, options, detector, maps, out / "maps" / _stem(name))
                outcome.made += 1
                written[name] = places[name]
            except FaceDataError as error:
                outcome.skipped[error.reason or "unreadable"] += 1
                outcome.failures += [str(error)] if len(outcome.failures) < SHOWN else []
        if progress is not None:
            progress("clips", number, len(clips))
    if maps is not None and written:
        pairs = list(_pairs(out, [_stem(name) for name in written]))
        outcome.files += [index(pairs, out).path] if pairs else []
        outcome.frames, outcome.mapped = sum(len(frame_names(out / place)) for place in written.values()), len(pairs)
    return written, outcome


def rewrite_json(samples: Sequence[Any], written: Mapping[str, str], path: Path, outcome: Outcome) -> None:
    """Writes ``samples`` with the new paths as ``video``; those of clips that could not be made are left out."""
    rows = []
    for sample in samples:
        if "video" not in sample:
            rows.append(sample)
        elif sample["video"] in written:
            rows.append({**sample, "video": written[sample["video"]]})
    with atomic_path(path) as temporary:
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        temporary.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    outcome.rows += len(rows)
    outcome.files.append(path)


def _make(
    source: Path,
    target: Path,
    options: Options,
    detector: Detector | None,
    maps: PrecomputedParser | None,
    maps_folder: Path,
) -> None:
    if options.crop:
        assert detector is not None
        track = track_face(source, options.sampling, detector, pad=options.pad, least_seen=options.least_seen,
                           rate=options.rate)  # fmt: skip
        frames, shown = track.frames, crop_frames(track.frames.pixels, track.squares, options.side)
    else:
        frames = read_frames(source, options.sampling, detector, rate=options.rate)
        shown = frames.pixels
    if options.mp4:
        write_mp4(target, shown, _rate(frames))
        return
    if maps is not None:
        labels = _maps_of(frames.pixels, maps)
        cut = crop_maps(labels, track.squares, options.side) if options.crop else labels
        _write_maps(maps_folder, cut)
    # Under its own name only when it is whole: that is how a later run knows what is there.
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    write_frames(part, shown)
    os.replace(part, target)


def _maps_of(pixels: np.ndarray, maps: PrecomputedParser) -> np.ndarray:
    """(F, H, W) uint8; a frame without a map is all ``NO_MAP``."""
    found = maps.parse([Image.fromarray(picture) for picture in pixels])
    unknown = np.full(pixels.shape[1:3], NO_MAP, dtype=np.uint8)
    return np.stack([unknown if one.labels is None else one.labels for one in found])


def _write_maps(folder: Path, labels: np.ndarray) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # maps of an earlier attempt, of frames that have none now
    for number, one in enumerate(labels, 1):
        if not (one == NO_MAP).all():
            write_map(folder / f"{number:05d}.png", one)


def _pairs(out: Path, stems: Sequence[str]) -> Iterator[tuple[Path, Path]]:
    for stem in stems:
        for labels in sorted((out / "maps" / stem).glob("*.png")):
            yield out / FRAMES / stem / labels.name, labels


def _rate(frames: Frames) -> float:
    """Frames a second at which an mp4 of these has the clip's own speed."""
    span = float(frames.times[-1] - frames.times[0])
    return min(1000.0, (len(frames) - 1) / span) if span > 0 else RATE


def _stem(name: str) -> str:
    path = clean_name(name)
    path = path.removeprefix(f"{FRAMES}/")
    head, dot, ending = path.rpartition(".")
    return head if dot and "/" not in ending and head else path


def _place(name: str, mp4: bool) -> str:
    return f"videos/{_stem(name)}.mp4" if mp4 else f"{FRAMES}/{_stem(name)}"


def _check_places(places: Mapping[str, str]) -> None:
    taken: dict[str, str] = {}
    for name, place in places.items():
        if place in taken:
            raise FaceDataError(f"frames: {taken[place]} and {name} would both be written to {place}")
        taken[place] = name


def _check_settings(out: Path, options: Options, detector: Detector | None, maps: PrecomputedParser | None) -> None:
    said = {
        **asdict(options), "detector": detector.digest if detector else None,
        "maps": str(maps.path.resolve()) if maps else None,
    }  # fmt: skip
    path = out / SETTINGS
    if path.is_file():
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
            differ = [f"{key} {there.get(key)} there, {value} now" for key, value in said.items()
                      if there.get(key, "unknown") != value]  # fmt: skip
        except (ValueError, AttributeError) as error:
            raise FaceConfigError(f"{path}: not a file of settings: choose another folder") from error
        if differ:
            told = ", ".join(differ)
            raise FaceConfigError(
                f"{path}: the frames there were made with other settings ({told}): choose another folder"
            )
        return
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(said, indent=2), encoding="utf-8")
