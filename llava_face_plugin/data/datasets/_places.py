"""Where a data set's files lie below the user's root, and members of folders that may be zipped."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...errors import FaceDataError
from ..files import UNREADABLE, find_file, need_file, within
from .base import ReadOptions


def annotation_files(
    root: Path, options: ReadOptions, names: Sequence[str], folders: Sequence[str] = (".",)
) -> dict[str, Path]:
    """Those of the annotation files ``names`` that are there: name -> the file, or the ``.zip`` that holds it.

    ``options.labels`` may be one of them, a ``.zip`` of some, or a folder of them. Raises ``FaceDataError`` if
    none is there.
    """
    given = options.labels
    if given is not None and not given.is_dir():
        return _given(need_file(root, names[0], given=given), names)
    places, base = (folders, root) if given is None else ((".", *folders), given)
    found = {name: path for name in names if (path := find_file(base, name, places)) is not None}
    if not found:
        shown = " or ".join(names)
        looked = ", ".join("here" if f == "." else f"in {f}/" for f in places)
        raise FaceDataError(f"{base}: no {shown}, plain or zipped (looked for it {looked})", "missing")
    return found


def _given(path: Path, names: Sequence[str]) -> dict[str, Path]:
    if path.suffix.lower() == ".zip":
        inside = {m.rsplit("/", 1)[-1] for m in archive_names(path)}
        found = {name: path for name in names if name in inside}
        if found:
            return found
    for name in names:
        if len(names) == 1 or path.stem == Path(name).stem or path.stem == name:
            return {name: path}
    raise FaceDataError(f"{path}: expected {' or '.join(names)}, or a .zip or folder of them", "missing")


def below(root: Path, options: ReadOptions, folders: Sequence[str]) -> str:
    """What precedes an image's name in ``Manifest.images``: the given image folder, or the first that exists.

    Where none of ``folders`` (below the root) exists, it is the first of them. Raises ``FaceDataError`` for a
    given folder that is not there.
    """
    folder = options.images
    if folder is None:
        folder = next((root / f for f in folders if (root / f).is_dir()), root / folders[0])
    elif not folder.is_dir():
        raise FaceDataError(f"{folder}: no such folder (given for the images)", "missing")
    prefix = within(folder, root)
    return "" if prefix == "." else prefix.rstrip("/") + "/"


def joined(prefix: str, names: np.ndarray, suffix: str = "") -> np.ndarray:
    """(N,) str: ``prefix`` + name + ``suffix``."""
    return np.char.add(np.char.add(prefix, names.astype(np.str_)), suffix)


def archive_names(path: Path) -> list[str]:
    """The names of the files in a ``.zip``. Raises ``FaceDataError`` if it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [m for m in archive.namelist() if not m.endswith("/") and not m.startswith("__MACOSX/")]
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise FaceDataError(f"{path}: cannot be read ({error})", "damaged") from error


def small_files(path: Path, ending: str) -> Iterator[tuple[str, bytes]]:
    """(name without folders, bytes) of every file that ends so, in a folder or a ``.zip``, in the order of names."""
    try:
        if path.is_dir():
            for file in sorted(f for f in path.iterdir() if f.name.endswith(ending)):
                yield file.name, file.read_bytes()
            return
        with zipfile.ZipFile(path) as archive:
            for member in sorted(m for m in archive.namelist() if m.endswith(ending)):
                yield member.rsplit("/", 1)[-1], archive.read(member)
    except UNREADABLE as error:
        raise FaceDataError(f"{path}: cannot be read ({error})", "damaged") from error
