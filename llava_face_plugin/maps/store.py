"""The reading side of a map store, which ``llava-face segment`` writes.

STORE/store.json                    format and parser
STORE/manifest/<i>-of-<n>.jsonl     a row for each image (parquet: those that are in no shard yet)
STORE/maps/<image name>.png         format png: palette PNGs, the row in a text chunk ``llava-face``
STORE/shards/<i>-of-<n>-<k>.parquet format parquet: rows and maps
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import FaceDataError
from .files import check_ids, ids_of_png
from .index import Index, journal_row
from .journal import line_at
from .rows import Row, clean_name, fields_of, map_path, png_of, printable
from .shards import Shard

INFO = "store.json"
KIND = "llava-face map store"
VERSION = 1
OPEN_SHARDS = 64
"""Parquet files that are kept open at a time (our default)."""

Format = Literal["png", "parquet"]
FORMATS: tuple[Format, ...] = ("png", "parquet")


@dataclass(frozen=True)
class StoreInfo:
    """What all maps of a store have in common."""

    format: Format
    parser: str
    """Its type, as in ``face.segmentation.parser.type``."""
    digest: str
    settings: dict[str, Any] = field(default_factory=dict)
    """The parser's configuration, for the record."""
    max_side: int | None = None
    """Maps are stored scaled down to this longest side; None: at the size of the image."""

    def to_json(self) -> str:
        """The text of ``store.json``."""
        parser = {"name": self.parser, "digest": self.digest, "settings": self.settings}
        content = {"kind": KIND, "version": VERSION, "format": self.format, "max_side": self.max_side, "parser": parser}
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def read(cls, store: Path) -> StoreInfo:
        """Raises ``FaceDataError`` if ``store`` is missing, is no store, or one of another version."""
        path = store / INFO
        if not path.is_file():
            what = "no map store (it has no store.json)" if store.is_dir() else "no such folder"
            raise FaceDataError(
                f"map store {store}: {what}; `llava-face segment INPUT --out {store}` makes one", "missing"
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FaceDataError(f"map store {path}: cannot be read ({error})", "damaged") from error
        if not isinstance(content, dict) or content.get("kind") != KIND:
            raise FaceDataError(f"map store {path}: another program's file, not one of `llava-face segment`")
        if content.get("version") != VERSION:
            raise FaceDataError(f"map store {path}: version {content.get('version')!r}, this release reads {VERSION}")
        parser, form = content.get("parser"), content.get("format")
        if form not in FORMATS or not isinstance(parser, dict) or not {"name", "digest"} <= set(parser):
            raise FaceDataError(f"map store {path}: 'format' (png or parquet) or 'parser' is missing", "damaged")
        return cls(form, parser["name"], parser["digest"], parser.get("settings", {}), content.get("max_side"))


class MapStore:
    """Maps by image name. Cheap to open; pickles, and works in forked workers.

    A png store finds a map by its path alone, also while it is being written. All else needs the index, which is read
    when first asked for and is not read again: open a parquet store when it is finished, and ask for its ``index``
    before workers are forked, so that they share it.
    """

    def __init__(self, path: Path, info: StoreInfo) -> None:
        self.path = path
        self.info = info
        self._index: Index | None = None
        self._shards: dict[Path, Shard] = {}
        self._process = os.getpid()

    @classmethod
    def open(cls, path: str | Path) -> MapStore:
        """Raises ``FaceDataError`` if there is no store of this version."""
        return cls(Path(path), StoreInfo.read(Path(path)))

    def get(self, name: str) -> np.ndarray | None:
        """(H, W) uint8 canonical ids of the image of that name, at its size or smaller (``info.max_side``).

        None where the image has no map (no face, failed, unknown). Raises ``FaceDataError`` for a damaged map.
        """
        try:
            name = clean_name(name)
        except FaceDataError:
            return None
        data = _content(self.path / map_path(name)) if self.info.format == "png" else self._map_bytes(name)
        if data is None:
            return None
        where = f"face map of {name} in {self.path}"
        labels = ids_of_png(data, where)
        check_ids(labels, where)
        return labels

    def row(self, name: str) -> Row | None:
        """What is known of an image; None: it is not in the store."""
        try:
            name = clean_name(name)
        except FaceDataError:
            name = printable(name)  # such names have rows too: they failed
        entry = self.index.find(name)
        row = self._row(entry) if entry is not None else None
        return row if row is not None and row.image == name else None

    def rows(self) -> Iterator[Row]:
        """One row for each image, in the order of writing."""
        return self.index.rows()

    def name_of(self, pixel_key: str) -> str | None:
        """The name of an image with these pixels (``keys.pixel_key``), one that has a map if there is one."""
        for entry in self.index.with_pixels(pixel_key) if pixel_key else ():
            row = self._row(entry)
            if row.pixel_key == pixel_key:
                return row.image
        return None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def index(self) -> Index:
        """Where the rows are; read once. Raises ``FaceDataError`` for a damaged store."""
        if self._index is None:
            self._index = Index(self.path)
        return self._index

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "info": self.info}

    def __setstate__(self, state: dict[str, Any]) -> None:
        MapStore.__init__(self, state["path"], state["info"])

    def _row(self, entry: Any) -> Row:
        path, at = self.index.files[int(entry["file"])], int(entry["at"])
        return journal_row(path, at) if path.suffix == ".jsonl" else self._shard(path).row(at)

    def _map_bytes(self, name: str) -> bytes | None:
        entry = self.index.find(name)
        if entry is None:
            return None
        path, at = self.index.files[int(entry["file"])], int(entry["at"])
        if path.suffix == ".jsonl":
            where = f"{path}, byte {at}; was it written to since it was opened?"
            line = fields_of(line_at(path, at), where)
            found, data = line["image"], png_of(line, where)
        else:
            found, data = self._shard(path).map(at)
        return data if found == name else None

    def _shard(self, path: Path) -> Shard:
        if self._process != os.getpid():  # open files must not be shared with the process this one was forked from
            self._shards, self._process = {}, os.getpid()
        if path not in self._shards:
            if len(self._shards) >= OPEN_SHARDS:
                self._shards.pop(next(iter(self._shards)))
            self._shards[path] = Shard(path)
        return self._shards[path]


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise FaceDataError(f"face map {path}: cannot be read ({error})", "unreadable") from error
