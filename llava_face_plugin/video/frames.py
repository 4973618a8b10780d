"""``read_frames``: a video file or a folder of frames -> pixels and times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FaceDataError
from ..parsing.detectors.base import Detector
from .decoders import Clip, open_clip
from .faces import CANDIDATES, best_faces, best_of_parts, detections
from .folder import RATE, FrameFolder
from .limits import check_total
from .sampling import Sampling, uniform


@dataclass(frozen=True)
class Frames:
    """F frames of a clip, in order."""

    pixels: np.ndarray
    """(F, H, W, 3) uint8 RGB."""
    times: np.ndarray
    """(F,) float64: seconds from the clip's first frame."""
    places: np.ndarray
    """(F,) int64: their numbers among all frames of the clip."""
    total: int
    """Frames in the clip."""
    seconds: float
    """Of the whole clip: its last frame's time."""
    boxes: np.ndarray | None = None
    """(F, 4) float64 x0 y0 x1 y1: the face each frame was chosen for (sampling ``face``); NaN where none was found."""

    def __len__(self) -> int:
        return len(self.places)


def read_frames(
    path: str | Path,
    sampling: Sampling | None = None,
    detector: Detector | None = None,
    *,
    rate: float = RATE,
    decoder: str | None = None,
) -> Frames:
    """The frames that ``sampling`` (default: 16, uniformly) chooses. The same file gives the same frames.

    Args:
        path: a video file, or a folder of frames of one size.
        detector: finds faces; needed for sampling ``face``, else not used.
        rate: frames a second of a folder.
        decoder: ``av`` (PyAV) or ``cv2`` (OpenCV); None: what is installed, PyAV first. They differ by a few gray
            levels, for they convert YUV to RGB by versions of FFmpeg of their own.

    Raises ``FaceDataError`` naming the file for one that is missing, empty, no video, broken or cut off, without
    frames, or too large (``limits.py``), and where a detector is needed and not given; ``FaceHostError`` where neither
    PyAV nor OpenCV is installed.
    """
    sampling = sampling or Sampling()
    if sampling.kind == "face" and detector is None:
        raise FaceDataError("sampling 'face' needs a detector: see parsing.build.build_detector")
    clip = opened(path, rate, decoder)
    times = clip.times()
    if sampling.kind != "face":
        return take(clip, times, sampling.places(times))
    assert detector is not None
    looked_at = uniform(len(times), CANDIDATES * sampling.n)
    scores, boxes = best_faces(detections(detector, clip.pictures(looked_at)))
    best = best_of_parts(scores, sampling.n)
    return take(clip, times, looked_at[best], boxes[best])


def read_uniform(path: str | Path, n: int) -> np.ndarray:
    """(n, H, W, 3) uint8 RGB: always ``n`` frames from the first to the last, of a shorter clip some of them twice.

    Those that lmms-eval's ``llava_hf`` takes (``np.linspace(0, T - 1, n, dtype=int)`` of T frames). Raises as
    ``read_frames``.
    """
    pixels = read_frames(path, Sampling("uniform", n)).pixels
    # Of a clip with n frames or more these are all that were read, in order.
    return pixels[np.linspace(0, len(pixels) - 1, n, dtype=int)]


def opened(path: str | Path, rate: float = RATE, decoder: str | None = None) -> Clip:
    """A video file, or a folder of frames at ``rate``; raises as ``read_frames``."""
    path = Path(path)
    return FrameFolder(path, rate) if path.is_dir() else open_clip(path, decoder)


def take(clip: Clip, times: np.ndarray, places: np.ndarray, boxes: np.ndarray | None = None) -> Frames:
    """The frames ``places`` (F,) of a clip with ``times`` (T,). Raises ``FaceDataError`` if one cannot be decoded."""
    check_total(clip.where, len(places), clip.size)
    pixels = np.empty((len(places), clip.size[1], clip.size[0], 3), dtype=np.uint8)
    read = 0
    for picture in clip.pictures(places):
        pixels[read] = picture
        read += 1
    if read != len(places):
        raise FaceDataError(f"{clip.where}: frame {places[read]} could be decoded once and then no more", "damaged")
    return Frames(pixels, times[places], places, len(times), float(times[-1]), boxes)
