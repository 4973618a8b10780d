"""What is still to do: entries against what the store has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import FaceDataError
from ..maps.index import Index
from ..maps.pngs import row_of
from ..maps.rows import STATUSES, Row, clean_name, map_path
from .entries import Cell, Entries, Entry
from .images import file_status
from .work import Task

_OK, _FAILED = STATUSES.index("ok"), STATUSES.index("failed")


@dataclass
class Plan:
    """Positions of the entries to work on, and counts of the others."""

    entries: Entries
    todo: list[int] = field(default_factory=list)
    known: dict[int, str] = field(default_factory=dict)
    """Of entries whose size or time has changed: how the sha256 begins that the store has."""
    there: int = 0
    """Entries that are in the store already."""
    failed_before: int = 0
    """Those of them that failed."""

    def tasks(self) -> Iterator[Task]:
        """One task for each position."""
        return (Task(self.entries[at], self.known.get(at, "")) for at in self.todo)


def make_plan(
    entries: Entries,
    store: Path,
    index: Index,
    digest: str,
    *,
    retry_failed: bool,
    adopt: Callable[[Row], None] | None,
    outdated: Callable[[str, float], bool] = lambda name, written: False,
    progress: Callable[[int], None] = lambda done: None,
) -> Plan:
    """Compares size and time of each image with its row; ``adopt`` (png stores) is told rows of maps without a line.

    ``outdated`` says whether what the parser made a row of has changed since. ``progress`` is told how many entries
    were looked at.
    """
    plan = Plan(entries)
    is_png = adopt is not None
    may_adopt = is_png and (store / "maps").is_dir()
    for at in range(len(entries)):
        entry = entries[at]
        found = index.find(entry.name)
        again = found is not None and found["status"] == _FAILED and retry_failed
        if again or (found is not None and not entry.problem and outdated(entry.name, float(found["written"]))):
            plan.todo.append(at)
        elif found is not None and _is_current(found, entry) and _has_map(found, entry, store, is_png):
            plan.there += 1
            plan.failed_before += int(found["status"] == _FAILED)
        elif adopt is not None and may_adopt and (row := _orphan(entry, store, digest)) is not None:
            adopt(row)
            plan.there += 1
        else:
            plan.todo.append(at)
            if found is not None and _has_map(found, entry, store, is_png):
                plan.known[at] = f"{int(found['sha']):016x}" if found["sha"] else ""
        progress(at + 1)
    return plan


def _is_current(found: Any, entry: Entry) -> bool:
    size, mtime = _status(entry)
    return mtime == found["mtime"] and (size is None or size == found["bytes"])


def _status(entry: Entry) -> tuple[int | None, float]:
    """Size (None: not known without reading) and time of an entry's file; zeros where there is none."""
    if entry.problem:
        return 0, 0.0
    try:
        status = file_status(entry.file)
    except FaceDataError:
        return 0, 0.0
    return None if isinstance(entry.source, Cell) else status.st_size, status.st_mtime


def _has_map(found: Any, entry: Entry, store: Path, is_png: bool) -> bool:
    """Whether the map that the row speaks of is there (in a parquet store it is where the row is)."""
    if not is_png or found["status"] != _OK:
        return True
    try:
        return (store / map_path(entry.name)).stat().st_size > 0
    except OSError:
        return False


def _orphan(entry: Entry, store: Path, digest: str) -> Row | None:
    """The row in a map that a killed process left without a line in the manifest, if it is of this very image."""
    try:
        row = row_of(store / map_path(clean_name(entry.name)))
    except FaceDataError:
        return None
    if row is None or (row.image, row.parser) != (entry.name, digest):
        return None
    size, mtime = _status(entry)
    return row if mtime == row.mtime and size in (None, row.bytes) else None
