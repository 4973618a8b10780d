"""The plots of a report: dots with their 95 % intervals. Extra ``plots``; nothing here touches pyplot."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..reports.figures import new_figure, plain, save, shortened
from . import report_tables as tables
from .compare import Comparison
from .report import Report
from .summary import Row, Summary, natural

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")  # Okabe and Ito's
Dot = tuple[float, float | None, float | None]
"""(value, low, high)."""


def draw(report: Report, folder: Path) -> dict[tuple[str, ...], Path]:
    """PNGs in ``folder``, by ``("overview",)``, ``("comparison",)`` and (task, kind, column)."""
    out: dict[tuple[str, ...], Path] = {}
    names = [model.name for model in report.models]
    tasks = tables.by_task(report)
    shares = {task: models for task, models in tasks.items() if all(0 <= s.score <= 1 for _, s in models)}
    if shares:
        rows = [(f"{task} ({models[0][1].main})", _main_dots(models, names)) for task, models in shares.items()]
        out["overview",] = _drawn(folder / "overview.png", "Main figure of every task, 95 % intervals", rows, names)
    if compared := [c for c in report.comparisons if c.higher_is_better]:  # years are on another scale
        out["comparison",] = _differences(folder / "comparison.png", report.models[0].name, compared)
    for task, models in tasks.items():
        for kind, column in tables.breakdowns_of(models):
            rows = _breakdown_dots(models, names, kind, column)
            path = folder / f"{_file_name(task, kind, column)}.png"
            title = f"{task} by {column}: {'recall' if kind == 'class' else 'mean score'}, 95 % intervals"
            out[task, kind, column] = _drawn(path, title, rows, names)
    return out


def _main_dots(models: Sequence[tuple[str, Summary]], names: Sequence[str]) -> list[Dot | None]:
    by_name = dict(models)
    return [(s.score, s.low, s.high) if (s := by_name.get(name)) else None for name in names]


def _breakdown_dots(
    models: Sequence[tuple[str, Summary]], names: Sequence[str], kind: str, column: str
) -> list[tuple[str, list[Dot | None]]]:
    found: dict[str, dict[str, Row]] = {name: {} for name in names}
    for name, summary in models:
        for b in summary.breakdowns:
            if (b.kind, b.column) == (kind, column):
                found[name] = {row.name: row for row in b.rows}
    rows: dict[str, Row] = {}
    for of_model in found.values():
        rows = {**of_model, **rows}
    # Topics and classes by score, which is what one looks for; groups by name, so that plots can be compared.
    ordered = sorted(rows.values(), key=lambda r: natural(r.name))
    if kind != "group":
        ordered.sort(key=lambda r: -r.score)
    return [(f"{r.name} (n = {r.n:,})", [_dot(found[name].get(r.name)) for name in names]) for r in ordered]


def _dot(row: Row | None) -> Dot | None:
    return (row.score, row.low, row.high) if row else None


def _differences(path: Path, first: str, compared: Sequence[Comparison]) -> Path:
    rows: list[tuple[str, list[Dot | None]]] = []
    seconds = list(dict.fromkeys(c.second for c in compared))
    for task in dict.fromkeys(c.task for c in compared):
        found = {c.second: (c.difference, c.low, c.high) for c in compared if c.task == task}
        rows.append((task, [found.get(second) for second in seconds]))
    names = [f"{second} - {first}" for second in seconds]
    return _drawn(path, "Difference in mean score, 95 % intervals", rows, names, limits=None)


def _drawn(
    path: Path,
    title: str,
    rows: Sequence[tuple[str, Sequence[Dot | None]]],
    names: Sequence[str],
    limits: tuple[float, float] | None = (0.0, 1.0),
) -> Path:
    """A line of dots a row, from the top down, a colour a model."""
    longest = min(max(len(label) for label, _ in rows), 60)
    figure = new_figure(4.5 + 0.07 * longest, 1.3 + (0.16 + 0.09 * len(names)) * len(rows))
    axes = figure.add_subplot()
    for place, name in enumerate(names):
        shift = 0.6 * ((place + 0.5) / len(names) - 0.5)
        dots = [(dot, at + shift) for at, (_, found) in enumerate(rows) if (dot := found[place]) is not None]
        _whiskers(axes, dots, COLOURS[place % len(COLOURS)], name)
    axes.set_yticks(range(len(rows)), [plain(shortened(label, 60)) for label, _ in rows], fontsize=7)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    if limits:
        axes.set_xlim(*limits)
    else:
        axes.axvline(0.0, color="0.3", linewidth=0.8)
    axes.set_title(plain(title), fontsize=9, loc="left")
    axes.tick_params(axis="x", labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(names) > 1 or limits is None:
        figure.legend(loc="outside lower center", fontsize=7, ncols=min(len(names), 3), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)
    return path


def _whiskers(axes: Any, dots: Sequence[tuple[Dot, float]], colour: str, name: str) -> None:
    """Dots at their heights, with a name in the legend."""
    for (_, low, high), at in dots:
        if low is not None and high is not None:
            axes.plot([low, high], [at, at], color=colour, linewidth=1.2)
    axes.plot(
        [value for (value, _, _), _ in dots], [at for _, at in dots], "o", color=colour, markersize=3.5,
        label=plain(shortened(name, 60)), clip_on=False,
    )  # fmt: skip


def _file_name(*parts: str) -> str:
    """Columns are named by data sets: letters and digits, and a hash where anything else stood."""
    text = "_".join(parts)
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:80]
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
