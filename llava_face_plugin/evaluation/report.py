"""``llava-face report``: result folders -> report.json, report.md, report.html and plots. Never a picture of a face."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import FaceConfigError, FaceDataError
from ..maps.files import atomic_path
from .compare import Comparison, compare, unlike
from .results import RunInfo, read_result, result_folders
from .summary import Summary, summarise
from .task_index import TaskIndex

FORMAT = 1
NOTES = (
    "Scores are shares in 0 to 1. An answer that cannot be read is wrong. Intervals: 95 %, bootstrap over clusters "
    "(the person where known, else the image).",
    "Groups are as the data set's annotators named them; one with fewer than 20 clusters counts neither for the worst "
    "group nor for the gap.",
    "Comparisons are paired by question, so they are of what one question scores: its accuracy, F1 or ROUGE, of an "
    "age its error in years (below 0 the second model is better). Of similarities that is the accuracy at a threshold "
    "of 50, not the equal error rate; of consistency the accuracy, not the broken rules. p: two-sided, swapping the "
    "models' answers on whole clusters; Holm: the same, corrected over the tasks of that pair of models (Holm 1979).",
)


@dataclass(frozen=True)
class Aggregate:
    """The unweighted mean of a group's tasks: every task counts the same, however many questions it has."""

    group: str
    main: str
    score: float | None
    """None: the group's tasks are not all there, or have no common main metric."""
    tasks: list[str]
    missing: list[str] = field(default_factory=list)
    """Tasks of the group without results here."""
    why_not: str = ""
    limited: bool = False


@dataclass(frozen=True)
class ModelReport:
    """One model: one result folder."""

    name: str
    folder: str
    summaries: list[Summary]
    aggregates: list[Aggregate]


@dataclass(frozen=True)
class Report:
    """All models, and every other one compared with the first."""

    models: list[ModelReport]
    comparisons: list[Comparison]
    notes: list[str]


def make_report(
    folders: Sequence[Path],
    names: Sequence[str] | None,
    index: TaskIndex,
    progress: Callable[[Iterable[Any], str], Iterable[Any]] = lambda what, doing: what,
) -> Report:
    """Read, check and summarise. Raises ``FaceDataError`` for the first thing that is wrong (see ``results``,
    ``summary`` and ``compare``), ``FaceConfigError`` for names that do not fit."""
    titles = _names(folders, names)
    read = [[read_result(f) for f in progress(_results_of(folder), f"reading {folder}")] for folder in folders]
    models = []
    for title, folder, results in zip(titles, folders, read, strict=True):
        if len({json.dumps(r.info.model.model_dump()) for r in results}) > 1:
            raise FaceDataError(f"{folder}: results of several models; each needs a folder of its own")
        summaries = [summarise(r, index.task(r.info.task)) for r in progress(results, f"figures of {title}")]
        models.append(ModelReport(title, str(folder), summaries, aggregates(summaries, index)))
    notes, comparisons = list(NOTES), []
    for title, results in zip(titles[1:], read[1:], strict=True):
        found, alone = compare((titles[0], read[0]), (title, results))
        if different := unlike(read[0], results):
            notes.append(f"{titles[0]} and {title} differ in more than the model: {'; '.join(different)}.")
        comparisons += found
        if alone:
            notes.append(f"Not compared, for only one of {titles[0]} and {title} has them: {', '.join(alone)}.")
    return Report(models, comparisons, notes)


def aggregates(summaries: Sequence[Summary], index: TaskIndex) -> list[Aggregate]:
    """Of each group and tag that has two tasks or more here; without a figure where others of its tasks are missing."""
    there = {s.task: s for s in summaries}
    out = []
    for group in sorted(index.groups):
        tasks = index.expand([group])
        found = [there[t] for t in tasks if t in there]
        if len(found) < 2:
            continue
        missing, mains = [t for t in tasks if t not in there], sorted({s.main for s in found})
        limited = any(s.limit is not None for s in found)
        if missing or len(mains) > 1:
            why = f"not there: {', '.join(missing)}" if missing else f"different main metrics: {', '.join(mains)}"
            out.append(Aggregate(group, "", None, tasks, missing, why, limited))
        else:
            mean = sum(s.score for s in found) / len(found)
            out.append(Aggregate(group, mains[0], None if math.isnan(mean) else mean, tasks, limited=limited))
    return out


def write_report(report: Report, out: Path, plots: bool = True) -> list[Path]:
    """Write the report into ``out``; returns the files. Plots need the extra ``plots`` (``FaceHostError``)."""
    from .report_html import page
    from .report_markdown import markdown
    from .report_plots import draw

    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / "plots", ignore_errors=True)  # those of an earlier report would be taken for this one's
    pictures = draw(report, out / "plots") if plots else {}
    texts = {
        "report.json": json.dumps(_plain(as_json(report)), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "report.md": markdown(report),
        "report.html": page(report, pictures),
    }
    for name, text in texts.items():
        with atomic_path(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [*(out / name for name in texts), *pictures.values()]


def as_json(report: Report) -> dict[str, Any]:
    """Everything in the report. NaN becomes None when it is written."""
    return {"format": FORMAT, "created_by": f"llava_face_plugin {__version__}", **asdict(report)}


def _results_of(folder: Path) -> list[Path]:
    found = result_folders(folder)
    if not found:
        raise FaceDataError(f"{folder}: no results in it; `llava-face eval --out` names such a folder", "empty")
    return found


def _names(folders: Sequence[Path], names: Sequence[str] | None) -> list[str]:
    titles = list(names) if names else [folder.resolve().name for folder in folders]
    if len(titles) != len(folders):
        raise FaceConfigError(f"{len(titles)} names for {len(folders)} result folders")
    if len(set(titles)) < len(titles) or not all(titles):
        raise FaceConfigError(f"the models' names are {', '.join(titles)}: --names must tell them apart")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise FaceConfigError("a result folder is named twice")
    return titles


def _plain(value: Any) -> Any:
    if isinstance(value, RunInfo):
        return value.model_dump()
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
