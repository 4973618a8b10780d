"""The tasks of ``eval_tasks/`` as their YAML files say: what a group stands for, and how a task's figures are made.

Read by ourselves, by the rules of lmms-eval's TaskManager (a test compares the two): a report needs no lmms-eval, and
a function is only looked up when it is called for.
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..errors import FaceConfigError, FaceDataError
from ..registry import unknown_name

Aggregation = Callable[[Sequence[Any]], float]
"""The items of all questions of a task -> one figure."""

_SCORING = ("answers/**/*.py", "metrics/**/*.py", "suites/**/*.py", "*scoring*.py", "aggregations.py", "questions.py")
"""What a fix of makes old scores old."""


@dataclass(frozen=True)
class Function:
    """``!function MODULE.NAME``: ``folder/MODULE.py`` if there is one, else an importable module."""

    text: str
    folder: Path

    def load(self) -> Any:
        """Raises ``FaceDataError`` where module or name is not there."""
        module, _, name = self.text.rpartition(".")
        beside = self.folder / f"{module.replace('.', '/')}.py"
        try:
            return getattr(_loaded(beside) if beside.is_file() else importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise FaceDataError(f"{self.folder}: !function {self.text}: {error}") from error


@dataclass(frozen=True)
class Metric:
    """One entry of a task's ``metric_list``."""

    name: str
    source: Function | str
    higher_is_better: bool

    def aggregation(self) -> Aggregation:
        """Raises ``FaceDataError`` for one of lmms-eval's own other than ``mean``."""
        if isinstance(self.source, Function):
            return self.source.load()
        if self.source == "mean":
            return lambda items: float(np.mean(items))
        raise FaceDataError(f"metric {self.name}: aggregation {self.source!r}; only !function and mean are read")


@dataclass(frozen=True)
class Task:
    """A task, from its YAML file with all that this includes."""

    name: str
    alias: str
    version: str
    questions: str
    """Name of its question file, without ``.parquet``: what its ``source.jsonl`` says."""
    metrics: tuple[Metric, ...]
    folder: Path
    """For ``--include_path``: where the search that found it began."""
    digest: str
    """SHA-256 of the YAML files it is made of, the Python files beside it, and the plugin's own that read answers and
    score them: how is asked and scored."""


@dataclass
class TaskIndex:
    """All tasks below some folders."""

    tasks: dict[str, Path] = field(default_factory=dict)
    """Name -> YAML file."""
    groups: dict[str, list[str]] = field(default_factory=dict)
    """Group or tag -> names of tasks, groups and tags."""
    _folders: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def of(cls, folders: Iterable[Path]) -> TaskIndex:
        """Raises ``FaceDataError`` for a folder that is not there, a YAML file that is none, and names used twice."""
        index = cls()
        for folder in folders:
            if not folder.is_dir():
                raise FaceDataError(f"{folder}: no such folder of tasks", "missing")
            for path in _yaml_files(folder):
                index._add(path, folder)
        return index

    def task(self, name: str) -> Task:
        """Raises ``FaceConfigError`` for an unknown name, ``FaceDataError`` for a task that is not one of ours."""
        if name not in self.tasks:
            raise FaceConfigError(unknown_name("task", name, self.tasks))
        path = self.tasks[name]
        config, files = read_config(path)
        metadata = config.get("metadata")
        return Task(
            name, str(config.get("task_alias", name)),
            str(metadata.get("version", "") if isinstance(metadata, dict) else ""),
            _question_file(config, path), _metrics(config, path), self._folders[name],
            _digest([*files, *sorted(path.parent.glob("*.py"))]),
        )  # fmt: skip

    def expand(self, names: Iterable[str]) -> list[str]:
        """Tasks, groups, tags and patterns -> names of tasks, each once, in the order named.

        Raises ``FaceConfigError`` for a name that is none of these, and a pattern that fits nothing.
        """
        known = {**self.tasks, **self.groups}
        out: dict[str, None] = {}
        for name in names:
            found = [name] if name in known else sorted(fnmatch.filter(known, name))
            if not found:
                raise FaceConfigError(unknown_name("task or group", name, known))
            for each in found:
                out.update(dict.fromkeys(self._members(each, ())))
        return list(out)

    def _members(self, name: str, within: tuple[str, ...]) -> Iterator[str]:
        if name in self.tasks:
            yield name
            return
        if name in within or name not in self.groups:
            problem = "contains itself" if name in within else "does not exist"
            raise FaceDataError(f"group {within[-1] if within else name}: {name} {problem}")
        for member in self.groups[name]:
            yield from self._members(member, (*within, name))

    def _add(self, path: Path, folder: Path) -> None:
        # The file alone, without what it includes: so does lmms-eval.
        config = _parsed(path)
        name, group = config.get("task"), config.get("group")
        if isinstance(name, list) and isinstance(group, str):
            self._claim(group, path)
            self.groups[group] = [str(t.get("task", t.get("group")) if isinstance(t, dict) else t) for t in name]
        elif isinstance(name, str):
            self._claim(name, path)
            self.tasks[name], self._folders[name] = path, folder
            tags = config.get("tag") or []
            for tag in [tags] if isinstance(tags, str) else tags:
                self.groups.setdefault(tag, []).append(name)

    def _claim(self, name: str, path: Path) -> None:
        if name in self.tasks or name in self.groups:
            raise FaceDataError(f"{path}: the name {name} is taken (by {self.tasks.get(name, 'a group or tag')})")


def read_config(path: Path) -> tuple[dict[str, Any], list[Path]]:
    """(the file with what it includes, all files read). Raises ``FaceDataError`` naming the file at fault."""
    own = dict(_parsed(path))
    included = own.pop("include", [])
    merged: dict[str, Any] = {}
    files = [path]
    for name in reversed([included] if isinstance(included, str) else included):
        config, more = read_config(path.parent / name)
        merged.update(config)
        files += more
    return {**merged, **own}, files


@lru_cache(maxsize=512)
def _parsed(path: Path) -> dict[str, Any]:
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: Function(str(node.value), path.parent))
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise FaceDataError(f"{path}: not a readable YAML file ({' '.join(str(error).split())})", "format") from error
    if not isinstance(config, dict):
        raise FaceDataError(f"{path}: not a task: a mapping of keys was expected", "format")
    return config


def _yaml_files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in ("__pycache__", ".ipynb_checkpoints"))
        yield from (Path(root) / name for name in sorted(names) if name.endswith(".yaml"))


def _question_file(config: dict[str, Any], path: Path) -> str:
    """What the one row of the task's source file says."""
    try:
        source = path.parent / config["dataset_kwargs"]["data_files"][config["test_split"]]
        return str(json.loads(source.read_text(encoding="utf-8"))["task"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise FaceDataError(
            f"{path}: not a task with a question file: dataset_kwargs.data_files must name a file of one line, "
            f'{{"task": NAME}} ({type(error).__name__}: {error})'
        ) from error


def _metrics(config: dict[str, Any], path: Path) -> tuple[Metric, ...]:
    try:
        return tuple(Metric(m["metric"], m["aggregation"], bool(m["higher_is_better"])) for m in config["metric_list"])
    except (KeyError, TypeError) as error:
        raise FaceDataError(
            f"{path}: every entry of metric_list needs metric, aggregation and higher_is_better"
        ) from error


@lru_cache(maxsize=1)
def scoring_digest() -> str:
    """SHA-256 of this package's files that turn an answer into a figure."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _SCORING for path in here.glob(pattern)}):
        digest.update(f"{path.relative_to(here).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256(scoring_digest().encode())
    for path in files:
        digest.update(f"{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=128)
def _loaded(path: Path) -> Any:
    """A file of Python beside a YAML file; not in ``sys.modules``: many are called ``utils``."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
