"""``llava-face eval``: one process of lmms-eval a task, its output checked, kept whole or not at all.

lmms-eval 0.7.3 exits with 0 after an error and cannot tell one set of questions from another. So a result counts only
if it holds this task and each of its questions once; ``run.json`` then says what was asked of which model.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from .. import __version__
from ..data.files import sha256_of
from ..errors import FaceConfigError, FaceDataError, FaceError
from . import lmms_process
from .lmms_process import Model, Settings
from .questions import Header, load_questions, question_path
from .results import (
    LOG,
    RESULTS,
    RUN,
    SAMPLES,
    ModelInfo,
    QuestionsInfo,
    RunInfo,
    read_output,
    read_run,
    result_folders,
)
from .scoring import ROOT_ENV
from .task_index import Task, TaskIndex
from .working_folders import clear_stale, swap, working_folder

Command = Callable[[Model, Settings, str, Path, Path], list[str]]
"""(model, settings, task, folder of tasks, folder to write to) -> what to start."""


class Display(Protocol):
    """What the user sees."""

    def start(self, task: str, total: int) -> None: ...

    def answered(self, count: int) -> None: ...

    def end(self, task: str, message: str, failed: bool) -> None: ...


@dataclass(frozen=True)
class Job:
    """A task and its questions."""

    task: Task
    path: Path
    """The question file."""
    header: Header
    asked: tuple[str, ...]
    """Ids of the questions that must come out, each once."""


@dataclass
class Outcome:
    """Names of tasks; of those that failed, why."""

    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """Already there."""
    failed: dict[str, str] = field(default_factory=dict)
    logs: list[Path] = field(default_factory=list)
    """Of those that failed."""


def plan(index: TaskIndex, names: Sequence[str], questions: Path | None, limit: int | None) -> list[Job]:
    """Expand ``names`` and read every question file. Raises one ``FaceDataError`` naming all that cannot be asked."""
    if not names:
        raise FaceConfigError("no task named; `llava-face questions --list` shows them")
    jobs, problems = [], []
    for name in index.expand(names):
        task = index.task(name)
        try:
            jobs.append(_job(task, question_path(task.questions, questions), limit))
        except FaceDataError as error:
            problems.append(f"{name}: {error}")
    if problems:
        head = f"{len(problems)} of {len(problems) + len(jobs)} tasks cannot be asked:"
        raise FaceDataError("\n  ".join([head, *problems]), "missing")
    return jobs


def evaluate(
    jobs: Sequence[Job],
    model: Model,
    out: Path,
    settings: Settings,
    display: Display,
    *,
    resume: bool = True,
    command: Command = lmms_process.command,
) -> Outcome:
    """Run the jobs one after the other; a failure is noted, and the others are run.

    ``command`` is for tests. Raises ``FaceConfigError`` for settings that cannot work and where ``out`` holds results
    of another model.
    """
    lmms_process.check(model, settings, out)
    asked = lmms_process.model_info(model, out)
    _same_model(out, asked)
    clear_stale(out, [job.task.name for job in jobs])
    outcome = Outcome()
    for job in jobs:
        name = job.task.name
        again = ""
        if resume and (out / name / RUN).is_file():
            if not (differing := _differing(out / name, job, model, settings)):
                outcome.kept.append(name)
                display.end(name, f"already there: {len(job.asked):,} questions", False)
                continue
            again = f" (again: other {', '.join(differing)} than in {out / name})"
        display.start(name, len(job.asked))
        began = time.monotonic()
        try:
            _run(job, model, asked, out, settings, command, display)
        except (FaceError, OSError) as error:
            outcome.failed[name] = str(error)
            outcome.logs += [log for log in [_failed_log(out, name)] if log.is_file()]
            display.end(name, str(error), True)
        else:
            outcome.done.append(name)
            display.end(name, f"{len(job.asked):,} questions in {time.monotonic() - began:.0f} s{again}", False)
    return outcome


def versions() -> dict[str, str]:
    """Of what can change an answer or a figure."""
    out = {"python": ".".join(map(str, sys.version_info[:3])), "llava_face_plugin": __version__}
    for name in ("lmms-eval", "torch", "transformers", "numpy"):
        try:
            out[name.replace("-", "_")] = version(name)
        except PackageNotFoundError:
            out[name.replace("-", "_")] = ""
    return out


def _job(task: Task, path: Path, limit: int | None) -> Job:
    header, table = load_questions(path)
    if header.task != task.questions:
        raise FaceDataError(f"{path}: holds the questions of {header.task}, not of {task.questions}")
    return Job(task, path, header, tuple(table.column("question_id").to_pylist()[:limit]))


def _same_model(out: Path, asked: ModelInfo) -> None:
    for folder in result_folders(out) if out.is_dir() else []:
        there = read_run(folder).model
        if there != asked:
            differing = [name for name in ModelInfo.model_fields if getattr(there, name) != getattr(asked, name)]
            raise FaceConfigError(
                f"{folder} holds results of another model ({there.runner} {there.path or there.args}; other "
                f"{', '.join(differing)}): give each model an --out of its own, or remove that folder"
            )


def _differing(folder: Path, job: Job, model: Model, settings: Settings) -> list[str]:
    """What of the results in ``folder`` is not as it would be now. (That the model is the same was checked.)"""
    info = read_run(folder)
    same = {
        "task or scoring": info.task_digest == job.task.digest,
        "questions": info.questions.digest == job.header.digest,
        "image root": info.questions.image_root == image_root(job.header),
        "limit": info.limit == settings.limit,
        "device": info.device_type == _device_type(model, settings),
        "versions": info.versions == versions(),
    }
    for name in (RESULTS, SAMPLES):
        path = folder / name
        same[f"{name} (by its SHA-256)"] = path.is_file() and info.files.get(name) == sha256_of(path)
    return [what for what, equal in same.items() if not equal]


def image_root(header: Header) -> str:
    """The absolute folder that ``scoring.docs`` takes the images from, with links followed; "" for none."""
    root = os.environ.get(ROOT_ENV) or header.image_root
    return str(Path(root).resolve()) if root else ""


def _device_type(model: Model, settings: Settings) -> str:
    """cuda:0 and cuda:1 answer alike; cpu and cuda do not."""
    return (model.device(settings.device) or "").partition(":")[0]


def _run(
    job: Job, model: Model, asked: ModelInfo, out: Path, settings: Settings, command: Command, display: Display
) -> None:
    """Raises ``FaceDataError`` with what went wrong and where the log then lies."""
    name = job.task.name
    out.mkdir(parents=True, exist_ok=True)
    failed_log = _failed_log(out, name)
    failed_log.unlink(missing_ok=True)
    with working_folder(out, name) as work:
        raw = work / "raw"
        line = command(model, settings, name, job.task.folder.resolve(), raw)
        started, began = datetime.now(timezone.utc), time.monotonic()
        status = lmms_process.run(line, work / LOG, lmms_process.environment(job.path.parent), display.answered)
        try:
            samples = _collect(job, raw, work, status)
        except FaceDataError as error:
            shutil.copyfile(work / LOG, failed_log)
            # The working folder goes: no message may send the user there.
            raise FaceDataError(f"{error}\n  log: {failed_log}".replace(f"{work}/", ""), error.reason) from error
        h = job.header
        shown = [str(out / name) if text == str(raw) else text for text in line]  # the working folder is gone by then
        info = RunInfo(
            task=name, task_version=job.task.version, task_digest=job.task.digest,
            questions=QuestionsInfo(
                task=h.task, path=str(job.path.resolve()), dataset=h.dataset, split=h.split, seed=h.seed, rows=h.rows,
                digest=h.digest, image_root=image_root(h), licence=h.licence, notes=h.notes,
            ),
            device=settings.device or "", device_type=_device_type(model, settings),
            model=asked, limit=settings.limit, samples=samples, command=shown, versions=versions(),
            started=started.isoformat(timespec="seconds"), seconds=round(time.monotonic() - began, 1),
            files={name: sha256_of(work / name) for name in (RESULTS, SAMPLES)},
        )  # fmt: skip
        (work / RUN).write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(raw)
        swap(work, out / name)


def _collect(job: Job, raw: Path, work: Path, status: int) -> int:
    """Moves lmms-eval's two files to ``work`` and checks them; the number of samples."""
    name = job.task.name
    results, samples = list(raw.rglob("*_results.json")), list(raw.rglob(f"*_samples_{name}.jsonl"))
    if status or len(results) != 1 or len(samples) != 1:
        ended = f"lmms-eval ended with status {status}" if status else "lmms-eval wrote no results (and exited with 0)"
        raise FaceDataError(f"{ended}: {lmms_process.what_went_wrong(work / LOG)}", "missing")
    if errors := lmms_process.unanswered(work / LOG):
        # Each of these was answered "" and scored as wrong: that is no answer of the model's.
        raise FaceDataError(
            f"the runner failed at {len(errors):,} of {len(job.asked):,} questions and went on with "
            f"empty answers; the first: {errors[0]}"
        )
    results[0].replace(work / RESULTS)
    samples[0].replace(work / SAMPLES)
    output = read_output(work / RESULTS, work / SAMPLES, name)
    answered, asked = {r["question_id"] for r in output.records}, set(job.asked)
    if missing := sorted(asked - answered):
        raise FaceDataError(f"{len(missing):,} of {len(asked):,} questions have no sample, such as {missing[0]!r}")
    if unknown := sorted(answered - asked):
        raise FaceDataError(f"{len(unknown):,} samples are of no question asked, such as {unknown[0]!r}")
    if load_questions(job.path)[0].digest != job.header.digest:
        raise FaceDataError(f"{job.path}: changed while the task ran")
    return len(output.records)


def _failed_log(out: Path, name: str) -> Path:
    return out / f"{name}.log"


def counted(outcome: Outcome) -> str:
    """The last line for the user."""
    return f"{len(outcome.done)} run, {len(outcome.kept)} already there, {len(outcome.failed)} failed"
