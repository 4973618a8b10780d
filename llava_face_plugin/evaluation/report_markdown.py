"""A report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from . import report_tables as tables
from .report import Report


def markdown(report: Report) -> str:
    """``report.md``."""
    parts = ["# Face evaluation", _table(tables.SUMMARY_HEAD, tables.summary_rows(report))]
    if report.comparisons:
        parts += ["## Comparison", _table(tables.COMPARISON_HEAD, tables.comparison_rows(report.comparisons))]
    if rows := tables.aggregate_rows(report):
        parts += ["## Groups of tasks", _table(tables.AGGREGATE_HEAD, rows)]
    parts += ["## Notes", "\n".join(f"- {_escaped(note)}" for note in report.notes)]
    for task, models in tables.by_task(report).items():
        parts.append(f"## {_escaped(task)}: {_escaped(models[0][1].alias)}")
        for name, s in models:
            parts.append(f"{_escaped(name)}: {_escaped(tables.protocol(s.info))}")
            parts += [_escaped(note) for note in s.info.questions.notes]
            parts.append(f"    {tables.command(s.info)}".replace("\n", " "))
        parts.append(_table(*tables.figure_table(models)))
        for kind, column in tables.breakdowns_of(models):
            parts += [f"### By {kind}: {_escaped(column)}", _table(*tables.breakdown_table(models, kind, column))]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [
        "| " + " | ".join(_escaped(text.lstrip("#")) for text in head) + " |",
        "|" + "|".join("---:" if text.startswith("#") else "---" for text in head) + "|",
    ]
    lines += ["| " + " | ".join(map(_escaped, row)) + " |" for row in rows]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """One line, in which nothing is markup: names of groups and classes come from data sets."""
    text = " ".join(text.split()).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    for character in "|`*_[]":
        text = text.replace(character, f"\\{character}")
    return text
