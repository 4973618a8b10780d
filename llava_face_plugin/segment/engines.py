"""Where parsers run: in this process, or on a Ray cluster."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Literal, Protocol

from ..errors import FaceHostError
from ..parser_config import ParserConfig
from ..parsing.base import Parser
from .work import Outcome, Settings, Task, outcomes

MakeParser = Callable[[], Parser]


class Engine(Protocol):
    """Where parsers run."""

    name: str
    digest: str

    def outcomes(self, tasks: Iterable[Task], settings: Settings) -> Generator[Outcome, None, None]:
        """One outcome for each task, in any order."""
        ...


class LocalEngine:
    """One parser, in this process."""

    def __init__(self, make_parser: MakeParser) -> None:
        self.parser = make_parser()
        self.name, self.digest = self.parser.name, self.parser.digest

    def outcomes(self, tasks: Iterable[Task], settings: Settings) -> Generator[Outcome, None, None]:
        """See ``work.outcomes``."""
        return outcomes(tasks, self.parser, settings)


def make_engine(parser: ParserConfig | MakeParser, kind: Literal["local", "ray"], workers: int) -> Engine:
    """The engine with its parser; raises what making that raises."""
    on_gpu = False
    if isinstance(parser, ParserConfig):
        from ..parsing.build import build_parser

        on_gpu = parser.device.startswith("cuda")
        parser = functools.partial(build_parser, _absolute(parser))
    if kind == "ray":
        from .ray_engine import RayEngine

        return RayEngine(parser, on_gpu=on_gpu, workers=workers)
    return LocalEngine(parser)


def _absolute(config: ParserConfig) -> ParserConfig:
    """With paths that mean the same to Ray's workers, which have another working directory."""
    given = {key: getattr(config, key) for key in ("path", "detector_path")}
    return config.model_copy(update={key: str(Path(path).absolute()) for key, path in given.items() if path})


def stopping(found: Iterator[Outcome], most: int) -> Iterator[Outcome]:
    """The outcomes; but if the parser fails on ``most`` images in a row with the same error, ``FaceHostError``.

    Failures are held back until it is known: a parser that has ceased to work must not fill the manifest with rows
    that no later run would look at again. What is wrong with an image's own data does not count.
    """
    held: list[Outcome] = []
    for outcome in found:
        by_parser = outcome.fault or (outcome.row is not None and outcome.row.status != "failed")
        if held and by_parser and outcome.fault != held[0].fault:
            yield from held
            held = []
        if not outcome.fault:
            yield outcome
            continue
        held.append(outcome)
        if len(held) >= most:
            assert outcome.row is not None
            raise FaceHostError(
                f"the parser failed on {len(held)} images in a row with the same error, and the run was stopped. These "
                f"failures are not stored: the next run tries the images again. What was finished before is kept. "
                f"(Should the images be at fault, raise --images-per-batch.) The last one: {outcome.row.message}"
            )
    yield from held
