"""An append-only file of JSON lines that survives being killed: a torn last line does not count."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


class Journal:
    """The writing side, for one process at a time. Errors of the disk are raised as ``OSError``.

    A line is handed to the operating system as a whole before ``append`` returns, so that nothing is lost when the
    process is killed. It is not forced onto the disk: after a power cut the last lines may be gone.
    """

    def __init__(self, path: Path) -> None:
        """Opens or makes the file; what a killed process left after the last line break is cut off."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        whole = _end_of_last_line(self._file)
        if whole < os.fstat(self._file).st_size:
            os.ftruncate(self._file, whole)

    def append(self, line: str) -> None:
        """Adds one line (without a line break in it)."""
        left = memoryview(line.encode() + b"\n")
        while left:
            left = left[os.write(self._file, left) :]

    def clear(self) -> None:
        """Forgets every line."""
        os.ftruncate(self._file, 0)

    def close(self) -> None:
        """Closes the file; what was appended stays."""
        os.close(self._file)


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(offset, line) of every whole line."""
    offset = 0
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield offset, line
            offset += len(line)


def line_at(path: Path, offset: int) -> bytes:
    """The line that begins there."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.readline()


def _end_of_last_line(file: int, block: int = 65536) -> int:
    end = os.fstat(file).st_size
    while end > 0:
        start = max(0, end - block)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
