"""The writing side of a map store: nothing half written is ever visible, nothing finished is lost.

A png store's map appears first, with its row inside, then its line in the manifest: if the process is killed between
the two, the next run adopts the map. A parquet store's row is a line in the manifest, with its map, until it is in a
shard.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from ..errors import FaceDataError
from ..maps.index import Index
from ..maps.journal import Journal, lines
from ..maps.rows import Row, clean_name, fields_of, map_path, one_line, png_of
from ..maps.shards import write_shard
from ..maps.store import Format

SHARD_ROWS = 8192
SHARD_BYTES = 128_000_000
"""A shard is closed when it has so many rows or bytes of maps (our defaults): they are kept in memory until then."""

_NO_PLACE = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
"""The file system cannot have a map of this name beside those that are there."""


class Writer(Protocol):
    """Files outcomes. What the disk refuses is raised as ``OSError``."""

    def add(self, row: Row, png: bytes | None) -> Row:
        """Files a row and its map's bytes; returns the row as it was filed."""
        ...

    def finish(self) -> None:
        """All is done: the last shard is closed."""
        ...

    def close(self) -> None:
        """Closes files. Without ``finish`` the next run goes on from here."""
        ...


def open_writer(store: Path, form: Format, shard: str, index: Index) -> Writer:
    """The writer of shard ``i-of-n``; ``index`` is of what the store has already."""
    return PngWriter(store, shard) if form == "png" else ParquetWriter(store, shard, index)


class PngWriter:
    """A folder of PNGs that mirrors the images' one."""

    def __init__(self, store: Path, shard: str) -> None:
        self.store = store
        self._temporary = _empty_folder(store / "tmp" / shard) / "map.png"
        self._journal = Journal(store / "manifest" / f"{shard}.jsonl")

    def add(self, row: Row, png: bytes | None) -> Row:
        row = replace(row, written=time.time())
        if png is not None:
            try:
                self._place(self.store / row.map, png)
            except OSError as error:
                if error.errno not in _NO_PLACE:
                    raise
                told = f"image {row.image}: its map cannot be filed under {row.map} ({error.strerror})"
                row = replace(row, status="failed", reason="path", message=one_line(told), map="", coverage=0.0)
        else:
            self._remove(row.image)
        self._journal.append(row.to_json())
        return row

    def adopt(self, row: Row) -> None:
        """Files the row of a map that is in its place already."""
        self._journal.append(replace(row, written=time.time()).to_json())

    def finish(self) -> None:
        shutil.rmtree(self._temporary.parent)

    def close(self) -> None:
        self._journal.close()

    def _place(self, path: Path, png: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary.write_bytes(png)
        os.replace(self._temporary, path)

    def _remove(self, name: str) -> None:
        """An image that had a map and now has none: the old one must not be found."""
        try:
            (self.store / map_path(clean_name(name))).unlink()
        except FaceDataError:
            return  # not a name under which a map could be
        except OSError as error:
            if error.errno not in (errno.ENOENT, *_NO_PLACE):
                raise


class ParquetWriter:
    """Shards of rows and maps; those that fill no shard yet are lines of the manifest, and in memory."""

    def __init__(self, store: Path, shard: str, index: Index) -> None:
        self.store, self.shard = store, shard
        self._temporary = _empty_folder(store / "tmp" / shard) / "shard.parquet"
        path = store / "manifest" / f"{shard}.jsonl"
        self._rows: list[Row] = []
        self._maps: list[bytes | None] = []
        self._bytes = 0
        live = index.live(path)
        whole = [line for at, line in lines(path) if at in live] if path.exists() else []
        for line in whole:
            self._keep(Row.from_json(line, str(path)), png_of(fields_of(line, str(path)), str(path)))
        if path.exists():  # without lines that are in a shard, or were overtaken by another run
            self._temporary.write_bytes(b"".join(whole))
            os.replace(self._temporary, path)
        self._journal = Journal(path)

    def add(self, row: Row, png: bytes | None) -> Row:
        row = replace(row, written=time.time())
        line = row.to_dict()
        if png is not None:
            line["png"] = base64.b64encode(png).decode()
        self._journal.append(json.dumps(line, allow_nan=False, separators=(",", ":")))
        self._keep(row, png)
        if len(self._rows) >= SHARD_ROWS or self._bytes >= SHARD_BYTES:
            self._close_shard()
        return row

    def finish(self) -> None:
        if self._rows:
            self._close_shard()
        shutil.rmtree(self._temporary.parent)

    def close(self) -> None:
        self._journal.close()

    def _keep(self, row: Row, png: bytes | None) -> None:
        self._rows.append(row)
        self._maps.append(png)
        self._bytes += len(png or b"")

    def _close_shard(self) -> None:
        folder = self.store / "shards"
        folder.mkdir(exist_ok=True)
        taken = [int(path.stem.rpartition("-")[2]) for path in folder.glob(f"{self.shard}-*.parquet")]
        path = folder / f"{self.shard}-{max(taken, default=-1) + 1:05d}.parquet"
        write_shard(self._temporary, self._rows, self._maps)
        os.replace(self._temporary, path)
        self._journal.clear()
        self._rows, self._maps, self._bytes = [], [], 0


def _empty_folder(path: Path) -> Path:
    """The folder, without what a killed process left there."""
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    return path
