"""Video files through PyAV or OpenCV: both read the whole file once for its times, then the frames that are wanted.

The first pass decodes, it does not trust the header: a file that is broken anywhere is one clear error, whichever
frames are wanted. Frames are not rotated by a file's display matrix.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import FaceConfigError, FaceDataError, FaceHostError
from ..maps.extras import install_hint
from ..parsing.extras import import_extra
from ..registry import unknown_name
from .limits import check_count, check_file, check_size

LOST = 2
"""Frames that may be missing at the end, against what the header announces, before a file counts as cut off."""

LOST_SHARE = 0.1
"""The same where the header has a duration only, which may be that of a longer sound track."""


@dataclass(frozen=True)
class Announced:
    """How many frames the header says there are (0: it says nothing); not ``exact``: by duration and rate."""

    frames: int
    exact: bool

    @property
    def may_lack(self) -> float:
        """How many may not be there."""
        return LOST if self.exact else max(LOST, LOST_SHARE * self.frames)


class Clip(Protocol):
    """An opened clip."""

    where: str
    """How errors name it."""
    size: tuple[int, int]
    """(width, height) in pixels."""

    def times(self) -> np.ndarray:
        """(T,) float64: the seconds of every frame, the first at 0, rising."""
        ...

    def pictures(self, places: np.ndarray) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 RGB of the frames ``places``, which rise."""
        ...


class PyAvClip:
    """Through PyAV: H.264, HEVC, VP9, AV1 and so on, whatever its FFmpeg has."""

    def __init__(self, path: Path) -> None:
        check_file(path)
        self.path, self.where = path, f"video {path}"
        self.av = import_extra("av", "video")
        with self._opened() as container:
            stream = _video_stream(container, self.where)
            self.size = (stream.codec_context.width, stream.codec_context.height)
            self.rate = float(stream.average_rate or 0)
            self.announced = Announced(int(stream.frames), exact=True)
            if not self.announced.frames and container.duration:
                self.announced = Announced(round(container.duration / self.av.time_base * self.rate), exact=False)
        check_size(self.where, self.size)

    def times(self) -> np.ndarray:
        seconds: list[float] = []
        for frame in self._frames():
            seconds.append(np.nan if frame.time is None else float(frame.time))
            check_count(self.where, len(seconds))
        return _clock(self.where, np.array(seconds), self.announced, self.rate)

    def pictures(self, places: np.ndarray) -> Iterator[np.ndarray]:
        wanted = set(places.tolist())
        for place, frame in enumerate(self._frames()):
            if place in wanted:
                yield frame.to_ndarray(format="rgb24")
            if place == places[-1]:
                return

    def _opened(self) -> Any:
        try:
            return self.av.open(str(self.path))
        except (self.av.error.FFmpegError, OSError, ValueError) as error:
            raise FaceDataError(f"{self.where}: damaged or cut off ({_short(error)})", "damaged") from error

    def _frames(self) -> Iterator[Any]:
        with self._opened() as container:
            stream = _video_stream(container, self.where)
            # FFmpeg patches over lost data by default: the picture would be half of another frame.
            stream.codec_context.options = {"err_detect": "explode"}
            stream.thread_type = "AUTO"
            try:
                for place, frame in enumerate(container.decode(stream)):
                    if frame.is_corrupt:
                        raise FaceDataError(f"{self.where}: frame {place} is damaged", "damaged")
                    if (frame.width, frame.height) != self.size:
                        told = f"frame {place} has {frame.width}x{frame.height} pixels, others {self.size}"
                        raise FaceDataError(f"{self.where}: {told}", "format")
                    yield frame
            except (self.av.error.FFmpegError, ValueError) as error:
                if isinstance(error, FaceDataError):
                    raise
                raise FaceDataError(f"{self.where}: damaged ({_short(error)})", "damaged") from error


class OpenCvClip:
    """Through OpenCV's FFmpeg. It reports no damage inside a file: only a file that ends early is noticed."""

    def __init__(self, path: Path) -> None:
        check_file(path)
        self.path, self.where = path, f"video {path}"
        self.cv2 = import_extra("cv2", "maps")
        capture = self._opened()
        self.size = (int(capture.get(self.cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(self.cv2.CAP_PROP_FRAME_HEIGHT)))
        # OpenCV multiplies duration and rate where the header has no number, and does not say so.
        exact = path.suffix.lower() in (".mp4", ".mov", ".avi")
        self.announced = Announced(max(0, int(capture.get(self.cv2.CAP_PROP_FRAME_COUNT))), exact)
        self.rate = float(capture.get(self.cv2.CAP_PROP_FPS))
        capture.release()
        check_size(self.where, self.size)

    def times(self) -> np.ndarray:
        capture, seconds = self._opened(), []
        while capture.grab():
            seconds.append(capture.get(self.cv2.CAP_PROP_POS_MSEC) / 1000)
            check_count(self.where, len(seconds))
        capture.release()
        return _clock(self.where, np.array(seconds), self.announced, self.rate)

    def pictures(self, places: np.ndarray) -> Iterator[np.ndarray]:
        capture, wanted = self._opened(), set(places.tolist())
        for place in range(int(places[-1]) + 1):
            done = capture.grab()
            if done and place not in wanted:
                continue
            picture = capture.retrieve()[1] if done else None
            if picture is None or picture.shape[:2] != self.size[::-1]:
                raise FaceDataError(f"{self.where}: frame {place} is damaged or of another size", "damaged")
            yield np.ascontiguousarray(picture[..., ::-1])
        capture.release()

    def _opened(self) -> Any:
        capture = self.cv2.VideoCapture(str(self.path), self.cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise FaceDataError(f"{self.where}: damaged, cut off, or in a codec that is not there", "damaged")
        capture.set(self.cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # as PyAV, which does not rotate either
        return capture


DECODERS: dict[str, Callable[[Path], Clip]] = {"av": PyAvClip, "cv2": OpenCvClip}
"""Name of the Python module -> its reader; the first that is installed is taken."""


def installed_decoder() -> str:
    """The first of ``DECODERS`` that is installed. Raises ``FaceHostError`` if none is."""
    for name in DECODERS:
        if importlib.util.find_spec(name) is not None:
            return name
    raise FaceHostError(f"reading videos needs PyAV or OpenCV: {install_hint('video')}")


def open_clip(path: Path, decoder: str | None = None) -> Clip:
    """The clip in a video file. ``decoder``: ``av`` or ``cv2``; None: PyAV, or OpenCV where PyAV is not installed.

    Raises ``FaceDataError`` naming the file: missing, empty, no video, damaged, without frames, too large.
    """
    decoder = decoder or installed_decoder()
    if decoder not in DECODERS:
        raise FaceConfigError(unknown_name("decoder", decoder, DECODERS))
    return DECODERS[decoder](path)


def _video_stream(container: Any, where: str) -> Any:
    if not container.streams.video:
        raise FaceDataError(f"{where}: it has no picture, only {len(container.streams)} other streams", "format")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise FaceDataError(f"{where}: its codec is not one that this PyAV decodes", "format")
    return stream


def _clock(where: str, seconds: np.ndarray, announced: Announced, rate: float) -> np.ndarray:
    """Times from 0 on that rise; frames without one, or out of order, go by the average rate."""
    if announced.frames - len(seconds) > announced.may_lack:
        told = f"only {len(seconds)} of {announced.frames} frames can be decoded"
        raise FaceDataError(f"{where}: damaged or cut off: {told}", "damaged")
    check_count(where, len(seconds))
    if np.isnan(seconds).any() or (np.diff(seconds) <= 0).any():
        if not 0 < rate < 1000:
            raise FaceDataError(f"{where}: its frames have neither times nor a rate", "format")
        return np.arange(len(seconds)) / rate
    return seconds - seconds[0]


def _short(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
