"""What there is to segment: the images of a folder, a LLaVA JSON or parquet files, in an order that does not change."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from ..errors import FaceConfigError, FaceDataError
from ..maps.files import IMAGE_SUFFIXES
from ..maps.rows import clean_name, printable


@dataclass(frozen=True)
class Cell:
    """A place in a parquet file."""

    file: Path
    column: str
    row: int
    folder: Path
    """What paths in the column are relative to."""


@dataclass(frozen=True)
class Entry:
    """One image: the name it is filed under, and where it is."""

    name: str
    source: Path | Cell
    problem: str = ""
    """Why an image of this name cannot be filed; empty where it can."""

    @property
    def file(self) -> Path:
        """The file it is in."""
        return self.source.file if isinstance(self.source, Cell) else self.source


class Entries(Sequence[Entry]):
    """A list of entries that keeps names only: ten million of them fit in memory."""

    def __init__(self, names: Sequence[str], source: Callable[[int], Path | Cell], origin: Path) -> None:
        """``source`` says where the image of a position is; ``origin`` is the input, for messages."""
        self._names = names
        self._source = source
        self.origin = origin

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, at: int) -> Entry: ...
    @overload
    def __getitem__(self, at: slice) -> Entries: ...
    def __getitem__(self, at: int | slice) -> Entry | Entries:
        if isinstance(at, slice):
            places = range(len(self))[at]
            return Entries(self._names[at], lambda i: self._source(places[i]), self.origin)
        name = self._names[at]
        source = self._source(range(len(self))[at])
        try:
            return Entry(clean_name(name), source)
        except FaceDataError as error:
            return Entry(printable(name), source, printable(str(error)))


def find(
    source: str | Path,
    *,
    image_folder: Path | None = None,
    image_column: str = "image",
    id_column: str | None = None,
    leave_out: Path | None = None,
) -> Entries:
    """The images of a folder, of a LLaVA JSON (below ``image_folder``), or of a parquet file or folder of such files.

    ``leave_out`` is the store, which may lie in the folder. Raises ``FaceDataError`` for an input that is missing, of
    another kind, or empty, and ``FaceConfigError`` for options that do not fit it.
    """
    source = Path(source)
    try:
        entries = _find(source, image_folder, image_column, id_column, leave_out)
    except OSError as error:
        raise FaceDataError(f"segment {source}: cannot be read ({error})", "unreadable") from error
    if not entries:
        raise FaceDataError(f"segment {source}: there is no image in it", "empty")
    return entries


def _find(
    source: Path, image_folder: Path | None, image_column: str, id_column: str | None, leave_out: Path | None
) -> Entries:
    if source.is_dir() and not _is_parquet_folder(source):
        if image_folder is not None or id_column is not None:
            raise FaceConfigError(f"segment {source}: --image-folder and --id-column are not for a folder of images")
        return of_folder(source, leave_out)
    if source.is_dir() or source.suffix == ".parquet":
        from .parquet import of_parquet

        return of_parquet(source, image_column, id_column, image_folder)
    if source.suffix == ".json":
        if image_folder is None:
            raise FaceConfigError(f"segment {source}: name the folder that its image paths are below: --image-folder")
        return of_json(source, image_folder)
    if source.exists():
        raise FaceDataError(f"segment {source}: expected a folder of images, a LLaVA .json, or .parquet", "format")
    raise FaceDataError(f"segment {source}: no such file or folder", "missing")


def of_folder(folder: Path, leave_out: Path | None = None) -> Entries:
    """Every file below a folder, sorted; hidden ones, and what is below ``leave_out``, do not count.

    What is no image is an entry too, and is counted as such later. Links to folders are followed, except back to a
    folder they lie in. A folder that cannot be listed raises ``FaceDataError``: its images would be missing without a
    word.
    """

    def fail(error: OSError) -> None:
        raise FaceDataError(f"folder {error.filename}: cannot be listed ({error.strerror})", "unreadable") from error

    store = os.path.realpath(leave_out) if leave_out is not None else None
    names = []
    for parent, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        folders[:] = [f for f in folders if not f.startswith(".") and _is_new(os.path.join(parent, f), store)]
        # A folder named x.jpg is listed: somebody took it for an image.
        found = [f for f in files if not f.startswith(".")] + [f for f in folders if _looks_like_image(f)]
        where = os.path.relpath(parent, folder)
        names += found if where == "." else [f"{where}/{f}" for f in found]
    names.sort()
    return Entries(names, lambda i: folder / names[i], folder)


def read_samples(path: Path) -> list[Any]:
    """The rows of a LLaVA training JSON, unchecked. Raises ``FaceDataError`` if it is no JSON list."""
    try:
        samples = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FaceDataError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(samples, list):
        raise FaceDataError(f"{path}: expected a list of samples, as LLaVA's --data_path has")
    return samples


def of_json(path: Path, image_folder: Path) -> Entries:
    """The images of a LLaVA training JSON (``image``: a string, or a list of strings), each once, sorted.

    Absolute paths below ``image_folder`` are taken as relative ones. Raises ``FaceDataError`` if it is no such JSON.
    """
    samples = read_samples(path)
    if not image_folder.is_dir():
        raise FaceDataError(f"--image-folder {image_folder}: no such folder", "missing")
    names = sorted(set(below(image_folder, _image_names(samples, path))))
    return Entries(names, lambda i: image_folder / names[i], path)


def _image_names(samples: Iterable[Any], path: Path) -> Iterable[str]:
    for number, sample in enumerate(samples):
        found = sample.get("image") if isinstance(sample, dict) else None
        for name in found if isinstance(found, list) else [found]:
            if isinstance(name, str):
                yield name
            elif name is not None:
                raise FaceDataError(f"{path}, row {number}: image is {name!r}, expected a path or a list of paths")


def below(folder: Path, names: Iterable[str]) -> Iterable[str]:
    """Clean names; those that cannot be cleaned stay as they are, to be counted."""
    prefix = os.path.join(os.path.abspath(folder), "")
    for name in names:
        try:
            yield clean_name(name.removeprefix(prefix))
        except FaceDataError:
            yield name


def _looks_like_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _is_new(folder: str, store: str | None) -> bool:
    """Whether a folder is neither the store nor a link back to a folder that it lies in."""
    real = os.path.realpath(folder)
    inside = os.path.realpath(os.path.dirname(folder))
    return real != store and not (os.path.islink(folder) and os.path.join(inside, "").startswith(real + os.sep))


def _is_parquet_folder(folder: Path) -> bool:
    """Whether it has parquet files, and neither images nor folders beside them."""
    found = [f for f in folder.iterdir() if not f.name.startswith(".")]
    other = any(_looks_like_image(f.name) or f.is_dir() for f in found)
    return not other and any(f.suffix == ".parquet" for f in found)
