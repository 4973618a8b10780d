"""Parsers on a Ray cluster: tasks go out, rows and PNGs come back, and the one process that writes stays this one."""

from __future__ import annotations

import itertools
import logging
import os
import pickle
from collections.abc import Generator, Iterable
from dataclasses import replace
from typing import Any

from ..errors import FaceError, FaceHostError
from ..maps.extras import install_hint
from ..parsing.base import Parser
from .entries import Cell
from .work import Outcome, Settings, Task, outcomes

BATCHES_A_CALL = 8
"""Parser batches that an actor is sent at once: while one is parsed, the next one is decoded (our default)."""

TASKS_A_ROUND = 100_000
"""Tasks that are handed to Ray at once: a list of ten million would not fit the driver (our default)."""


def ray() -> Any:
    """The module, started if it is not. Raises ``FaceHostError`` naming the extra where it is not installed."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise FaceHostError(f"--engine ray needs Ray: {install_hint('ray')} ({error})") from error
    if not ray.is_initialized():  # the cluster that RAY_ADDRESS names, or this machine
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(log_to_driver=False, include_dashboard=False, logging_level="WARNING")
    return ray


class Segmenter:
    """An actor: one parser, and the same work on each list of tasks as the local engine's."""

    def __init__(self, make_parser: Any, settings: Settings) -> None:
        self.parser: Parser = make_parser()
        self.settings = settings

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """A batch of pickled ``task`` -> one of pickled ``outcome``."""
        tasks = [pickle.loads(task) for task in batch["task"]]
        found = [pickle.dumps(outcome) for outcome in outcomes(tasks, self.parser, self.settings)]
        return {"outcome": found}


class RayEngine:
    """As many actors as the cluster has GPUs for, or CPUs for their threads. Images must be where they are named on
    every node, that is on a shared file system."""

    def __init__(self, make_parser: Any, *, on_gpu: bool, workers: int) -> None:
        """Raises what building the parser raises. It is built on a node that has what it needs, not here."""
        self.make_parser = make_parser
        total = ray().cluster_resources()
        cpus = int(total.get("CPU", 1))
        self.resources: dict[str, float] = {"num_cpus": min(workers, cpus)}
        if on_gpu:
            self.resources["num_gpus"] = 1
            self.actors = int(total.get("GPU", 0))
            if not self.actors:
                raise FaceHostError("--engine ray: the parser's device is cuda, but the Ray cluster has no GPU")
        else:
            self.actors = max(1, cpus // min(workers, cpus))
        ask = ray().remote(_identity).options(**self.resources)
        with _own_errors():
            self.name, self.digest = ray().get(ask.remote(make_parser))

    def outcomes(self, tasks: Iterable[Task], settings: Settings) -> Generator[Outcome, None, None]:
        """See ``work.outcomes``."""
        data = ray().data
        context = data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        tasks = iter(tasks)
        while round_ := list(itertools.islice(tasks, TASKS_A_ROUND)):
            found = data.from_items([{"task": pickle.dumps(_absolute(task))} for task in round_]).map_batches(
                Segmenter,
                fn_constructor_args=(self.make_parser, settings),
                batch_size=BATCHES_A_CALL * settings.images_per_batch,
                compute=data.ActorPoolStrategy(min_size=1, max_size=self.actors),
                **self.resources,
            )
            with _own_errors():
                yield from (pickle.loads(row["outcome"]) for row in found.iter_rows())


def _absolute(task: Task) -> Task:
    """With paths that mean the same to workers, which have another working directory."""
    source = task.entry.source
    if isinstance(source, Cell):
        source = replace(source, file=source.file.absolute(), folder=source.folder.absolute())
    else:
        source = source.absolute()
    return replace(task, entry=replace(task.entry, source=source))


def _identity(make_parser: Any) -> tuple[str, str]:
    parser = make_parser()
    return parser.name, parser.digest


class _own_errors:
    """Raises this package's errors as themselves, not wrapped up in Ray's."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        cause: BaseException | None = error
        while cause is not None:
            inner = getattr(cause, "cause", None) or cause.__cause__
            if isinstance(cause, FaceError) and cause is not error:
                raise cause from None
            cause = inner
