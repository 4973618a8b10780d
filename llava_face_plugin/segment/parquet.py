"""Images in parquet files: as paths, as bytes, or as Hugging Face's ``struct{bytes, path}``."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FaceConfigError, FaceDataError
from ..maps.shards import pyarrow
from .entries import Cell, Entries, below

CHUNKS = 3
"""Row groups of images that are kept in memory: rows are read in order, by several threads (our default)."""


def of_parquet(source: Path, image_column: str, id_column: str | None, image_folder: Path | None) -> Entries:
    """The rows of one file, or of all ``.parquet`` files below a folder, sorted by file and row.

    They are filed under ``id_column``; without it under their path, where every row has one of its own, else under
    ``<file>/<row number>``. Paths are relative to ``image_folder`` (default: the file's folder). Raises
    ``FaceDataError`` for files that cannot be read or lack the column, and for ids that occur twice.
    """
    files = sorted(source.rglob("*.parquet")) if source.is_dir() else [source]
    root = source if source.is_dir() else source.parent
    folder = image_folder or root
    names: list[str] = []
    ends: list[int] = []
    kinds = {_kind(file, image_column) for file in files}
    if len(kinds) > 1:
        raise FaceDataError(f"{source}: column {image_column!r} has several types: {sorted(kinds)}")
    kind = kinds.pop()
    for file in files:
        names += _names(file, root, image_column, id_column, kind)
        ends.append(len(names))
    if kind == "path" and id_column is None:
        # plain paths: as a list of files, each once
        clean = sorted(set(below(folder, names)))
        return Entries(clean, lambda i: folder / clean[i], source)
    if id_column is None and len(set(names)) < len(names):
        names = [f"{_stem(file, root)}/{row:08d}" for file in files for row in range(_rows(file))]
    twice = [name for name, n in Counter(names).items() if n > 1] if len(set(names)) < len(names) else []
    if twice:
        raise FaceDataError(f"{source}: {len(twice)} ids of column {id_column!r} occur twice, for example {twice[0]!r}")
    bounds = np.array(ends)

    def cell(i: int) -> Cell:
        file = int(np.searchsorted(bounds, i, side="right"))
        return Cell(files[file], image_column, i - (ends[file - 1] if file else 0), folder)

    return Entries(names, cell, source)


class Reader:
    """Cells' contents, row group by row group; to be shared by threads."""

    def __init__(self) -> None:
        self._chunks: OrderedDict[tuple[Path, str, int], Any] = OrderedDict()
        self._starts: dict[Path, np.ndarray] = {}
        self._lock = threading.Lock()

    def content(self, cell: Cell) -> bytes | Path | None:
        """The image's bytes, or the path it is at; None for an empty cell.

        Raises ``FaceDataError`` if the file cannot be read any more.
        """
        with self._lock:
            value = self._value(cell)
        if isinstance(value, dict):
            value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
        if isinstance(value, str):
            return cell.folder / value
        return value

    def _value(self, cell: Cell) -> Any:
        pq = pyarrow().parquet
        try:
            if cell.file not in self._starts:
                metadata = pq.read_metadata(cell.file)
                sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
                self._starts[cell.file] = np.cumsum([0, *sizes])
            starts = self._starts[cell.file]
            group = int(np.searchsorted(starts, cell.row, side="right")) - 1
            key = (cell.file, cell.column, group)
            if key not in self._chunks:
                with pq.ParquetFile(cell.file) as file:
                    self._chunks[key] = file.read_row_group(group, columns=[cell.column]).column(0)
                while len(self._chunks) > CHUNKS:
                    self._chunks.popitem(last=False)
            return self._chunks[key][cell.row - int(starts[group])].as_py()
        except (OSError, pyarrow().ArrowException) as error:
            raise FaceDataError(f"parquet {cell.file}, row {cell.row}: cannot be read ({error})", "damaged") from error


def _kind(file: Path, column: str) -> str:
    """``path``, ``bytes`` or ``struct``: what the images are in this column."""
    pa = pyarrow()
    try:
        schema = pa.parquet.read_schema(file)
    except (OSError, pa.ArrowException) as error:
        raise FaceDataError(f"parquet {file}: cannot be read ({error})", "damaged") from error
    if column not in schema.names:
        raise FaceConfigError(f"parquet {file}: no column {column!r}; it has {schema.names}. Name it: --image-column")
    form = schema.field(column).type
    if pa.types.is_string(form) or pa.types.is_large_string(form):
        return "path"
    if pa.types.is_binary(form) or pa.types.is_large_binary(form):
        return "bytes"
    if pa.types.is_struct(form) and {"bytes", "path"} <= {form.field(i).name for i in range(form.num_fields)}:
        return "struct"
    raise FaceDataError(f"parquet {file}: column {column!r} is {form}, expected paths, bytes, or struct{{bytes, path}}")


def _names(file: Path, root: Path, image_column: str, id_column: str | None, kind: str) -> list[str]:
    if id_column is not None:
        values = _column(file, id_column)
        if None in values:
            raise FaceDataError(f"parquet {file}, row {values.index(None)}: no id in column {id_column!r}")
        return [str(value) for value in values]
    if kind == "bytes":
        return [f"{_stem(file, root)}/{row:08d}" for row in range(_rows(file))]
    values = _column(file, image_column if kind == "path" else f"{image_column}.path")
    if kind == "struct":
        values = [value["path"] if value else None for value in values]
    return [value or f"{_stem(file, root)}/{row:08d}" for row, value in enumerate(values)]


def _column(file: Path, column: str) -> list[Any]:
    """A column, or one field of a struct column (``image.path``), whose other fields are not read."""
    name = column.split(".")[0]
    with pyarrow().parquet.ParquetFile(file) as opened:
        table = opened.read(columns=[column])
    if name not in table.column_names:
        raise FaceConfigError(f"parquet {file}: no column {name!r}. Name another one: --id-column")
    values: list[Any] = table.column(name).to_pylist()
    return values


def _rows(file: Path) -> int:
    return int(pyarrow().parquet.read_metadata(file).num_rows)


def _stem(file: Path, root: Path) -> str:
    return file.relative_to(root).with_suffix("").as_posix()
