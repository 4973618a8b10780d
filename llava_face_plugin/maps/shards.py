"""Parquet shards of a map store: the rows, and each map as the bytes of its PNG in the column ``map``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FaceDataError, FaceHostError
from .extras import install_hint
from .rows import Row

ROW_GROUP = 64
"""Rows that are read to get at one map: small, for training reads maps in random order (our default)."""

_TYPES: dict[str, str] = {
    "image": "string", "status": "string", "parser": "string", "reason": "string", "message": "string",
    "sha256": "string", "bytes": "int64", "mtime": "float64", "width": "int32", "height": "int32",
    "orientation": "int32", "frames": "int32", "pixel_key": "string", "boxes": "boxes", "scores": "floats",
    "confidences": "floats", "coverage": "float64", "written": "float64", "map": "binary",
}  # fmt: skip
ROW_COLUMNS = tuple(name for name in _TYPES if name != "map")


def pyarrow() -> Any:
    """The module, with ``parquet`` loaded. Raises ``FaceHostError`` naming the extra where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise FaceHostError(f"parquet needs pyarrow: {install_hint('maps')} ({error})") from error
    return pyarrow


def write_shard(path: Path, rows: Sequence[Row], maps: Sequence[bytes | None]) -> None:
    """Write ``rows`` and the PNG bytes of their maps (None: no map) to ``path``, which is not made atomically."""
    pa = pyarrow()
    floats = pa.list_(pa.float64())
    types = {"boxes": pa.list_(floats), "floats": floats}
    schema = pa.schema([(name, types[kind] if kind in types else getattr(pa, kind)()) for name, kind in _TYPES.items()])
    columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in ROW_COLUMNS}
    columns["map"] = list(maps)
    pa.parquet.write_table(
        pa.table(columns, schema=schema),
        path,
        row_group_size=ROW_GROUP,
        # A PNG is compressed already, and would only be slower to read.
        compression={name: "none" if name == "map" else "zstd" for name in _TYPES},
        use_dictionary=["status", "parser", "reason"],
        write_statistics=False,
    )


class Shard:
    """The reading side of one file. Not to be shared with a forked process: open another one there."""

    def __init__(self, path: Path) -> None:
        """Raises ``FaceDataError`` naming the file where it cannot be read."""
        pa = pyarrow()
        self.path = path
        try:
            self._file = pa.parquet.ParquetFile(path, memory_map=True, pre_buffer=False)
        except (OSError, pa.ArrowException) as error:
            raise FaceDataError(f"map store shard {path}: cannot be read ({error})", "damaged") from error
        missing = [name for name in _TYPES if name not in self._file.schema_arrow.names]
        if missing:
            raise FaceDataError(f"map store shard {path}: no shard, it lacks the columns {missing}", "damaged")
        sizes = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._ends = np.cumsum(sizes)

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def columns(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """Whole columns as Python values."""
        table: dict[str, list[Any]] = self._read(lambda: self._file.read(list(names), use_threads=False)).to_pydict()
        return table

    def rows(self) -> Iterator[Row]:
        """Every row, in order."""
        for group in range(self._file.num_row_groups):
            for values in self._group(group, ROW_COLUMNS).to_pylist():
                yield Row.from_dict(values)

    def row(self, number: int) -> Row:
        """The row of that number, from 0."""
        group, place = self._place(number)
        return Row.from_dict(self._group(group, ROW_COLUMNS).slice(place, 1).to_pylist()[0])

    def map(self, number: int) -> tuple[str, bytes | None]:
        """Image name and PNG bytes of the row of that number."""
        group, place = self._place(number)
        table = self._group(group, ("image", "map"))
        return table.column("image")[place].as_py(), table.column("map")[place].as_py()

    def _place(self, number: int) -> tuple[int, int]:
        group = int(np.searchsorted(self._ends, number, side="right"))
        return group, number - (int(self._ends[group - 1]) if group else 0)

    def _group(self, group: int, names: Sequence[str]) -> Any:
        return self._read(lambda: self._file.read_row_group(group, list(names), use_threads=False))

    def _read(self, how: Any) -> Any:
        try:
            return how()
        except (OSError, pyarrow().ArrowException) as error:
            raise FaceDataError(f"map store shard {self.path}: cannot be read ({error})", "damaged") from error
