"""Tables of text cells with the line of every row: files of one separator, plain or zipped, read by pyarrow.

Rows with another number of cells are named and left out, and columns are found by their header; ``data/columns.py``
does neither, and is nine times as fast on CelebA's files (see there).
"""

from __future__ import annotations

import difflib
import importlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FaceDataError
from ...maps.shards import pyarrow
from ..files import read_bytes, read_text

_BLOCK = 1 << 24
_TRIMMED = ' \t"'


@dataclass(frozen=True)
class Table:
    """N rows. ``ragged``: the lines that have another number of cells than the header, and how many they have."""

    path: Path
    columns: dict[str, Any]
    """Name -> a pyarrow string array (N,)."""
    lines: np.ndarray
    """(N,) int64: the line of each row, counted from 1."""
    ragged: tuple[tuple[int, int], ...]
    width: int

    def __len__(self) -> int:
        return len(self.lines)

    def strings(self, column: str) -> np.ndarray:
        """(N,) str, without spaces and quotes around them."""
        pc = arrow("compute")
        return np.array(pc.utf8_trim(self.columns[column], _TRIMMED).to_pylist(), dtype=np.str_)

    def codes(self, column: str, values: Sequence[str]) -> np.ndarray:
        """(N,) int16: the place of each cell in ``values``, -1 where it is none of them."""
        pa, pc = arrow(), arrow("compute")
        known = pa.array(list(values), pa.string())
        found = pc.index_in(self.columns[column], known)
        if found.null_count:
            found = pc.index_in(pc.utf8_trim(self.columns[column], _TRIMMED), known)
        return pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int16)

    def numbers(self, column: str) -> np.ndarray:
        """(N,) float64, NaN where a cell is no finite number."""
        pa, pc = arrow(), arrow("compute")
        text = pc.utf8_trim(self.columns[column], _TRIMMED)
        good = pc.match_substring_regex(text, r"^[+-]?(\d{1,18}(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?$")
        return pc.cast(pc.if_else(good, text, "nan"), pa.float64()).to_numpy(zero_copy_only=False)


def arrow(part: str | None = None) -> Any:
    """pyarrow, or its module ``part``. Raises ``FaceHostError`` naming the extra where it is not installed."""
    module = pyarrow()
    return importlib.import_module(f"pyarrow.{part}") if part else module


def as_text(names: np.ndarray) -> Any:
    """A pyarrow string array of (N,) str; what a file system has that is no UTF-8 becomes U+FFFD."""
    pa = arrow()
    try:
        found = pa.array(names, pa.string())
    except UnicodeError:
        found = pa.array([n.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for n in names.tolist()])
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found  # many rows come in chunks


def read_table(
    path: Path,
    member: str,
    needed: Sequence[str],
    *,
    separator: str | None = ",",
    names: Sequence[str] | None = None,
    skip: int = 0,
    cut: bool = False,
) -> Table:
    """The ``needed`` columns of a file, or of the file ``member`` in a ``.zip``; every row is one line.

    Args:
        separator: one character; None: any run of spaces and tabs.
        names: the columns of a file without a header line.
        skip: lines before the header.
        cut: ignore what follows the cells of ``names`` in a line (separator None only).

    Raises ``FaceDataError`` for a file that is empty, not UTF-8, or without a needed column.
    """
    data = read_bytes(path, member).rstrip(b"\r\n")
    if not data.isascii():
        read_text(path, member)  # raises unless it is UTF-8; pyarrow would lose ragged rows that are not
    if separator is None:
        data, separator = re.sub(rb"(?m)^[ \t]+|[ \t\r]+$", b"", data), " "
        data = re.sub(rb"[ \t]+", b" ", data)
        if cut and names is not None:
            data = re.sub(rb"(?m)^(\S+(?: \S+){%d}) .*$" % (len(names) - 1), rb"\1", data)
    first = skip + 1
    if names is None:
        names, first = _header(data, skip, separator, needed, path), skip + 2
    if not data.strip() or data.count(b"\n") + 1 < first:
        raise FaceDataError(f"{path}: the file has no rows", "empty")
    return _parse(data, path, tuple(names), needed, separator, first)


def _header(data: bytes, skip: int, separator: str, needed: Sequence[str], path: Path) -> list[str]:
    lines = data[:_BLOCK].splitlines()
    text = lines[skip].decode("utf-8", "replace") if len(lines) > skip else ""
    names = [cell.strip(_TRIMMED) for cell in text.lstrip("#").lstrip(separator).split(separator)]
    where = f"{path}, line {skip + 1}"
    if len(set(names)) < len(names):
        twice = next(n for i, n in enumerate(names) if n in names[:i])
        raise FaceDataError(f"{where}: the column {twice!r} occurs twice", "format")
    missing = [name for name in needed if name not in names]
    if missing:
        close = difflib.get_close_matches(missing[0], names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        more = f" (nor {len(missing) - 1} others)" if len(missing) > 1 else ""
        raise FaceDataError(f"{where}: there is no column {missing[0]!r}{more}{hint} (found: {text[:200]!r})", "format")
    return names


def _parse(data: bytes, path: Path, names: tuple[str, ...], needed: Sequence[str], separator: str, first: int) -> Table:
    pa, csv = arrow(), arrow("csv")
    ragged: list[tuple[int, int]] = []

    def note(row: Any) -> str:
        ragged.append((int(row.number), int(row.actual_columns)))
        return "skip"

    try:
        table = csv.read_csv(
            io.BytesIO(data),
            # Threads would lose the numbers of the ragged rows.
            read_options=csv.ReadOptions(
                use_threads=False, block_size=_BLOCK, skip_rows=first - 1, column_names=list(names)
            ),
            parse_options=csv.ParseOptions(
                delimiter=separator, quote_char=False, ignore_empty_lines=False, invalid_row_handler=note
            ),
            convert_options=csv.ConvertOptions(
                include_columns=list(needed), column_types=dict.fromkeys(needed, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowException as error:
        raise FaceDataError(f"{path}: cannot be read as a table ({error})", "damaged") from error
    if not len(table):
        first_bad = f"; line {ragged[0][0]} has {ragged[0][1]}" if ragged else ""
        raise FaceDataError(f"{path}: no row has {len(names)} columns{first_bad}", "format")
    columns = {n: table.column(n).combine_chunks() for n in needed}
    every = np.arange(first, first + len(table) + len(ragged))
    return Table(path, columns, np.setdiff1d(every, [n for n, _ in ragged]), tuple(ragged), len(names))
