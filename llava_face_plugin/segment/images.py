"""Reading images of unknown quality: whatever is wrong with one, the outcome is a ``FaceDataError`` with a reason.

Reasons: ``missing``, ``not-a-file``, ``permission``, ``unreadable``, ``empty``, ``too-large``, ``format`` (no image, or
one in a format or mode that is not read), ``damaged``.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from ..errors import FaceDataError
from ..maps import files
from .upright import UPRIGHT

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"RIFF", b"BM")
"""How files in these formats begin: one that does and cannot be read is damaged."""

MAX_BYTES = 512_000_000
"""Largest file that is read (our default)."""

_REASONS = {errno.ENOENT: "missing", errno.ENOTDIR: "missing", errno.ELOOP: "missing", errno.EACCES: "permission",
            errno.EPERM: "permission", errno.ENAMETOOLONG: "path"}  # fmt: skip


def file_status(path: Path) -> os.stat_result:
    """Size and time of an image file. Raises ``FaceDataError`` if there is none, or if it is no ordinary file."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        if path.is_symlink():
            raise FaceDataError(f"image {path}: a link to nothing", "missing") from error
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or pipe"
        raise FaceDataError(f"image {path}: {what}, not a file", "not-a-file")
    return status


def read_file(path: Path) -> bytes:
    """The file's bytes. Raises ``FaceDataError`` also if it is above ``MAX_BYTES``."""
    size = file_status(path).st_size
    if size > MAX_BYTES:
        raise FaceDataError(f"image {path}: {size:,} bytes, more than the limit of {MAX_BYTES:,}", "too-large")
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


class Picture:
    """A decoded image."""

    def __init__(self, data: bytes, where: str) -> None:
        """Raises ``FaceDataError`` naming ``where``."""
        if not data:
            raise FaceDataError(f"{where}: no bytes in it", "empty")
        with files.whole_images(), _opened(data, where) as picture:
            try:
                picture.load()
                self.orientation = _orientation(picture)
                self.seen = picture.convert("RGB")
                """(W, H) RGB pixels as LLaVA sees them: first frame, not rotated."""
                self.parsed = _eight_bit(picture) or self.seen
                """The same picture for a parser, with the full range of a 16-bit one."""
            except MemoryError:
                raise
            except Exception as error:  # Pillow's decoders raise anything on damaged bytes
                # A mode that Pillow cannot convert is one that LLaVA cannot open.
                reason = "format" if "conversion" in str(error) else "damaged"
                raise FaceDataError(f"{where}: {reason} ({_short(error)})", reason) from error
            self.frames = _frames(picture)

    def upright(self) -> Image.Image:
        """RGB, rotated as EXIF asks for: what a detector needs."""
        how = UPRIGHT.get(self.orientation)
        return self.parsed if how is None else self.parsed.transpose(how)


def _opened(data: bytes, where: str) -> Image.Image:
    """The image with its header read and its size found to be within ``MAX_PIXELS``."""
    try:
        picture = Image.open(io.BytesIO(data), formats=files.IMAGE_FORMATS)
    except Image.DecompressionBombError as error:
        raise FaceDataError(f"{where}: {_short(error)}", "too-large") from error
    except MemoryError:
        raise
    except Exception as error:
        if data.startswith(_SIGNATURES):
            raise FaceDataError(f"{where}: damaged ({_short(error)})", "damaged") from error
        told = f"no {'/'.join(files.IMAGE_FORMATS)} image; it begins with {data[:12]!r}"
        raise FaceDataError(f"{where}: {told}", "format") from error
    if picture.width * picture.height > files.MAX_PIXELS:
        size = f"{picture.width}x{picture.height}"
        picture.close()
        raise FaceDataError(f"{where}: {size} pixels, more than the limit of {files.MAX_PIXELS:,}", "too-large")
    if not picture.width * picture.height:
        raise FaceDataError(f"{where}: damaged (no pixels)", "damaged")
    return picture


def _frames(picture: Image.Image) -> int:
    try:
        return int(getattr(picture, "n_frames", 1))
    except Exception:  # counting goes through the whole file, whose end may be damaged: the first frame counts
        return 1


def _orientation(picture: Image.Image) -> int:
    try:
        value = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken EXIF in a good image; LLaVA does not look at it
        return 1
    return value if value in UPRIGHT else 1


def _eight_bit(picture: Image.Image) -> Image.Image | None:
    """RGB of an image with more than 8 bits, its range scaled rather than cut off; None for any other mode.

    16-bit integers are divided by 257. Wider ones and floats have no agreed range: 0..1 and 0..65535 are taken where
    all values are within, else the range that occurs.
    """
    if not picture.mode.startswith(("I", "F")):
        return None
    values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
    low, high = float(values.min()), float(values.max())
    if picture.mode.startswith("I;16") or (picture.mode == "I" and low >= 0 and 255 < high <= 65535):
        low, high = 0.0, 65535.0
    elif picture.mode == "I" and low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    elif picture.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    scaled = (values - low) * (255.0 / max(high - low, 1e-12))
    return Image.fromarray(np.round(scaled).astype(np.uint8)).convert("RGB")


def _unreadable(path: Path, error: Exception) -> FaceDataError:
    reason = _REASONS.get(error.errno or 0, "unreadable") if isinstance(error, OSError) else "path"
    told = error.strerror if isinstance(error, OSError) else str(error)
    return FaceDataError(f"image {path}: cannot be read ({told})", reason)


def _short(error: Exception) -> str:
    lines = str(error).splitlines()
    told = lines[0][:200] if lines else type(error).__name__
    return "its header cannot be read" if "cannot identify image file" in told else told
