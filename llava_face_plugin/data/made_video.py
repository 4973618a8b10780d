"""Made clips: drawn talking heads, with events that no single frame tells, exact maps and exact labels.

They show no real person and need no download. Each clip has the constant attributes of a made face and one event of
``made_motion.KINDS``. The exact form is a folder of PNG frames; an mp4 of the same frames is lossy, so that its
decoded frames have other pixels, and the ``precomputed`` parser, which goes by pixels, does not find their maps.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FaceDataError
from ..maps.files import write_map
from ..parsing.precomputed import index
from ..video.folder import FRAMES, frame_names
from ..video.write import write_frames, write_mp4
from . import made
from .conversations import Plan, Sample, conversations, row_of
from .made_attributes import MADE_ATTRIBUTES, sample_attributes
from .made_motion import KINDS, LEAST_FRAMES, QUESTION, TEMPORAL, Kind
from .made_portrait import Motion
from .manifest import Manifest
from .prepared import Prepared, Progress, attributes_of, write_json

VOCABULARY: tuple[str, ...] = (*MADE_ATTRIBUTES, *TEMPORAL)
COUNT, RATE = 16, 8.0
"""Frames a clip, and a second."""

FILES = (
    *(f"{split}{end}.json" for end in ("", "_mp4") for split in ("train", "val")), "index.json", "manifest.parquet",
    "manifest.schema.json", "made-video.knowledge.safetensors",
)  # fmt: skip
"""What is written beside the clips."""


@dataclass(frozen=True)
class Clip:
    """One made clip before it is drawn."""

    name: str
    attributes: np.ndarray
    """(20,) int8 as drawn, in the order of ``MADE_ATTRIBUTES``."""
    kind: Kind
    which: int
    """0 or 1: which of the kind's two events."""
    seed: int
    """Of the face."""
    course: tuple[Motion, ...]

    def known(self) -> dict[str, int]:
        """The constant attributes and the event; what changes during the clip is unknown, and left out."""
        constant = attributes_of(self.attributes, MADE_ATTRIBUTES)
        event = {value: int(i == self.which) for i, value in enumerate(self.kind.values)}
        return {name: value for name, value in constant.items() if name not in self.kind.varies} | event


def plan_clips(total: int, seed: int, frames: int = COUNT) -> list[Clip]:
    """``total`` clips: the kinds in turn, both events of each equally often; all else by ``seed`` and number."""
    if frames < LEAST_FRAMES:
        raise FaceDataError(f"made clips: at least {LEAST_FRAMES} frames a clip are needed, got {frames}")
    labels = sample_attributes(total, seed)
    kinds = list(KINDS.values())
    clips = []
    for number in range(total):
        kind, which = kinds[number % len(kinds)], number // len(kinds) % 2
        rng = np.random.default_rng([seed, 8, number])
        start = int(rng.integers(kind.starts(frames)))
        drawn = labels[number].copy()
        drawn[[MADE_ATTRIBUTES.index(name) for name in kind.hides]] = 0
        face = int(rng.integers(2**31))
        clips.append(Clip(f"{number + 1:06d}", drawn, kind, which, face, kind.course(frames, which, start)))
    return clips


def render_clip(clip: Clip, size: tuple[int, int] = made.SIZE) -> tuple[np.ndarray, np.ndarray]:
    """The frames (T, H, W, 3) uint8 RGB and their label maps (T, H, W) uint8; ``size`` is (width, height).

    A state that occurs twice gives the same pixels twice: the two events of a kind have equal frames.
    """
    drawn: dict[Motion, tuple[np.ndarray, np.ndarray]] = {}
    for motion in clip.course:
        if motion not in drawn:
            image, labels = made.render(clip.attributes, clip.seed, size, motion)
            drawn[motion] = np.asarray(image), labels
    pixels, maps = zip(*(drawn[motion] for motion in clip.course), strict=True)
    return np.stack(pixels), np.stack(maps)


def make_clips(
    out_dir: str | Path,
    n_train: int,
    n_val: int,
    seed: int = 0,
    size: tuple[int, int] = made.SIZE,
    *,
    frames: int = COUNT,
    rate: float = RATE,
    k: int = 2,
    mp4: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Draw a set of clips into ``out_dir``.

    ``shareVideoGPTV/NAME/00001.png`` ... and ``maps/NAME/00001.png`` ..., ``index.json`` (by which the ``precomputed``
    parser finds a frame's map), ``train.json`` and ``val.json`` with ``video`` and ``face_attributes``: for each clip
    the question about its event, and ``k`` yes/no questions about constant attributes. ``mp4``: also
    ``videos/NAME.mp4`` at ``rate`` frames a second, and ``train_mp4.json``, ``val_mp4.json``, which name those.
    What an earlier run wrote there is removed first.
    """
    if n_train < 1 or n_val < 0:
        raise FaceDataError(f"made clips: n_train must be at least 1 and n_val at least 0, got {n_train}, {n_val}")
    if mp4 and (size[0] % 2 or size[1] % 2):
        raise FaceDataError(f"made clips: an mp4 needs an even width and height, got {size[0]}x{size[1]}")
    if not 0 < rate <= 1000:
        raise FaceDataError(f"made clips: rate must be above 0 and at most 1000 a second, got {rate}")
    out = Path(out_dir)
    clips = plan_clips(n_train + n_val, seed, frames)
    _clear(out)
    pairs: list[tuple[Path, Path]] = []
    for number, clip in enumerate(clips, 1):
        pixels, maps = render_clip(clip, size)
        images = write_frames(out / FRAMES / clip.name, pixels)
        for image, labels in zip(images, maps, strict=True):
            pairs.append((image, out / "maps" / clip.name / image.name))
            write_map(pairs[-1][1], labels)
        if mp4:
            write_mp4(out / "videos" / f"{clip.name}.mp4", pixels, rate)
        if progress is not None:
            progress("drawing clips", number, len(clips))
    prepared = Prepared(
        out, VOCABULARY, {"train": _table(clips[:n_train]), "val": _table(clips[n_train:])}, image_folder=out,
        rules="made",
    )  # fmt: skip
    for split, own in (("train", clips[:n_train]), ("val", clips[n_train:])):
        _write(prepared, own, split, k, seed, mp4)
    prepared.files["map index"] = index(pairs, out).path
    prepared.files |= {"frames": out / FRAMES, "maps": out / "maps"}
    prepared.notes.append("drawn faces: no real person")
    if mp4:
        prepared.files["videos"] = out / "videos"
        prepared.notes.append("the mp4s are lossy: maps are found for the frame folders only")
    return prepared


def manifest_of(prepared: Prepared) -> Manifest:
    """The manifest of what ``make_clips`` drew: all clips by their middle frame; train, then val."""
    labels = [prepared.labels[split] for split in ("train", "val")]
    folder = prepared.files["frames"]
    names = [f"{number + 1:06d}" for number in range(sum(map(len, labels)))]
    middle = f"{len(frame_names(folder / names[0])) // 2 + 1:05d}.png"
    return Manifest(
        dataset="made-video",
        images=np.array([f"{FRAMES}/{name}/{middle}" for name in names]),
        split=np.repeat(np.array([0, 1], dtype=np.int8), [len(rows) for rows in labels]),
        vocabulary=VOCABULARY,
        attributes=np.concatenate(labels).astype(np.int8),
        present=np.ones(len(names), dtype=bool),
        maps=np.array([f"maps/{name}/{middle}" for name in names]),
        notes=["drawn faces: no real person"],
        ids=np.array(names),
    )


def sample_of(clip: Clip) -> Sample:
    """The clip as the conversations see it; ``image`` is its folder of frames."""
    return Sample(clip.name, f"{FRAMES}/{clip.name}", clip.known(), video=True)


def rows_of(clip: Clip, k: int, seed: int) -> Iterator[dict[str, Any]]:
    """The LLaVA rows of a clip: what happens, then ``k`` questions about what is constant."""
    sample = sample_of(clip)
    rng = random.Random(f"{seed}:{clip.name}:event")
    options = list(clip.kind.answers)
    rng.shuffle(options)
    yield row_of(sample, [(QUESTION.format(options=", ".join(options)), clip.kind.answers[clip.which])])
    constant = {name: value for name, value in sample.attributes.items() if name not in TEMPORAL}
    asked = replace(sample, id=f"{clip.name}:constant", attributes=constant)
    for _, row in conversations(asked, Plan(k=k, seed=seed, varied=False)):
        yield {**row, "face_attributes": dict(sample.attributes)}


def _clear(out: Path) -> None:
    """Removes what an earlier run wrote: the JSONs first, so that none ever names frames of other clips."""
    for name in FILES:
        (out / name).unlink(missing_ok=True)
    for frames in sorted(path for path in (out / FRAMES).glob("[0-9]" * 6) if path.is_dir()):
        # The frames last: by their folder a clip is known as ours, and not a user's own map or video.
        (out / "videos" / f"{frames.name}.mp4").unlink(missing_ok=True)
        if (out / "maps" / frames.name).is_dir():
            shutil.rmtree(out / "maps" / frames.name)
        shutil.rmtree(frames)


def _write(prepared: Prepared, clips: Sequence[Clip], split: str, k: int, seed: int, mp4: bool) -> None:
    rows = [row for clip in clips for row in rows_of(clip, k, seed)]
    write_json(prepared, rows, split)
    prepared.rows[split] = len(rows)
    prepared.rows[f"{split} clips"] = len(clips)
    if mp4:
        named = [{**row, "video": f"videos/{Path(row['video']).name}.mp4"} for row in rows]
        write_json(prepared, named, f"{split}_mp4")


def _table(clips: Sequence[Clip]) -> np.ndarray:
    """(N, 28) int8 of 1, 0 and -1 in the order of ``VOCABULARY``."""
    rows = [[clip.known().get(name, -1) for name in VOCABULARY] for clip in clips]
    return np.array(rows, dtype=np.int8).reshape(-1, len(VOCABULARY))
