"""Maps that are on disk already, found by the image's name or by its pixels."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..errors import FaceDataError
from .files import read_ids
from .keys import PAD_COLOUR
from .vocabularies import to_canonical

if TYPE_CHECKING:
    from .store import MapStore

INDEX_VERSION = 1
INDEX_NAME = "index.json"
STORE_NAME = "store.json"


class Maps(Protocol):
    """Label maps by name or by pixels; every map is (H, W) uint8 canonical ids, None where there is none."""

    def by_name(self, name: str) -> np.ndarray | None:
        """The map of the image that the data calls ``name`` (a path below the image folder)."""
        ...

    def by_pixels(self, key: str) -> np.ndarray | None:
        """The map of the image with this ``keys.pixel_key``."""
        ...

    def changed_since(self, name: str, moment: float) -> bool:
        """Whether the file with the map of that name (or, of one that has many, the file) is younger than ``moment``,
        in seconds since 1970."""
        ...


def open_maps(path: str | Path, vocabulary: str = "celebamask-hq") -> Maps:
    """What ``path`` is: a map store, an ``index.json`` (or a folder with one), a parquet file, or a folder of maps.

    ``vocabulary`` says whose ids a folder or parquet file has; stores and indices hold canonical ones. Raises
    ``FaceDataError`` if there is nothing, or if a store or index is broken.
    """
    path = Path(path)
    if (path / STORE_NAME).is_file():
        from .store import MapStore

        return StoreMaps(MapStore.open(path))
    if path.suffix == ".json" or (path / INDEX_NAME).is_file():
        return IndexMaps(path)
    if path.suffix == ".parquet":
        from .parquet import ParquetMaps

        return ParquetMaps(path, vocabulary)
    if path.is_dir():
        return FolderMaps(path, vocabulary)
    raise FaceDataError(f"maps {path}: no such file or folder", "missing")


class StoreMaps:
    """A map store, as ``llava-face segment`` writes it."""

    def __init__(self, store: MapStore) -> None:
        self.store = store
        if store.info.format == "parquet":
            _ = store.index  # once, before a DataLoader forks, and not in each of its workers

    def by_name(self, name: str) -> np.ndarray | None:
        return self.store.get(name)

    def by_pixels(self, key: str) -> np.ndarray | None:
        name = self.store.name_of(key)
        return None if name is None else self.store.get(name)

    def changed_since(self, name: str, moment: float) -> bool:
        row = self.store.row(name)
        return row is not None and row.written > moment


class FolderMaps:
    """A folder of maps that mirrors the image folder: ``a/b.png`` (or ``.jpg.png``, ``.npy``) for ``a/b.jpg``."""

    def __init__(self, folder: Path, vocabulary: str) -> None:
        self.folder = folder
        self.vocabulary = vocabulary

    def by_name(self, name: str) -> np.ndarray | None:
        """Raises ``FaceDataError`` for a map that cannot be read or has ids of another vocabulary."""
        path = self._file(name)
        return None if path is None else to_canonical(read_ids(path), self.vocabulary, f"face map {path}")

    def by_pixels(self, key: str) -> np.ndarray | None:
        return None

    def changed_since(self, name: str, moment: float) -> bool:
        path = self._file(name)
        return path is not None and path.stat().st_mtime > moment

    def _file(self, name: str) -> Path | None:
        image = PurePosixPath(name)
        candidates = (f"{name}.png", f"{name}.npy", image.with_suffix(".png"), image.with_suffix(".npy"))
        return next((self.folder / c for c in candidates if (self.folder / c).is_file()), None)


class IndexMaps:
    """``index.json``: pixel key -> path of the map, relative to the index."""

    def __init__(self, path: Path) -> None:
        self.path = index_path(path)
        self.maps = _read_index(self.path)

    def by_name(self, name: str) -> np.ndarray | None:
        return None

    def by_pixels(self, key: str) -> np.ndarray | None:
        relative = self.maps.get(key)
        if relative is None:
            return None
        path = self.path.parent / relative
        return to_canonical(read_ids(path), "celebamask-hq", f"face map {path}")

    def changed_since(self, name: str, moment: float) -> bool:
        return self.path.stat().st_mtime > moment


def index_path(path: str | Path) -> Path:
    """The index file of a folder, or the file itself."""
    path = Path(path)
    return path if path.suffix == ".json" else path / INDEX_NAME


def _read_index(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise FaceDataError(f"map index {path}: no such file", "missing")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FaceDataError(f"map index {path}: not JSON ({error})") from error
    if not isinstance(content, dict) or content.get("version") != INDEX_VERSION:
        found = content.get("version") if isinstance(content, dict) else None
        raise FaceDataError(f"map index {path}: version {found!r}, this release reads version {INDEX_VERSION}")
    if not isinstance(content.get("maps"), dict) or content.get("pad_colour") != list(PAD_COLOUR):
        raise FaceDataError(f"map index {path}: 'maps' (an object) or 'pad_colour' {list(PAD_COLOUR)} is missing")
    return content["maps"]
