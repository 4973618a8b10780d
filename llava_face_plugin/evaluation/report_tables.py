"""The tables of a report as rows of text: the same in Markdown and HTML. A heading that begins with # is of numbers."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from .compare import Comparison
from .questions import DATA_ENV
from .report import Report
from .results import RunInfo
from .summary import Summary, natural

NOT_A_RESULT = "not a result (--limit)"


def protocol(info: RunInfo) -> str:
    """How a task's figures came about, in one line."""
    q, v = info.questions, info.versions
    limit = f", limit {info.limit}: NOT A RESULT" if info.limit is not None else ""
    model = info.model.path or info.model.args or "no model directory"
    return (
        f"{info.samples:,} of {q.rows:,} questions, {q.dataset}, split {q.split}, seed {q.seed}, digest "
        f"{q.digest[:12]}{limit}; images {q.image_root}; task version {info.task_version or '-'}; "
        f"{info.model.runner}: {model}, on {info.device_type or 'a device not recorded'}; "
        f"llava_face_plugin {v.get('llava_face_plugin', '?')}, lmms-eval {v.get('lmms_eval', '?')}, transformers "
        f"{v.get('transformers', '?')}, torch {v.get('torch', '?')}; {info.started}, {info.seconds:,.0f} s"
    )


def command(info: RunInfo) -> str:
    """What was started, as for a shell."""
    return shlex.join([f"{DATA_ENV}={Path(info.questions.path).parent}", *info.command])


def share(value: float | None, signed: bool = False) -> str:
    """A figure as text; "-" where it is undefined."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:+.4f}" if signed else f"{value:.4f}"


def interval(low: float | None, high: float | None, signed: bool = False) -> str:
    """Both ends as text."""
    return "-" if low is None or high is None else f"{share(low, signed)} to {share(high, signed)}"


SUMMARY_HEAD = (
    "model", "task", "#n", "main metric", "#score", "#95 % interval", "#unparsed", "#refused", "#majority",
    "worst group", "#gap", "",
)  # fmt: skip
COMPARISON_HEAD = (
    "task", "#n", "first", "#its score", "second", "#its score", "#second - first", "#95 % interval", "#p", "#Holm",
    "compared", "",
)  # fmt: skip
AGGREGATE_HEAD = ("model", "group", "#unweighted mean of its tasks", "main metric", "tasks")


def summary_rows(report: Report) -> list[tuple[str, ...]]:
    """A line a model and task, for ``SUMMARY_HEAD``."""
    return [
        (
            model.name, s.task, f"{s.n:,}", s.main, share(s.score), interval(s.low, s.high), share(s.unparsed),
            share(s.refused), share(s.majority),
            f"{s.worst.column}: {s.worst.group} {share(s.worst.value)}" if s.worst else "-",
            f"{share(s.gap.value)} ({s.gap.column})" if s.gap else "-", NOT_A_RESULT if s.limit is not None else "",
        )
        for model in report.models
        for s in model.summaries
    ]  # fmt: skip


def comparison_rows(comparisons: Sequence[Comparison]) -> list[tuple[str, ...]]:
    """For ``COMPARISON_HEAD``."""
    return [
        (
            c.task, f"{c.n:,}", c.first, share(c.first_score), c.second, share(c.second_score),
            share(c.difference, True), interval(c.low, c.high, True), f"{c.p:.4g}", f"{c.p_holm:.4g}",
            c.of, NOT_A_RESULT if c.limited else "",
        )
        for c in comparisons
    ]  # fmt: skip


def aggregate_rows(report: Report) -> list[tuple[str, ...]]:
    """For ``AGGREGATE_HEAD``, of groups whose tasks are all there; the others are in report.json."""
    return [
        (
            model.name, a.group, share(a.score) + (f" {NOT_A_RESULT}" if a.limited else ""), a.main,
            a.why_not or ", ".join(a.tasks),
        )
        for model in report.models
        for a in model.aggregates
        if not a.missing
    ]  # fmt: skip


def figure_table(models: Sequence[tuple[str, Summary]]) -> tuple[list[str], list[list[str]]]:
    """(head, rows): every metric of a task, a column a model."""
    names = list(dict.fromkeys(name for _, s in models for name in s.figures))
    rows = [[name, *(share(s.figures.get(name)) for _, s in models)] for name in names]
    return ["metric", *(f"#{name}" for name, _ in models)], rows


def breakdown_table(models: Sequence[tuple[str, Summary]], kind: str, column: str) -> tuple[list[str], list[list[str]]]:
    """(head, rows) of one breakdown of a task, all models side by side."""
    found = [
        (name, {row.name: row for row in b.rows})
        for name, summary in models
        for b in summary.breakdowns
        if (b.kind, b.column) == (kind, column)
    ]
    names = sorted({row for _, rows in found for row in rows}, key=natural)
    topics = any(row.yes is not None for _, rows in found for row in rows.values())
    head = [column, "#n", "#clusters", *(["#share of yes"] if topics else [])]
    for name, _ in found:
        head += [f"#{name}: {'recall' if kind == 'class' else 'score'}", "#95 % interval", "#unparsed"]
        head += ["#F1 of yes"] if topics else []
    out = []
    for name in names:
        first = next(rows[name] for _, rows in found if name in rows)
        cells = [name, f"{first.n:,}", f"{first.clusters:,}", *([share(first.yes)] if topics else [])]
        for _, rows in found:
            row = rows.get(name)
            values = [share(row.score), interval(row.low, row.high), share(row.unparsed)] if row else ["-"] * 3
            cells += [*values, *([share(row.f1 if row else None)] if topics else [])]
        out.append(cells)
    return head, out


def by_task(report: Report) -> dict[str, list[tuple[str, Summary]]]:
    """Task -> (name of the model, its summary)."""
    out: dict[str, list[tuple[str, Summary]]] = {}
    for model in report.models:
        for summary in model.summaries:
            out.setdefault(summary.task, []).append((model.name, summary))
    return dict(sorted(out.items()))


def breakdowns_of(models: Sequence[tuple[str, Summary]]) -> list[tuple[str, str]]:
    """(kind, column) of each breakdown that one of the models has."""
    return list(dict.fromkeys((b.kind, b.column) for _, summary in models for b in summary.breakdowns))
