"""What a map store knows of one image: ``Row``, and the names under which images are filed."""

from __future__ import annotations

import base64
import json
import posixpath
import re
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal

from ..errors import FaceDataError

_Line = str | bytes
Status = Literal["ok", "no-face", "failed"]
STATUSES: tuple[Status, ...] = ("ok", "no-face", "failed")

SUFFIX = ".png"
"""A map is filed under the image's whole name and this: ``a.jpg`` and ``a.png`` cannot clash."""
LONGEST_PART = 255 - len(SUFFIX)
"""Bytes of a folder's or image's name; file systems take 255 with the suffix."""


@dataclass(frozen=True)
class Row:
    """One image: where it came from, what became of it. Sizes and boxes are in pixels of the image as stored.

    "As stored" means without the rotation that EXIF asks for, which is how LLaVA opens images.
    """

    image: str
    """Its path below the input folder, the JSON's string for it, or its id in a parquet file."""
    status: Status
    """``ok``: it has a map. ``no-face``: the parser found nothing. ``failed``: see ``reason`` and ``message``."""
    parser: str = ""
    """Digest of the parser that saw it."""
    reason: str = ""
    """failed: one word for counting, such as ``damaged``, ``format``, ``too-large``, ``path``, ``parser``."""
    message: str = ""
    sha256: str = ""
    """Of the file's bytes (hex)."""
    bytes: int = 0
    mtime: float = 0.0
    """Modification time of the file, in seconds since 1970."""
    width: int = 0
    height: int = 0
    orientation: int = 1
    """EXIF's, 1 to 8: the parser saw the image upright, the map is turned back."""
    frames: int = 1
    """Pictures in the file (animation, pages); the first one is used, as LLaVA does."""
    pixel_key: str = ""
    """``keys.pixel_key`` of the pixels that LLaVA sees."""
    boxes: tuple[tuple[float, ...], ...] = ()
    """x0 y0 x1 y1 of each face, the main one first."""
    scores: tuple[float, ...] = ()
    """The detector's, in [0, 1]."""
    confidences: tuple[float, ...] = ()
    """Mean highest class probability over each face, in [0, 1]."""
    coverage: float = 0.0
    """Share of the pixels that belong to a part other than background, in [0, 1]."""
    map: str = ""
    """png stores: the map's path below the store."""
    written: float = 0.0
    """When the row was made, in seconds since 1970; of two rows of an image the later one counts."""

    def to_dict(self) -> dict[str, Any]:
        """Its fields; empty ones are left out."""
        return {key: value for key, value in asdict(self).items() if value != DEFAULTS.get(key)}

    def to_json(self) -> str:
        """One line of ASCII."""
        return json.dumps(self.to_dict(), allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Row:
        """The inverse of ``to_dict``; other keys are not looked at."""
        known = {key: given[key] for key in _NAMES if key in given}
        known["boxes"] = tuple(tuple(box) for box in known.get("boxes", ()))
        for key in ("scores", "confidences"):
            known[key] = tuple(known.get(key, ()))
        return cls(**known)

    @classmethod
    def from_json(cls, line: _Line, where: str) -> Row:
        """The inverse of ``to_json``. Raises ``FaceDataError`` naming ``where``."""
        given = fields_of(line, where)
        try:
            return cls.from_dict(given)
        except TypeError as error:  # boxes that are no lists
            raise FaceDataError(f"{where}: not a row of a map store ({error})", "damaged") from error


def fields_of(line: _Line, where: str) -> dict[str, Any]:
    """The fields that a line has, empty ones left out. Raises ``FaceDataError`` naming ``where`` if it is no row."""
    try:
        given = json.loads(line)
    except ValueError as error:
        raise FaceDataError(f"{where}: not JSON ({error})", "damaged") from error
    if not isinstance(given, dict) or not isinstance(given.get("image"), str):
        raise FaceDataError(f"{where}: not a row of a map store: {str(given)[:80]!r}", "damaged")
    if given.get("status") not in STATUSES:
        raise FaceDataError(f"{where}: status {given.get('status')!r} is none of {STATUSES}", "damaged")
    for key, value in given.items():
        if not isinstance(value, _KINDS.get(key, object)) or (key in _HEX and not _DIGITS.fullmatch(str(value))):
            raise FaceDataError(f"{where}: {key} is {str(value)[:40]!r}, which no row of a map store has", "damaged")
    return given


def png_of(given: dict[str, Any], where: str) -> bytes | None:
    """The map's PNG in a line of a parquet store; None where it has none. Raises ``FaceDataError`` naming ``where``."""
    try:
        return base64.b64decode(given["png"]) if given.get("png") else None
    except ValueError as error:
        raise FaceDataError(f"{where}: its map is not base64 ({error})", "damaged") from error


_NAMES = tuple(f.name for f in fields(Row))
DEFAULTS = {f.name: f.default for f in fields(Row)}
"""What fields that a line leaves out are."""
_JSON: dict[type, tuple[type, ...]] = {float: (int, float), tuple: (list,)}
_KINDS = {key: _JSON.get(type(value), (type(value),)) for key, value in DEFAULTS.items() if value is not MISSING}
_KINDS["png"] = (str,)
_HEX = ("sha256", "pixel_key")
_DIGITS = re.compile("[0-9a-f]*")


def clean_name(name: str) -> str:
    """An image's name as a store files it: posix, without ``./`` and ``a/../``.

    Raises ``FaceDataError`` (reason ``path``) for a name that is empty, absolute, leads out of its folder, is not
    UTF-8, or is too long for a file system once ``.png`` is added.
    """
    clean = posixpath.normpath(name) if name else ""
    if clean in ("", ".", "..") or clean.startswith(("/", "../")) or "\0" in clean:
        raise FaceDataError(f"image name {name!r}: not a path below the image folder", "path")
    try:
        parts = clean.encode().split(b"/")
    except UnicodeEncodeError as error:
        raise FaceDataError(f"image name {name!r}: not UTF-8; rename the file", "path") from error
    if max(map(len, parts)) > LONGEST_PART:
        raise FaceDataError(f"image name {name[:40]!r}...: a part of it is longer than {LONGEST_PART} bytes", "path")
    return clean


def printable(name: str) -> str:
    """The name as it can be written down: bytes that are not UTF-8 become ``\\xff`` and the like."""
    return name.encode("utf-8", "backslashreplace").decode()


def one_line(text: str) -> str:
    """The text as it can be shown: line breaks, which file names may have, and the like become ``\\n`` and the like."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def map_path(name: str) -> str:
    """Where a png store keeps the map of the image of that clean name, below the store."""
    return f"maps/{name}{SUFFIX}"
