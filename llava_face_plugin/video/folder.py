"""A folder of frames as a clip. PNGs are exact, where any video file is not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import FaceDataError
from ..maps.files import IMAGE_SUFFIXES, image_size, open_image
from .limits import check_count, check_size

FRAMES = "shareVideoGPTV"
"""The folder of frame folders: the one name in a path by which LLaVA-NeXT's train.py reads pictures as a clip."""

RATE = 2.0
"""Frames a second that a folder stands for: LLaVA-NeXT's train.py takes its frame folders for 2 a second."""


class FrameFolder:
    """The pictures in a folder in the order of their names, numbers in them by value."""

    def __init__(self, path: Path, rate: float = RATE) -> None:
        """Raises ``FaceDataError`` naming the folder, or the frame: none, damaged, of another size, too large."""
        self.path, self.where, self.rate = path, f"frames {path}", rate
        if not 0 < rate <= 1000:
            raise FaceDataError(f"{self.where}: the rate must be above 0 and at most 1000 a second, got {rate}")
        self.names = frame_names(path)
        check_count(self.where, len(self.names))
        self.size = image_size(path / self.names[0])
        check_size(self.where, self.size)

    def times(self) -> np.ndarray:
        for name in self.names:
            self._check(name, image_size(self.path / name))
        return np.arange(len(self.names)) / self.rate

    def pictures(self, places: np.ndarray) -> Iterator[np.ndarray]:
        for place in places.tolist():
            image = open_image(self.path / self.names[place])
            self._check(self.names[place], image.size)
            yield np.asarray(image, dtype=np.uint8)

    def _check(self, name: str, size: tuple[int, int]) -> None:
        if size != self.size:
            told = f"{size[0]}x{size[1]} pixels, but {self.names[0]} has {self.size[0]}x{self.size[1]}"
            raise FaceDataError(f"{self.where}: {name} has {told}", "format")


def frame_names(folder: Path) -> list[str]:
    """The names of the pictures in a folder: ``2.png`` before ``10.png``."""
    try:
        names = [n for n in os.listdir(folder) if n.lower().endswith(IMAGE_SUFFIXES) and not n.startswith(".")]
    except OSError as error:
        raise FaceDataError(f"frames {folder}: cannot be read ({error.strerror})", "unreadable") from error
    return sorted(names, key=lambda name: ([int(d) for d in re.findall(r"\d+", name)], name))
