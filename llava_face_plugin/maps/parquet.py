"""Maps in a column of a parquet file of the user's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FaceDataError
from .files import ids_of_png
from .shards import pyarrow
from .vocabularies import to_canonical


class ParquetMaps:
    """Columns ``image`` (name) and ``map`` (PNG bytes, or a struct with the field ``bytes``). Pickles and forks."""

    def __init__(self, path: Path, vocabulary: str) -> None:
        """Raises ``FaceDataError`` if the file cannot be read or lacks a column, ``FaceHostError`` without pyarrow."""
        self.path = path
        self.vocabulary = vocabulary
        self._opened: tuple[int, Any] | None = None
        missing = {"image", "map"} - set(self._file.schema_arrow.names)
        if missing:
            raise FaceDataError(f"maps {path}: it has no column {sorted(missing)}; expected 'image' and 'map'")
        names = self._file.read(["image"]).column("image").to_pylist()
        self._row = {name: row for row, name in enumerate(names)}
        groups = self._file.metadata
        self._ends = np.cumsum([groups.row_group(i).num_rows for i in range(groups.num_row_groups)])

    def by_name(self, name: str) -> np.ndarray | None:
        """Raises ``FaceDataError`` for a map that is no PNG of ids, or has ids of another vocabulary."""
        row = self._row.get(name)
        if row is None:
            return None
        group = int(np.searchsorted(self._ends, row, side="right"))
        start = int(self._ends[group - 1]) if group else 0
        value = self._file.read_row_group(group, ["map"], use_threads=False).column("map")[row - start].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        where = f"face map of {name} in {self.path}"
        if data is None:
            return None
        if not isinstance(data, bytes):
            raise FaceDataError(f"{where}: the column 'map' holds {type(data).__name__}, not the bytes of a PNG")
        return to_canonical(ids_of_png(data, where), self.vocabulary, where)

    def by_pixels(self, key: str) -> np.ndarray | None:
        return None

    def changed_since(self, name: str, moment: float) -> bool:
        return self.path.stat().st_mtime > moment

    @property
    def _file(self) -> Any:
        """The open file of this process: one that was opened before a fork must not be read from."""
        if self._opened is None or self._opened[0] != os.getpid():
            pa = pyarrow()
            try:
                self._opened = os.getpid(), pa.parquet.ParquetFile(self.path, memory_map=True)
            except (OSError, pa.ArrowException) as error:
                raise FaceDataError(f"maps {self.path}: cannot be read as parquet ({error})") from error
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_opened": None}
