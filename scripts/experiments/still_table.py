"""Cells of the experiment on stills -> Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Cells = Sequence[dict[str, Any]]
FULL = "full"


def tables(cells: Cells) -> str:
    """For each set: the rows of the ablation, each question by row, and the groups of ``full`` where it has any."""
    parts = []
    for name in dict.fromkeys(cell["set"] for cell in cells):
        mine = [cell for cell in cells if cell["set"] == name]
        rows = {variant: [c for c in mine if c["variant"] == variant] for variant in _names(mine)}
        parts += [f"### {name}", _ablation(rows), _questions(rows), _groups(rows.get(FULL, []))]
    return "\n\n".join(part for part in parts if part)


def spread(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation; the value alone where there is one."""
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


def _names(cells: Cells) -> list[str]:
    return list(dict.fromkeys(cell["variant"] for cell in cells))


def _ablation(rows: dict[str, Cells]) -> str:
    """Balanced accuracy with its range, what ``full`` is above it seed by seed, accuracy, loss, parameters, time."""
    full = {cell["seed"]: cell["mean"] for cell in rows.get(FULL, [])}
    lines = [
        "| | seeds | balanced accuracy | min..max | full minus it | accuracy | final loss | trained | CPU s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, cells in rows.items():
        means = [cell["mean"] for cell in cells]
        above = [full[cell["seed"]] - cell["mean"] for cell in cells if cell["seed"] in full and name != FULL]
        lines.append(
            f"| {name} | {len(cells)} | {spread(means)} | {min(means):.3f}..{max(means):.3f} "
            f"| {spread(above) if above else ''} | {spread([c['accuracy'] for c in cells])} "
            f"| {spread([c['loss'] for c in cells])} | {cells[0]['trained'] / 1e3:,.0f} k "
            f"| {np.mean([c['seconds'] for c in cells]):.0f} |"
        )
    some = next(iter(rows.values()))[0]
    lines.append(f"| (without looking) | | {some['chance']:.3f} | | | {some['majority']:.3f} | | | |")
    return "\n".join(lines)


def _questions(rows: dict[str, Cells]) -> str:
    """Balanced accuracy of each question, a column a variant."""
    names = list(next(iter(rows.values()))[0]["balanced"])
    lines = [f"| balanced accuracy | {' | '.join(rows)} |", "|---|" + "---:|" * len(rows)]
    for name in names:
        found = (spread([cell["balanced"][name] for cell in cells]) for cells in rows.values())
        lines.append(f"| {name} | {' | '.join(found)} |")
    return "\n".join(lines)


def _groups(cells: Cells) -> str:
    """Accuracy of ``full`` by group: mean over seeds, a column a question."""
    if not cells or not any(cells[0]["groups"].values()):
        return ""
    questions = list(cells[0]["groups"])
    lines = [f"| full, accuracy of | {' | '.join(questions)} |", "|---|" + "---:|" * len(questions)]
    for group in cells[0]["groups"][questions[0]]:
        found = (spread([cell["groups"][question][group] for cell in cells]) for question in questions)
        lines.append(f"| {group} | {' | '.join(found)} |")
    return "\n".join(lines)
