"""The figures of one task, made again from its samples, with intervals, groups, topics and classes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import FaceDataError
from . import metrics
from .results import RunInfo, TaskResult
from .scoring import Record
from .task_index import Task

TOLERANCE = 1e-9
"""How far lmms-eval's aggregate and ours may lie apart: sums of floats in another order."""
MOST_CLASSES = 60
"""A gold answer with more values than this is no class (our default): ages, free text."""


@dataclass(frozen=True)
class Row:
    """The questions of one group, topic or class. Shares in 0..1; None: undefined on these questions."""

    name: str
    n: int
    clusters: int
    """Persons or images: the unit of the bootstrap."""
    score: float
    """Mean score of the questions: of yes/no and choice the share of right answers, of a class its recall."""
    low: float | None
    high: float | None
    unparsed: float
    yes: float | None = None
    """Of yes/no topics: the share of questions whose right answer is yes."""
    f1: float | None = None
    """Of yes/no topics: F1 of yes."""


@dataclass(frozen=True)
class Breakdown:
    """The questions of a task by one column. ``kind`` is group, topic or class."""

    kind: str
    column: str
    rows: list[Row]


@dataclass(frozen=True)
class Worst:
    """A figure over groups, and where it is found."""

    column: str
    group: str
    value: float


@dataclass(frozen=True)
class Summary:
    """One task of one model."""

    task: str
    alias: str
    main: str
    """The metric that ``score`` is."""
    higher_is_better: bool
    n: int
    clusters: int
    limit: int | None
    score: float
    low: float | None
    """Ends of the 95 % interval of ``score``, by a bootstrap over clusters."""
    high: float | None
    mean_score: float
    """Mean score of the questions: what groups are about. Most tasks' ``score`` is just this."""
    unparsed: float
    refused: float
    majority: float | None
    worst: Worst | None
    """The group with the lowest mean score among those with 20 clusters or more."""
    gap: Worst | None
    """The column with the largest difference between two such groups."""
    figures: dict[str, float | None]
    """Every metric of the task."""
    breakdowns: list[Breakdown]
    info: RunInfo


def summarise(result: TaskResult, task: Task) -> Summary:
    """Raises ``FaceDataError`` where a figure of lmms-eval and ours, of the same samples, are not the same."""
    figures = recompute(result, task)
    records, main = result.output.records, result.output.main
    clusters = [r["cluster"] for r in records]
    scores = np.array([r["score"] for r in records], dtype=np.float64)
    mean = float(np.sort(scores).mean())
    score = figures[main]
    if math.isclose(score, mean, abs_tol=1e-12):
        interval = metrics.cluster_bootstrap(clusters, scores)
    else:
        interval = metrics.cluster_bootstrap(clusters, _statistic(result, task))
    groups = _groups(records, clusters, scores)
    worst, gap = _extremes(groups)
    return Summary(
        task.name, task.alias, main, next(m.higher_is_better for m in task.metrics if m.name == main), len(records),
        len(set(clusters)), result.info.limit, score, interval.low if interval else None,
        interval.high if interval else None, mean, _mean(records, "unparsed"), _mean(records, "refused"),
        _defined(figures.get("face_majority")), worst, gap, {name: _defined(v) for name, v in figures.items()},
        breakdowns(records), result.info,
    )  # fmt: skip


def recompute(result: TaskResult, task: Task) -> dict[str, float]:
    """Metric -> its value by this version's aggregations; NaN where undefined. Raises as ``summarise``."""
    where, output, out = result.folder, result.output, {}
    unknown = sorted(set(output.figures) - {m.name for m in task.metrics})
    if unknown:
        raise FaceDataError(f"{where}: {task.name} has no metric {unknown[0]}; made by {_made_by(result)}")
    for metric in task.metrics:
        if metric.name not in output.figures:
            continue
        try:
            ours = float(metric.aggregation()(output.items[metric.name]))
        except (TypeError, ValueError, KeyError, IndexError, ArithmeticError, AttributeError) as error:
            raise FaceDataError(f"{where}: {metric.name} cannot be made from the samples ({error!r})") from error
        theirs = output.figures[metric.name]
        if not (math.isnan(ours) and math.isnan(theirs)) and not abs(ours - theirs) <= TOLERANCE:
            raise FaceDataError(
                f"{where}: {metric.name} is {theirs!r} in lmms-eval's results, and {ours!r} made from its samples "
                f"(samples lost or doubled, or scored by another version: made by {_made_by(result)})"
            )
        out[metric.name] = ours
    return out


def _made_by(result: TaskResult) -> str:
    v = result.info.versions
    return f"llava_face_plugin {v.get('llava_face_plugin', '?')}, lmms-eval {v.get('lmms_eval', '?')}"


def _statistic(result: TaskResult, task: Task) -> Callable[[np.ndarray], float]:
    """The main metric as a function of rows."""
    main = result.output.main
    aggregation = next(m for m in task.metrics if m.name == main).aggregation()
    items = result.output.items[main]
    return lambda rows: float(aggregation([items[row] for row in rows.tolist()]))


def _groups(records: Sequence[Record], clusters: list[str], scores: np.ndarray) -> dict[str, metrics.GroupScores]:
    columns = sorted({column for r in records for column in r["groups"]})
    return {
        column: metrics.group_scores([r["groups"].get(column, "") for r in records], scores, clusters=clusters)
        for column in columns
    }


def _extremes(groups: dict[str, metrics.GroupScores]) -> tuple[Worst | None, Worst | None]:
    worst, gaps = [], []
    for column, found in groups.items():
        if (lowest := metrics.worst_group(found)) is not None:
            worst.append(Worst(column, *lowest))
        if (gap := metrics.group_gap(found)) is not None:
            gaps.append(Worst(column, "", gap))
    return min(worst, key=lambda w: w.value, default=None), max(gaps, key=lambda g: g.value, default=None)


def breakdowns(records: Sequence[Record]) -> list[Breakdown]:
    """By every group column; by topic, if there are several; by class, if the answers are classes."""
    out = [
        _breakdown("group", column, [r["groups"].get(column, "") for r in records], records)
        for column in sorted({column for r in records for column in r["groups"]})
    ]
    if len({r["topic"] for r in records}) > 1:
        out.append(_breakdown("topic", "topic", [r["topic"] for r in records], records))
    gold = {r["gold"] for r in records if isinstance(r["gold"], str)}
    if 1 < len(gold) <= MOST_CLASSES and not gold <= {"yes", "no"}:
        out.append(_breakdown("class", "class", [str(r["gold"]) for r in records], records))
    return [b for b in out if b.rows]


def _breakdown(kind: str, column: str, keys: Sequence[str], records: Sequence[Record]) -> Breakdown:
    """Rows of one key each; "" is unknown, and in none."""
    found: dict[str, list[Record]] = {}
    for key, record in zip(keys, records, strict=True):
        if key:
            found.setdefault(key, []).append(record)
    return Breakdown(kind, column, [_row(name, found[name], kind) for name in sorted(found, key=natural)])


def _row(name: str, records: list[Record], kind: str) -> Row:
    clusters, scores = [r["cluster"] for r in records], [r["score"] for r in records]
    interval = metrics.cluster_bootstrap(clusters, scores, resamples=1000)
    gold, pred = [r["gold"] for r in records], [r["pred"] for r in records]
    asked_yes_no = kind == "topic" and all(g in ("yes", "no") for g in gold)
    return Row(
        name, len(records), len(set(clusters)), float(np.sort(scores).mean()), interval.low if interval else None,
        interval.high if interval else None, _mean(records, "unparsed"),
        gold.count("yes") / len(gold) if asked_yes_no else None,
        metrics.binary_f1(gold, pred, "yes") if asked_yes_no and "yes" in gold else None,
    )  # fmt: skip


def natural(name: str) -> tuple[str | int, ...]:
    """A key by which 3-9 comes before 10-19."""
    return tuple(int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", name))


def _mean(records: Sequence[Record], name: str) -> float:
    return float(np.mean([r[name] for r in records]))


def _defined(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
