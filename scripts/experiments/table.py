"""Cells of an experiment, one JSON line each, and the table that is made of them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

Cell = Mapping[str, Any]


def read_cells(path: Path) -> list[dict[str, Any]]:
    """The finished cells; a last line that a stop has cut off is none."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def add_cell(path: Path, cell: Cell) -> None:
    """Writes the cells anew with one more, so that a stop leaves either all or all but this one."""
    lines = [json.dumps(known) for known in [*read_cells(path), cell]]
    temporary = path.with_suffix(".part")
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    temporary.replace(path)


def keep_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Keeps beside the cells at ``path`` what all of them depend on and none of them says.

    Raises ``typer.BadParameter`` if they were made with another value. Cells from before there was such a file are
    taken as they are.
    """
    kept = path.with_suffix(".settings.json")
    if path.exists() and not kept.exists():
        return
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for name, value in settings.items():
        if known.get(name, value) != value:
            raise typer.BadParameter(f"the cells of {path} were made with {name} {known[name]}, not {value}")
    kept.write_text(json.dumps({**known, **settings}) + "\n", encoding="utf-8")


def is_done(cells: Iterable[Cell], wanted: Cell) -> bool:
    """Whether one of ``cells`` has every value of ``wanted``."""
    return any(all(cell.get(key) == value for key, value in wanted.items()) for cell in cells)


def markdown(cells: Sequence[Cell], row: str, column: str, value: str) -> str:
    """Mean ± sample standard deviation and range over the cells of the same row and column, with their number."""
    rows, columns = (list(dict.fromkeys(cell[key] for cell in cells)) for key in (row, column))
    lines = [f"| | {' | '.join(map(str, columns))} |", "|---" * (len(columns) + 1) + "|"]
    for name in rows:
        of_row = [cell for cell in cells if cell[row] == name]
        found = [[float(cell[value]) for cell in of_row if cell[column] == other] for other in columns]
        lines.append(f"| {name} | {' | '.join(map(spread, found))} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """``0.700 ± 0.100 (0.600 to 0.800; n = 3)``."""
    if not values:
        return ""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return (
        f"{statistics.mean(values):.3f} ± {deviation:.3f} ({min(values):.3f} to {max(values):.3f}; n = {len(values)})"
    )
