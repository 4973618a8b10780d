"""Clips on disk: an mp4, which any player shows and which is lossy, or a folder of PNGs, which is exact."""

from __future__ import annotations

import importlib.util
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import FaceDataError, FaceHostError
from ..maps.files import atomic_path
from ..parsing.extras import import_extra
from .decoders import installed_decoder


def write_frames(folder: Path, pixels: np.ndarray) -> list[Path]:
    """(T, H, W, 3) uint8 RGB as ``00001.png`` and so on; returns the paths. The pixels can be had back exactly."""
    _check(folder, pixels)
    paths = []
    for number, picture in enumerate(pixels, 1):
        paths.append(folder / f"{number:05d}.png")
        with atomic_path(paths[-1]) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
    return paths


def write_mp4(path: Path, pixels: np.ndarray, fps: float) -> None:
    """(T, H, W, 3) uint8 RGB as an mp4: H.264 through PyAV, MPEG-4 through OpenCV where PyAV is not installed.

    Lossy: colours are halved in both directions and coded. H and W must be even. Raises ``FaceDataError`` for other
    sizes, ``FaceHostError`` where nothing is installed that writes one.
    """
    _check(path, pixels)
    if pixels.shape[1] % 2 or pixels.shape[2] % 2:
        told = f"an mp4 needs an even width and height, got {pixels.shape[2]}x{pixels.shape[1]}"
        raise FaceDataError(f"{path}: {told}", "odd size")
    with atomic_path(path) as temporary:
        (_with_pyav if installed_decoder() == "av" else _with_opencv)(temporary, pixels, fps)


def _with_pyav(path: Path, pixels: np.ndarray, fps: float) -> None:
    av = import_extra("av", "video")
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = pixels.shape[2], pixels.shape[1], "yuv420p"
        # One thread: the number of cores must not decide the bytes.
        stream.options = {"crf": "18", "threads": "1"}
        for picture in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def _with_opencv(path: Path, pixels: np.ndarray, fps: float) -> None:
    cv2 = import_extra("cv2", "maps")
    named = path.with_suffix(".mp4")  # it goes by the ending
    writer = cv2.VideoWriter(str(named), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), fps, pixels.shape[2:0:-1])
    if not writer.isOpened():
        raise FaceHostError("this OpenCV writes no mp4: install PyAV (pip install av)")
    for picture in pixels:
        writer.write(np.ascontiguousarray(picture[..., ::-1]))
    writer.release()
    named.replace(path)


def can_write_mp4() -> bool:
    """Whether PyAV or OpenCV is installed."""
    return any(importlib.util.find_spec(name) is not None for name in ("av", "cv2"))


def _check(path: Path, pixels: np.ndarray) -> None:
    if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != np.uint8 or not len(pixels):
        raise FaceDataError(f"{path}: expected (T, H, W, 3) uint8 frames, got {pixels.dtype} of shape {pixels.shape}")
