"""A report as one HTML page: pictures inline, no scripts, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from ..reports.page import html_page, html_picture, html_table
from . import report_tables as tables
from .report import Report
from .summary import Summary


def page(report: Report, pictures: Mapping[tuple[str, ...], Path]) -> str:
    """``report.html``. ``pictures``: ``report_plots.draw``."""
    names = ", ".join(model.name for model in report.models)
    parts = [f"<h1>Face evaluation: {escape(names)}</h1>", html_table(tables.SUMMARY_HEAD, tables.summary_rows(report))]
    parts += _shown(pictures, ("overview",), "The main figure of every task")
    if report.comparisons:
        parts += ["<h2>Comparison</h2>", html_table(tables.COMPARISON_HEAD, tables.comparison_rows(report.comparisons))]
        parts += _shown(pictures, ("comparison",), "Differences with their 95 % intervals")
    if rows := tables.aggregate_rows(report):
        parts += ["<h2>Groups of tasks</h2>", html_table(tables.AGGREGATE_HEAD, rows)]
    parts += ["<h2>Notes</h2>", *(f'<p class="note">{escape(note)}</p>' for note in report.notes)]
    for task, models in tables.by_task(report).items():
        parts += _task(task, models, pictures)
    return html_page(f"Face evaluation: {names}", "\n".join(parts))


def _task(task: str, models: list[tuple[str, Summary]], pictures: Mapping[tuple[str, ...], Path]) -> list[str]:
    parts = [f"<h2>{escape(task)}: {escape(models[0][1].alias)}</h2>"]
    for name, s in models:
        parts.append(f"<p><b>{escape(name)}</b> {escape(tables.protocol(s.info))}</p>")
        parts += [f'<p class="note">{escape(note)}</p>' for note in s.info.questions.notes]
        parts.append(f"<p><code>{escape(tables.command(s.info))}</code></p>")
    parts.append(html_table(*tables.figure_table(models)))
    for kind, column in tables.breakdowns_of(models):
        parts.append(f"<h3>By {escape(kind)}: {escape(column)}</h3>")
        parts += _shown(pictures, (task, kind, column), f"{task} by {column}")
        parts.append(html_table(*tables.breakdown_table(models, kind, column)))
    return parts


def _shown(pictures: Mapping[tuple[str, ...], Path], key: tuple[str, ...], title: str) -> list[str]:
    return [html_picture(pictures[key], title)] if key in pictures else []
