"""Result folders: what ``llava-face eval`` keeps of a task, and how it is read back.

``OUT/TASK/`` holds ``run.json`` (what was run on what), ``results.json`` and ``samples.jsonl`` (lmms-eval's own files)
and ``log.txt``. A folder without ``run.json`` is no result.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..data.files import sha256_of
from ..errors import FaceDataError
from .scoring import Record

RUN, RESULTS, SAMPLES, LOG = "run.json", "results.json", "samples.jsonl", "log.txt"
_TEXTS = ("question_id", "image_id", "cluster", "topic")
_SHARES = ("unparsed", "refused")
_HUGE = 1e300


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class QuestionsInfo(_Strict):
    """The question file of a run."""

    task: str
    path: str
    dataset: str
    split: str
    seed: int
    rows: int
    digest: str
    image_root: str = ""
    """Absolute folder that the images were read from: the file's own, or ``FACE_EVAL_ROOT``."""
    licence: str = ""
    notes: list[str] = []


class ModelInfo(_Strict):
    """What was asked. Two of these that are equal are the same model with the same weights, as far as names, sizes and
    times of local files tell; what is loaded from a hub's cache is known by its name alone."""

    runner: str
    """Name of the lmms-eval model."""
    path: str = ""
    """Absolute model directory; "" for a model without one."""
    args: str = ""
    """The user's model arguments."""
    config_sha256: str = ""
    files_sha256: str = ""
    """Of names, sizes and times of all files in the directory and below it, in the directories that ``args`` name
    (``model_base=DIR``), and of what their ``config.json`` names on this machine (vision tower, maps, parser): new
    weights under an old name are another model."""


class RunInfo(_Strict):
    """``run.json``."""

    format: Literal[1] = 1
    task: str
    task_version: str
    task_digest: str
    """``task_index.Task.digest``."""
    device: str = ""
    """As the user gave it; "" for the runner's own choice."""
    device_type: str = ""
    """Where the model ran: cpu, cuda ...; "" where only the runner knows. The dtype follows it."""
    questions: QuestionsInfo
    model: ModelInfo
    limit: int | None
    """Questions at most; None: all. With a limit the figures are no result."""
    samples: int = Field(ge=1)
    command: list[str]
    versions: dict[str, str]
    started: str
    """UTC, ISO 8601."""
    seconds: float
    files: dict[str, str]
    """Name -> SHA-256 of ``results.json`` and ``samples.jsonl``."""


@dataclass(frozen=True)
class Output:
    """lmms-eval's two files of one task."""

    figures: dict[str, float]
    """Metric -> lmms-eval's aggregate; NaN where it is undefined."""
    items: dict[str, list[Any]]
    """Metric -> its items in the order of ``records``."""
    main: str
    """The metric whose items are the records."""
    records: list[Record]
    """By question id, each once: the order of lmms-eval's file is another under torchrun."""


@dataclass(frozen=True)
class TaskResult:
    """One task of one result folder."""

    folder: Path
    info: RunInfo
    output: Output


def result_folders(out: Path) -> list[Path]:
    """The folders of ``out`` that hold a task's results, by name. Raises ``FaceDataError`` where ``out`` is none."""
    if not out.is_dir():
        raise FaceDataError(f"{out}: no such folder of results", "missing")
    # A run that was killed leaves a folder that begins with a dot.
    return sorted(path.parent for path in out.glob(f"*/{RUN}") if not path.parent.name.startswith("."))


def read_run(folder: Path) -> RunInfo:
    """Raises ``FaceDataError`` for a ``run.json`` that is missing or not of this format."""
    path = folder / RUN
    try:
        return RunInfo.model_validate_json(_text(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise FaceDataError(f"{path}: {where}: {first['msg']}", "format") from error


def read_result(folder: Path) -> TaskResult:
    """Raises ``FaceDataError`` naming file and line for anything that is not as ``llava-face eval`` wrote it."""
    info = read_run(folder)
    output = read_output(folder / RESULTS, folder / SAMPLES, info.task)
    if len(output.records) != info.samples:
        raise FaceDataError(f"{folder / SAMPLES}: {len(output.records)} samples; {RUN} says {info.samples}", "damaged")
    for name in (RESULTS, SAMPLES):
        if info.files.get(name) != sha256_of(folder / name):
            raise FaceDataError(f"{folder / name}: changed since the run: another SHA-256 than in {RUN}", "damaged")
    return TaskResult(folder, info, output)


def read_output(results: Path, samples: Path, task: str) -> Output:
    """Read lmms-eval's files of a task. Raises ``FaceDataError`` naming file and line."""
    figures = _figures(results, task)
    rows: dict[str, dict[str, Any]] = {}
    main, shared = None, _Shared()
    for where, line in _lines(samples):
        main = main or _main(where, line, figures)
        record = _checked(where, line.get(main))
        row = {name: shared.of(line[name]) for name in figures if name in line and name != main}
        row[main] = {name: shared.of(value) for name, value in record.items()}
        if rows.setdefault(record["question_id"], row) is not row:
            raise FaceDataError(f"{where}: question {record['question_id']!r} occurs twice", "damaged")
    if main is None:
        raise FaceDataError(f"{samples}: no sample", "empty")
    ordered = [rows[key] for key in sorted(rows)]
    items = {name: [row[name] for row in ordered if name in row] for name in figures}
    return Output(figures, items, main, items[main])


class _Shared:
    """One object for all equal values: of a million samples most items recur. Lists become tuples, which can be keys,
    as aggregations were given them."""

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

    def of(self, value: Any) -> Any:
        """``value``, or what it is equal to."""
        if isinstance(value, list):
            parts = tuple(map(self.of, value))
            return self._known.setdefault((tuple, *map(_key, parts)), parts)
        if isinstance(value, dict):
            made = {name: self.of(part) for name, part in value.items()}
            return self._known.setdefault((dict, *((name, _key(part)) for name, part in made.items())), made)
        return self._known.setdefault(_key(value), value)


def _key(value: Any) -> Any:
    """By type, for 1 equals 1.0 and True; what is shared already is known by its place."""
    return id(value) if isinstance(value, (tuple, dict)) else (type(value), value)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise FaceDataError(f"{path}: no such file", "missing") from error
    except (OSError, UnicodeDecodeError) as error:
        raise FaceDataError(f"{path}: cannot be read ({error})", "damaged") from error


def _figures(path: Path, task: str) -> dict[str, float]:
    """lmms-eval's keys are ``METRIC,FILTER``; no task of ours has a filter."""
    try:
        values = json.loads(_text(path))
        listed = values["results"][task]
        figures = {
            key.removesuffix(",none"): value
            for key, value in listed.items()
            if key.endswith(",none") and "_stderr" not in key
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else repr(error)
        raise FaceDataError(f"{path}: no results of {task} of lmms-eval ({problem})", "format") from error
    for name, value in figures.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > _HUGE:
            raise FaceDataError(f"{path}: {task}: {name} is {value!r:.60}; expected a number", "format")
    return {name: float(value) for name, value in figures.items()}


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file:line, object) of each line."""
    try:
        with open(path, encoding="utf-8", newline="\n") as stream:
            for number, line in enumerate(stream, 1):
                where = f"{path}:{number}"
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise FaceDataError(f"{where}: not JSON ({error})", "damaged") from error
                if not isinstance(row, dict):
                    raise FaceDataError(f"{where}: not a sample of lmms-eval", "format")
                yield where, row
    except FileNotFoundError as error:
        raise FaceDataError(f"{path}: no such file", "missing") from error
    except (OSError, UnicodeDecodeError) as error:
        raise FaceDataError(f"{path}: cannot be read ({error})", "damaged") from error


def _main(where: str, row: dict[str, Any], figures: dict[str, float]) -> str:
    """The metric that was handed whole records."""
    for name in row:
        if name in figures and isinstance(row[name], dict) and "question_id" in row[name]:
            return name
    raise FaceDataError(f"{where}: no metric has records: not a sample of a face task", "format")


def _checked(where: str, record: Any) -> Record:
    if not isinstance(record, dict):
        raise FaceDataError(f"{where}: no record of the question under the main metric", "format")
    for name in _TEXTS:
        if not _is_text(record.get(name)):
            raise FaceDataError(f"{where}: {name} is {record.get(name)!r:.60}; expected text", "format")
    for name in ("score", *_SHARES):
        value = record.get(name)
        # Bounded, for a JSON integer can be too large for a float.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _HUGE:
            raise FaceDataError(f"{where}: {name} is {value!r:.60}; expected a finite number", "format")
        if name in _SHARES and not 0 <= value <= 1:
            raise FaceDataError(f"{where}: {name} is {value}; expected 0 to 1", "format")
    groups = record.get("groups")
    if not isinstance(groups, dict) or not all(map(_is_text, (*groups, *groups.values()))):
        raise FaceDataError(f"{where}: groups is {groups!r:.60}; expected names of groups by column", "format")
    if missing := [name for name in ("gold", "pred") if name not in record]:
        raise FaceDataError(f"{where}: the record has no {missing[0]}", "format")
    return record


def _is_text(value: Any) -> bool:
    """Text that can be written again: JSON can hold half a character."""
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value))
