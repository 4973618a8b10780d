"""Video sets: which picture stands for a clip. LLaVA reads images, so frames are needed, and none are made here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..files import Listing
from .base import ReadOptions

FRAMES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
VIDEOS = (".mp4", ".avi", ".flv", ".mkv", ".mov", ".webm")


@dataclass(frozen=True)
class Clips:
    """``images`` (N,) str as in ``Manifest.images``; ``present`` (N,) bool: a frame is there (None: nobody looked)."""

    images: np.ndarray
    present: np.ndarray | None
    notes: tuple[str, ...] = ()


def find_clips(root: Path, options: ReadOptions, prefix: str, stems: np.ndarray, video: str) -> Clips:
    """The middle frame (by name; our default) of every clip's folder of frames.

    ``prefix``: as of ``below``. Where there are no frames the image is the path of the video, ``stem`` + ``video``
    (the official ending), and it counts as not there: its frames have to be extracted first. Where nobody looks
    for images it is that path too.
    """
    names = stems.tolist()
    if not options.look_for_images or not names:
        return Clips(np.array([f"{prefix}{s}{video}" for s in names], dtype=np.str_), None)
    images, present, videos = [], np.zeros(len(names), dtype=bool), 0
    listing = Listing(root)
    for i, stem in enumerate(names):
        frame = _middle(listing, prefix + stem)
        present[i] = frame is not None
        images.append(frame or f"{prefix}{stem}{video}")
        videos += frame is None and any(prefix + stem + v in listing for v in VIDEOS)
    return Clips(np.array(images, dtype=np.str_), present, _notes(present, videos))


def _middle(listing: Listing, clip: str) -> str | None:
    if clip not in listing:
        return None
    folder = listing.root / clip
    frames = sorted(f for f in os.listdir(folder) if f.lower().endswith(FRAMES)) if folder.is_dir() else []
    return f"{clip}/{frames[len(frames) // 2]}" if frames else None


def _notes(present: np.ndarray, videos: int) -> tuple[str, ...]:
    notes = []
    if present.any():
        notes.append(f"{int(present.sum()):,} clips are shown by their middle frame")
    if videos:
        notes.append(
            f"{videos:,} clips are there as videos only. LLaVA reads images: extract frames into a folder of the "
            "clip's name next to it (ffmpeg -i CLIP.mp4 -vf fps=2 CLIP/%05d.jpg)"
        )
    return tuple(notes)
