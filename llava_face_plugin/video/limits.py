"""What a clip may be: checked before anything is decoded. All limits are our defaults."""

from __future__ import annotations

from pathlib import Path

from ..errors import FaceDataError
from ..maps.files import MAX_PIXELS

MAX_FRAMES = 216_000
"""An hour at 60 frames a second."""

MAX_BYTES = 4 << 30
"""Of the frames that are returned at a time."""

_SIGNATURES: tuple[tuple[int, bytes], ...] = (
    *((4, box) for box in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),  # mp4, mov
    (0, b"\x1a\x45\xdf\xa3"),  # matroska, webm
    (8, b"AVI "),
    (0, b"FLV\x01"),
    (0, b"\x00\x00\x01\xba"),  # mpeg
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),  # wmv
    (0, b"OggS"),
)
_TRANSPORT = 188
"""Bytes of an MPEG transport packet; each begins with 0x47."""


def check_file(path: Path) -> None:
    """Raises ``FaceDataError`` if ``path`` is no file, is empty, or is in no video format that is read.

    FFmpeg would open pictures, text files and playlists that name other files or servers: none gets there.
    """
    where = f"video {path}"
    try:
        if not path.is_file():
            raise FaceDataError(f"{where}: no such file or folder", "missing")
        with open(path, "rb") as stream:
            head = stream.read(2 * _TRANSPORT + 1)
    except OSError as error:
        raise FaceDataError(f"{where}: cannot be read ({error.strerror})", "unreadable") from error
    if not head:
        raise FaceDataError(f"{where}: the file is empty", "empty")
    known = any(head[at : at + len(mark)] == mark for at, mark in _SIGNATURES)
    if not known and (len(head) <= _TRANSPORT or head[0:1] != b"G" or head[_TRANSPORT : _TRANSPORT + 1] != b"G"):
        told = "mp4, mov, mkv, webm, avi, flv, mpeg, ts, wmv or ogg"
        raise FaceDataError(f"{where}: not a video file ({told}); it begins with {head[:12]!r}", "format")


def check_size(where: str, size: tuple[int, int]) -> None:
    """Raises ``FaceDataError`` naming ``where`` if frames of ``size`` (width, height) have no or too many pixels."""
    width, height = size
    if width < 1 or height < 1:
        raise FaceDataError(f"{where}: frames of {width}x{height} pixels", "format")
    if width * height > MAX_PIXELS:
        told = f"frames of {width}x{height} pixels, more than the limit of {MAX_PIXELS:,}"
        raise FaceDataError(f"{where}: {told}", "too-large")


def check_count(where: str, frames: int) -> None:
    """Raises ``FaceDataError`` naming ``where`` for a clip without frames, and for an endless one."""
    if frames < 1:
        raise FaceDataError(f"{where}: it has no frame", "empty")
    if frames > MAX_FRAMES:
        raise FaceDataError(f"{where}: more than the limit of {MAX_FRAMES:,} frames", "too-large")


def check_total(where: str, frames: int, size: tuple[int, int]) -> None:
    """Raises ``FaceDataError`` if so many frames of that size would take more than ``MAX_BYTES``."""
    total = frames * size[0] * size[1] * 3
    if total > MAX_BYTES:
        told = f"{frames} frames of {size[0]}x{size[1]} take {total / 2**30:.1f} GiB, the limit is {MAX_BYTES >> 30}"
        raise FaceDataError(f"{where}: {told}; choose fewer", "too-large")
