"""The index of a map store: where each image's row is, in about 90 bytes an image whatever its name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FaceDataError
from .journal import line_at, lines
from .rows import DEFAULTS, STATUSES, Row, fields_of
from .shards import Shard

_ENTRY = np.dtype(
    [
        ("name", "u8"), ("pixels", "u8"), ("sha", "u8"), ("bytes", "i8"), ("mtime", "f8"), ("written", "f8"),
        ("file", "u4"), ("at", "u8"), ("status", "u1"),
    ]
)  # fmt: skip
_COLUMNS = ("image", "pixel_key", "sha256", "bytes", "mtime", "written", "status")
_CHUNK = 65536


def hash_name(name: str) -> int:
    """64 bits of an image's name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def short(digest: str) -> int:
    """The first 64 bits of a hex digest; 0 for an empty one."""
    return int(digest[:16], 16) if digest else 0


class Index:
    """The rows that count, of every image the latest one.

    ``entries`` is a structured array sorted by hash of the name; ``file`` and ``at`` say where the row is: a line's
    offset in a ``.jsonl`` file, or a row's number in a ``.parquet`` one.
    """

    def __init__(self, store: Path) -> None:
        """Reads all that is in ``store``. Raises ``FaceDataError`` naming a damaged file, and the line."""
        self.files = sorted((store / "manifest").glob("*.jsonl")) + sorted((store / "shards").glob("*.parquet"))
        parts = [_entries(number, path) for number, path in enumerate(self.files)]
        found = np.concatenate(parts) if parts else np.empty(0, dtype=_ENTRY)
        # Stable: of equally old rows the one in the last file counts, which is a shard rather than a journal.
        found = found[np.lexsort((found["file"], found["written"], found["name"]))]
        last = np.ones(len(found), dtype=bool)
        last[:-1] = found["name"][1:] != found["name"][:-1]
        self.entries = found[last]
        # Contiguous: a search in a field of the structured array would copy the field each time.
        self._names = np.ascontiguousarray(self.entries["name"])
        self._by_pixels: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def find(self, name: str) -> Any | None:
        """The entry of a clean name (by its hash: compare the name where it matters); None if there is none."""
        key = np.uint64(hash_name(name))
        at = int(np.searchsorted(self._names, key))
        return self.entries[at] if at < len(self._names) and self._names[at] == key else None

    def with_pixels(self, pixel_key: str) -> Iterator[Any]:
        """Entries whose pixel key begins like this one, those with a map first."""
        if self._by_pixels is None:
            order = np.lexsort((self._names, self.entries["status"], self.entries["pixels"]))
            self._by_pixels = order, self.entries["pixels"][order]
        order, pixels = self._by_pixels
        key = np.uint64(short(pixel_key))
        for at in range(int(np.searchsorted(pixels, key)), len(pixels)):
            if pixels[at] != key:
                return
            yield self.entries[order[at]]

    def live(self, path: Path) -> set[int]:
        """The places in a file whose rows count."""
        if path not in self.files:
            return set()
        return set(self.entries["at"][self.entries["file"] == self.files.index(path)].tolist())

    def rows(self) -> Iterator[Row]:
        """Every row that counts, file by file in the order of writing."""
        for path in self.files:
            live = self.live(path)
            yield from (row for at, row in _rows(path) if at in live)


def journal_row(path: Path, offset: int) -> Row:
    """The row in the line of a journal that begins there."""
    return Row.from_json(line_at(path, offset), f"{path}, byte {offset}")


def _rows(path: Path) -> Iterable[tuple[int, Row]]:
    if path.suffix == ".parquet":
        return enumerate(Shard(path).rows())
    return ((at, Row.from_json(line, f"{path}, byte {at}")) for at, line in lines(path))


def _entries(number: int, path: Path) -> np.ndarray:
    """The entries of one file, in chunks: a list of a million Python tuples would be large."""
    chunks, chunk = [], []
    for at, *values in _values(path):
        name, pixels, sha, size, mtime, written, status = values
        hashes = (hash_name(name), short(pixels), short(sha))
        chunk.append((*hashes, size, mtime, written, number, at, STATUSES.index(status)))
        if len(chunk) == _CHUNK:
            chunks.append(_array(chunk, path))
            chunk = []
    return np.concatenate([*chunks, _array(chunk, path)])


def _array(chunk: list[tuple[Any, ...]], path: Path) -> np.ndarray:
    try:
        return np.array(chunk, dtype=_ENTRY)
    except OverflowError as error:
        raise FaceDataError(f"{path}: a number in one of its rows is too large ({error})", "damaged") from error


def _values(path: Path) -> Iterator[tuple[Any, ...]]:
    if path.suffix == ".parquet":
        columns = Shard(path).columns(_COLUMNS)
        try:
            yield from zip(range(len(columns["image"])), *(columns[name] for name in _COLUMNS), strict=True)
        except (TypeError, ValueError) as error:
            raise FaceDataError(f"map store shard {path}: {error}", "damaged") from error
    else:
        for at, line in lines(path):
            given = fields_of(line, f"{path}, byte {at}")
            yield (at, *(given.get(name, DEFAULTS[name]) for name in _COLUMNS))
