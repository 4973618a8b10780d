"""InsightFace's packed sets: ``agedb_30.bin``, a pickle of (encoded images, two a pair; one bool a pair).

A pickle can run any program when it is loaded, so it is not loaded: its opcodes are walked as data
(``pickletools.genops`` builds and calls nothing), and byte strings that begin as JPEG or PNG files are taken out of it.
That reads both forms that InsightFace's scripts write (lists of bytes, and of numpy arrays of bytes; Python 2 or 3).
A real ``.bin`` was not seen; the form is that of InsightFace's ``lfw2pack.py`` and ``agedb2pack.py``.
"""

from __future__ import annotations

import io
import pickletools
from pathlib import Path

from ...data.files import read_bytes, sha256_of
from ...errors import FaceDataError

_SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png"}
_STAMP = "unpacked_from.sha256"


def read_packed(path: Path) -> tuple[list[bytes], list[bool]]:
    """(2N encoded images, N labels: one person?). Raises ``FaceDataError`` for a file that is not of this form."""
    images: list[bytes] = []
    same: list[bool] = []
    try:
        for opcode, value, _ in pickletools.genops(io.BytesIO(read_bytes(path))):
            if opcode.name in ("NEWTRUE", "NEWFALSE"):
                same.append(opcode.name == "NEWTRUE")
            elif isinstance(value, bool):  # protocols 0 and 1
                same.append(value)
            elif (data := _image(value)) is not None:
                images.append(data)
                same.clear()  # the labels follow the last image; numpy arrays have a bool of their own before theirs
    except (ValueError, EOFError, IndexError, OverflowError, MemoryError) as error:
        if isinstance(error, FaceDataError):
            raise
        raise FaceDataError(f"{path}: damaged, or no pickle ({error})", "damaged") from error
    if not same or len(images) != 2 * len(same):
        raise FaceDataError(
            f"{path}: {len(images)} images and {len(same)} labels; expected two images a label", "format"
        )
    return images, same


def unpack(path: Path) -> tuple[list[tuple[str, str]], list[bool]]:
    """Write the images beside the file, as ``agedb_30_images/00001.jpg`` and on: (their names, two a pair; labels).

    A folder that was unpacked from the same file is used as it is. Raises ``FaceDataError`` as ``read_packed``, for a
    folder of that name that was not made here, and where it cannot be written.
    """
    images, same = read_packed(path)
    folder = path.with_name(f"{path.stem}_images")
    names = [f"{folder.name}/{i:05d}{_suffix(data)}" for i, data in enumerate(images, 1)]
    stamp, digest = folder / _STAMP, sha256_of(path)
    try:
        if folder.exists() and not stamp.is_file():
            raise FaceDataError(f"{folder}: is there, but was not unpacked from {path.name}; move it away")
        if not (stamp.is_file() and stamp.read_text() == digest):
            folder.mkdir(exist_ok=True)
            stamp.write_text("")  # complete only when the digest stands in it
            for name, data in zip(names, images, strict=True):
                (path.parent / name).write_bytes(data)
            stamp.write_text(digest)
    except OSError as error:
        raise FaceDataError(
            f"{folder}: cannot be written ({error}); copy {path.name} to where you may write"
        ) from error
    return list(zip(names[::2], names[1::2], strict=True)), same


def _image(value: object) -> bytes | None:
    """``value``, if it is an encoded image; text is what Python 2 and numpy make of bytes, one character a byte."""
    if isinstance(value, str) and value[:1] in ("\xff", "\x89"):
        try:
            value = value.encode("latin-1")
        except UnicodeEncodeError:
            return None
    if isinstance(value, bytes | bytearray) and value.startswith(tuple(_SUFFIXES)):
        return bytes(value)
    return None


def _suffix(data: bytes) -> str:
    return next(suffix for start, suffix in _SUFFIXES.items() if data.startswith(start))
