"""Clips as frames, for hosts that read video: which of them, read by the video room."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...data.datasets._clips import VIDEOS
from ...errors import FaceDataError
from ...parsing.detectors.base import Detector
from ...video import Sampling, read_frames, read_uniform


@dataclass(frozen=True)
class Clips:
    """How clips are shown to a host."""

    sampling: Sampling
    detector: Detector | None = None
    """Finds faces; needed for sampling ``face``."""

    def read(self, path: Path) -> np.ndarray:
        """(F, H, W, 3) uint8 RGB. ``uniform``: always ``n`` frames, those of ``read_uniform``; else ``n`` at most.

        Raises ``FaceDataError`` for a clip that cannot be read, ``FaceHostError`` without PyAV and OpenCV.
        """
        if self.sampling.kind == "uniform":
            return read_uniform(path, self.sampling.n)
        return read_frames(path, self.sampling, self.detector).pixels

    def key(self, path: Path) -> str:
        """The same for the same frames of the same file. Raises ``FaceDataError`` if there is none.

        Of a folder of frames the time is that at which a frame was last added or taken away.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise FaceDataError(f"video {path}: no such file or folder", "missing") from error
        return f"{path}:{status.st_size}:{status.st_mtime_ns}:{self.sampling}"


def is_clip(path: Path) -> bool:
    """A video file, by its ending, or a folder of frames."""
    return path.suffix.lower() in VIDEOS or path.is_dir()
