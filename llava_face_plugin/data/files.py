"""Annotation files as users have them: plain or zipped, here or in a folder, with or without their images."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import FaceDataError

_BOM = b"\xef\xbb\xbf"


def find_file(root: Path, name: str, folders: Sequence[str] = (".",)) -> Path | None:
    """``root/folder/name`` or a ``.zip`` of that stem (or of that whole name), of the first folder that has it."""
    for folder in folders:
        place = root / folder / name
        for candidate in (place, place.with_suffix(".zip"), place.with_name(place.name + ".zip")):
            if candidate.is_file():
                return candidate
    return None


def need_file(
    root: Path, name: str, folders: Sequence[str] = (".",), given: Path | None = None, option: str = ""
) -> Path:
    """``given``, if it is a file, else as ``find_file``; raises ``FaceDataError`` saying where it was looked for.

    ``option``: by which the user can name the file.
    """
    if given is not None:
        if not given.is_file():
            raise FaceDataError(f"{given}: no such file (given for {name})", "missing")
        return given
    path = find_file(root, name, folders)
    if path is None:
        places = ", ".join("here" if f == "." else f"in {f}/" for f in folders)
        hint = f"; {option} names it" if option else ""
        raise FaceDataError(
            f"{root}: {name} is missing (looked for it or {Path(name).stem}.zip {places}{hint})", "missing"
        )
    return path


UNREADABLE = (OSError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error)
"""What reading a file or a member of a ``.zip`` raises: zipfile has NotImplementedError for an unknown method,
RuntimeError for a password, zlib.error for damage."""


def read_bytes(path: Path, name: str | None = None) -> bytes:
    """A file's bytes, without a UTF-8 BOM; of a ``.zip`` those of its member ``name``, or of its only file.

    ``name`` (default: the path's own with ``.txt``) is compared without folders. Raises ``FaceDataError``.
    """
    try:
        if path.suffix.lower() != ".zip":
            return path.read_bytes().removeprefix(_BOM)
        with zipfile.ZipFile(path) as archive:
            return archive.read(_member(path, archive, name or path.with_suffix(".txt").name)).removeprefix(_BOM)
    except UNREADABLE as error:
        if isinstance(error, FaceDataError):
            raise
        raise FaceDataError(f"{path}: cannot be read ({error})", "damaged") from error


def read_lines(path: Path, name: str | None = None) -> list[bytes]:
    """Lines of ``read_bytes`` without line ends (LF, CRLF or CR); empty lines at the end are dropped."""
    lines = read_bytes(path, name).splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def read_text(path: Path, name: str | None = None) -> str:
    """``read_bytes`` as UTF-8. Raises ``FaceDataError`` naming the line that is not UTF-8."""
    data = read_bytes(path, name)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FaceDataError(f"{path}, line {line}: not UTF-8 text ({error.reason})", "format") from error


def source(path: Path, rows: int) -> dict[str, object]:
    """An entry of ``Manifest.sources``: the file's name, its sha256 (of the zip, if it is one) and its rows."""
    return {"name": path.name, "sha256": sha256_of(path), "rows": rows}


def sha256_of(path: Path) -> str:
    """sha256 (hex) of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def existing_folder(path: Path, what: str) -> Path:
    """``path``, if it is a folder; otherwise ``FaceDataError`` that names what is missing."""
    if not path.is_dir():
        raise FaceDataError(f"{what}: no such folder: {path}", "missing")
    return path


def within(path: Path, folder: Path) -> str:
    """``path`` relative to ``folder`` with forward slashes; absolute if it lies elsewhere.

    An absolute path works under any ``--image_folder``: ``os.path.join`` drops what precedes it.
    """
    path, folder = path.resolve(), folder.resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def look_for(root: Path, names: Sequence[str] | np.ndarray) -> np.ndarray:
    """(N,) bool: which of ``names`` (paths below ``root``, or absolute) are there; every folder is listed once."""
    listing = Listing(root)
    return np.fromiter((str(name) in listing for name in names), dtype=bool, count=len(names))


class Listing:
    """Which paths below ``root`` (or absolute ones) are there; every folder is listed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders: dict[str, frozenset[str]] = {}

    def __contains__(self, name: str) -> bool:
        folder, _, file = name.rpartition("/")
        if folder not in self.folders:
            place = Path("/" if name[0] == "/" and not folder else self.root / folder)
            self.folders[folder] = frozenset(os.listdir(place)) if place.is_dir() else frozenset()
        return file in self.folders[folder]


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> str:
    files = [m for m in archive.namelist() if not m.endswith("/") and not m.startswith("__MACOSX/")]
    inside = [m for m in files if m.rsplit("/", 1)[-1] == name] or (files if len(files) == 1 else [])
    if not inside:
        raise FaceDataError(f"{path}: the archive holds no {name}", "missing")
    return inside[0]
