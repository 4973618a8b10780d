"""Made clips and stills as arrays: drawn once, kept in a folder, cut as CLIP's processor cuts (centre crop)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from llava_face_plugin.data import made
from llava_face_plugin.data.made_attributes import MADE_ATTRIBUTES, sample_attributes
from llava_face_plugin.data.made_motion import KINDS, NOD, TURN
from llava_face_plugin.data.made_portrait import Motion
from llava_face_plugin.data.made_video import Clip, plan_clips, render_clip
from llava_face_plugin.labels import FACE_PARTS

DRAWN, SIDE = 80, 56
"""Side of the drawn picture and of its centre that is kept: the face fills it."""

TAUGHT = ("blink", "mouth", "smile", "turn", "nod")


STATES = {
    "head": [f"{nod} {turn}" for nod in ("up", "level", "down") for turn in ("left", "ahead", "right")],
    "blink": ["open", "closed"],
}
"""What a single frame shows, in words: of the kinds that the experiment knows."""


class Clips(NamedTuple):
    """Clips of one kind."""

    pixels: np.ndarray
    """(N, T, SIDE, SIDE, 3) uint8 RGB."""
    which: np.ndarray
    """(N,) int64: 0 or 1, which of the kind's two events."""
    state: np.ndarray
    """(N, T) int64: what each frame alone shows, as an index into ``STATES[kind]``."""


class Stills(NamedTuple):
    """Pictures of persons who are in no clip, with what a facial encoder could know of them."""

    pixels: np.ndarray
    """(N, SIDE, SIDE, 3) uint8 RGB."""
    parts: np.ndarray
    """(N, SIDE, SIDE) uint8 part ids."""
    state: np.ndarray
    """(N, 5) float32 in the order of ``TAUGHT``; turn and nod in units of their widest."""
    attributes: np.ndarray
    """(N, 20) int8 of 0 and 1, in the order of ``MADE_ATTRIBUTES``."""

    def of(self, rows: np.ndarray) -> Stills:
        """Some of them."""
        return Stills(*(column[rows] for column in self))


def clips_of(kind: str, total: int, seed: int, frames: int, cache: Path) -> Clips:
    """``total`` clips of that kind, both events equally often, as ``llava-face prepare made-video`` draws them."""

    def draw() -> Clips:
        planned = [clip for clip in plan_clips(total * len(KINDS), seed, frames) if clip.kind.name == kind]
        which = np.array([clip.which for clip in planned])
        state = np.array([[_state(kind, motion) for motion in clip.course] for clip in planned])
        return Clips(np.stack([_pixels(clip) for clip in planned]), which, state)

    return Clips(*_kept(cache / f"{kind}-{total}-{seed}-{frames}.npz", draw))


def _state(kind: str, motion: Motion) -> int:
    """Above 0 a turn is to the picture's right, and a nod is down."""
    if kind == "blink":
        return int(motion.blink > 0.5)
    turn, nod = (1 + int(np.sign(angle)) for angle in (motion.turn, motion.nod))
    return 3 * nod + turn


def stills(total: int, seed: int, cache: Path) -> Stills:
    """Persons in random moments: eyes and mouth open or closed or between, head anywhere."""

    def draw() -> Stills:
        rng = np.random.default_rng([seed, 9])
        attributes = sample_attributes(total, seed)
        drawn = [_still(labels, rng) for labels in attributes]
        pixels, parts, state = (np.stack(column) for column in zip(*drawn, strict=True))
        return Stills(pixels, parts, state.astype(np.float32), attributes)

    return Stills(*_kept(cache / f"stills-{total}-{seed}.npz", draw))


def _still(labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    blink, mouth, smile = rng.choice([0.0, 1.0, rng.random()], 3)
    turn, nod = rng.uniform(-1, 1, 2)
    motion = Motion(turn=TURN * turn, nod=NOD * nod, blink=blink, smile=smile, mouth=mouth)
    image, parts = made.render(labels, int(rng.integers(2**31)), (DRAWN, DRAWN), motion)
    return _cut(np.asarray(image)), _cut(parts), np.array([blink, mouth, smile, turn, nod])


def _pixels(clip: Clip) -> np.ndarray:
    return np.stack([_cut(frame) for frame in render_clip(clip, (DRAWN, DRAWN))[0]])


def _cut(picture: np.ndarray) -> np.ndarray:
    border = (DRAWN - SIDE) // 2
    return picture[border : border + SIDE, border : border + SIDE]


def _kept(path: Path, draw: Callable[[], tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """The arrays at ``path``, drawn and written there if it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part.npz")
        np.savez(temporary, *draw())
        temporary.replace(path)
    with np.load(path) as found:
        return [found[name] for name in found.files]


PARTS, ATTRIBUTES = len(FACE_PARTS), len(MADE_ATTRIBUTES)
