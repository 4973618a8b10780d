"""CelebA's text tables, white space between the columns, read with numpy. The first row that does not fit is an error.

``datasets/_tables.py`` reads the tables of the other data sets, and can read these, too. Why there are two: on CelebA's
202,599 rows of 41 columns this one takes 0.3 s and that one 2.5 to 3.3 s (same run, one core), as pyarrow makes a
string of every cell; and rules differ: CelebA's files are of fixed content, so nothing is skipped here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FaceDataError


@dataclass(frozen=True)
class Columns:
    """The tokens of the rows of a text file: all rows have the same number of them.

    ``starts`` and ``lengths``: (N, C) int64, of the bytes in ``data``. ``first_line``: line of row 0, from 1.
    """

    path: Path
    data: np.ndarray  # uint8
    starts: np.ndarray
    lengths: np.ndarray
    first_line: int

    def __len__(self) -> int:
        return len(self.starts)

    def where(self, row: int) -> str:
        """``path, line n``: for errors about that row."""
        return f"{self.path}, line {self.first_line + row}"

    def token(self, row: int, column: int) -> str:
        """One token as text."""
        start = self.starts[row, column]
        return self.data[start : start + self.lengths[row, column]].tobytes().decode("utf-8", "replace")

    def texts(self, column: int) -> list[str]:
        """A column as text. Raises ``FaceDataError`` naming the line of one that is not UTF-8."""
        return [self._text(row, token) for row, token in enumerate(self._tokens(column).tolist())]

    def numbers(self, column: int, what: str) -> np.ndarray:
        """A column of whole numbers from 0 on: (N,) int64. Raises ``FaceDataError`` naming line and value."""
        tokens, lengths = self._tokens(column), self.lengths[:, column]
        characters = tokens.view(np.uint8).reshape(len(tokens), -1)
        inside = np.arange(characters.shape[1])[None, :] < lengths[:, None]
        digits = ((characters >= ord("0")) & (characters <= ord("9"))) | ~inside
        bad = ~digits.all(axis=1) | (lengths > 18)
        if bad.any():
            row = int(np.argmax(bad))
            raise FaceDataError(f"{self.where(row)}: expected {what}, found {self.token(row, column)!r}")
        return tokens.astype(np.int64)

    def signs(self, first: int) -> np.ndarray:
        """The columns from ``first`` on, each ``1`` or ``-1``: (N, C - first) int8 of 1 and 0, 2 for anything else."""
        starts, lengths = self.starts[:, first:], self.lengths[:, first:]
        lead = self.data[starts]
        one = (lengths == 1) & (lead == ord("1"))
        second = self.data[np.minimum(starts + 1, len(self.data) - 1)]
        minus = (lengths == 2) & (lead == ord("-")) & (second == ord("1"))
        return np.where(one, 1, np.where(minus, 0, 2)).astype(np.int8)

    def _tokens(self, column: int) -> np.ndarray:
        """(N,) bytes strings, zero-padded."""
        starts, lengths = self.starts[:, column], self.lengths[:, column]
        width = int(lengths.max(initial=1))
        inside = np.arange(width)[None, :] < lengths[:, None]
        places = np.minimum(starts[:, None] + np.arange(width)[None, :], len(self.data) - 1)
        return np.where(inside, self.data[places], 0).astype(np.uint8).view(f"S{width}").reshape(-1)

    def _text(self, row: int, token: bytes) -> str:
        try:
            return token.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FaceDataError(f"{self.where(row)}: {token!r} is not UTF-8 text", "format") from error


def columns(
    path: Path,
    lines: bytes,
    width: int,
    expected: str,
    first_line: int = 1,
    found: Callable[[int], str] = "{} columns".format,
) -> Columns:
    """Split ``lines`` (line ends are LF) into rows of ``width`` tokens.

    ``expected`` says in errors what a row is, ``found`` what one of another number of tokens is. Raises
    ``FaceDataError`` naming the first line with another number of tokens, or with a control character, and where
    there is no row.
    """
    data = np.frombuffer(lines.rstrip() + b"\n", dtype=np.uint8)
    space = (data == 32) | ((data >= 9) & (data <= 13))
    control = (data < 32) & ~space
    if control.any():
        at = int(np.argmax(control))
        line = first_line + int(np.count_nonzero(data[:at] == 10))
        raise FaceDataError(f"{path}, line {line}: not a text file (it holds the byte {int(data[at])})", "format")
    before = np.concatenate(([True], space[:-1]))
    starts = np.flatnonzero(before & ~space)
    ends = np.flatnonzero(~before & space)
    line_ends = np.flatnonzero(data == 10)
    counts = np.diff(np.searchsorted(starts, line_ends), prepend=0)
    if not len(starts):
        raise FaceDataError(f"{path}: it holds no row; expected {expected}", "empty")
    if (counts != width).any():
        row = int(np.argmax(counts != width))
        raise FaceDataError(f"{path}, line {first_line + row}: expected {expected}, found {found(int(counts[row]))}")
    shape = (len(counts), width)
    return Columns(path, data, starts.reshape(shape), (ends - starts).reshape(shape), first_line)


def lf(data: bytes) -> bytes:
    """CRLF and CR line ends become LF."""
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
