"""Whole data sets become map stores: ``segment``."""

from __future__ import annotations

import functools
import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from ..errors import FaceConfigError
from ..maps.index import Index
from ..maps.lookup import open_maps
from ..maps.rows import Row
from ..maps.shards import pyarrow
from ..maps.store import Format, StoreInfo
from ..parser_config import ParserConfig
from .engines import Engine, MakeParser, make_engine, stopping
from .entries import Entries, find
from .plan import Plan, make_plan
from .target import locked, make_store, overwrite_store, writing
from .work import Settings
from .writers import PngWriter, Writer, open_writer

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and the total."""

SAME_FAULTS = 2
"""Batches on each of whose images the parser fails with the same error before a run is stopped (our default)."""

NAMED_FAILURES = 10
"""Failures that a summary names; all of them are in the manifest."""


@dataclass(frozen=True)
class Options:
    """How a data set is segmented. Defaults are ours."""

    format: Format = "png"
    shard: tuple[int, int] = (1, 1)
    """(i, n): the i-th of n blocks of the list of images, from 1."""
    workers: int = 4
    """Threads that decode and encode."""
    images_per_batch: int = 16
    limit: int | None = None
    """At most so many images, the first ones (of all shards together)."""
    overwrite: bool = False
    retry_failed: bool = False
    max_side: int | None = None
    """Maps are stored scaled down so that their longest side is at most this: smaller and faster to read."""
    engine: Literal["local", "ray"] = "local"
    image_folder: Path | None = None
    image_column: str = "image"
    id_column: str | None = None

    def __post_init__(self) -> None:
        i, n = self.shard
        if not 1 <= i <= n:
            raise FaceConfigError(f"shard {i}/{n}: expected i/n with i from 1 to n")
        for name in ("workers", "images_per_batch", "limit", "max_side"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise FaceConfigError(f"{name} is {value}, expected at least 1")


@dataclass
class Summary:
    """What a run has done."""

    store: Path
    images: int = 0
    """Images in this shard."""
    ok: int = 0
    no_face: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """By reason."""
    there: int = 0
    """Images that were in the store already, and have not changed."""
    failed_before: int = 0
    """Those of them that had failed."""
    seconds: float = 0.0
    """Of the whole run."""
    working: float = 0.0
    """Seconds of it after the parser was loaded and the store looked through."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Reason and message of the first ``NAMED_FAILURES``."""

    @property
    def done(self) -> int:
        """Images that were worked on."""
        return self.ok + self.no_face + self.failed.total()

    @property
    def all_failed(self) -> bool:
        """Whether there are failed images and no others, from this run or before."""
        return bool(self.failed or self.failed_before) and not self.ok + self.no_face + self.there - self.failed_before

    @property
    def rate(self) -> float:
        """Images worked on a second."""
        return self.done / self.working if self.working > 0 else 0.0

    def add(self, row: Row | None) -> None:
        """Counts a row; None is an image that has not changed."""
        if row is None:
            self.there += 1
        elif row.status == "ok":
            self.ok += 1
        elif row.status == "no-face":
            self.no_face += 1
        else:
            self.failed[row.reason] += 1
            if len(self.failures) < NAMED_FAILURES:
                self.failures.append((row.reason, row.message))

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "store": str(self.store), "images": self.images, "ok": self.ok, "no_face": self.no_face,
            "failed": self.failed.total(), "failed_by_reason": dict(sorted(self.failed.items())),
            "already_there": self.there, "failed_before": self.failed_before, "seconds": round(self.seconds, 3),
            "images_per_second": round(self.rate, 2),
            "first_failures": [{"reason": reason, "message": message} for reason, message in self.failures],
        }  # fmt: skip


def segment(
    source: str | Path | Entries,
    out: str | Path,
    parser: ParserConfig | MakeParser,
    options: Options | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Summary:
    """Segments every image of ``source`` (see ``entries.find``) into the map store ``out``.

    ``parser`` is a configuration, or a function that makes a parser (for Ray: one that pickles). What is in the store
    already is not done again, unless the image has changed; an interrupted run is gone on with. Images that cannot be
    read become failed rows.

    Raises ``FaceDataError`` for an input without images, a store of another parser, one that another process is
    writing, or one that cannot be written; ``FaceConfigError`` for options that do not fit; ``FaceHostError`` where
    the parser cannot run, or fails with the same error on ``SAME_FAULTS`` batches in a row.
    """
    options = options or Options()
    out = Path(out)
    started = time.monotonic()
    entries = _block(_find(source, out, options), options)
    if options.format == "parquet":
        pyarrow()  # a missing extra is said before an hour's work
    engine = make_engine(parser, options.engine, options.workers)
    settings_of_parser = parser.model_dump(mode="json") if isinstance(parser, ParserConfig) else {}
    if options.overwrite:
        overwrite_store(out, options.shard)
    make_store(out, StoreInfo(options.format, engine.name, engine.digest, settings_of_parser, options.max_side))
    summary = Summary(out, images=len(entries))
    with locked(out, options.shard) as shard, writing(out, started=True), _quiet_pillow():
        index = Index(out)
        with closing(open_writer(out, options.format, shard, index)) as writer:
            look = functools.partial(progress, "looking")
            adopt = writer.adopt if isinstance(writer, PngWriter) else None
            plan = make_plan(
                entries, out, index, engine.digest, retry_failed=options.retry_failed, adopt=adopt,
                outdated=_outdated(parser), progress=functools.partial(_told_seldom, look, len(entries)),
            )  # fmt: skip
            summary.there, summary.failed_before = plan.there, plan.failed_before
            _work(plan, engine, writer, summary, options, progress)
            writer.finish()
    summary.seconds = time.monotonic() - started
    return summary


def _outdated(parser: ParserConfig | MakeParser) -> Callable[[str, float], bool]:
    """Whether what the parser made of an image has changed since that moment: only stored maps do."""
    if isinstance(parser, ParserConfig) and parser.type == "precomputed":
        assert parser.path is not None  # ParserConfig asks for it
        return open_maps(parser.path).changed_since
    return lambda name, written: False


def _work(plan: Plan, engine: Engine, writer: Writer, summary: Summary, options: Options, progress: Progress) -> None:
    if not plan.todo:
        return
    progress("segmenting", 0, len(plan.todo))
    started = time.monotonic()
    settings = Settings(options.format, options.workers, options.images_per_batch, options.max_side)
    with closing(engine.outcomes(plan.tasks(), settings)) as found:
        for done, outcome in enumerate(stopping(found, SAME_FAULTS * options.images_per_batch), start=1):
            summary.add(None if outcome.row is None else writer.add(outcome.row, outcome.png))
            progress("segmenting", done, len(plan.todo))
    summary.working = time.monotonic() - started


def _find(source: str | Path | Entries, out: Path, options: Options) -> Entries:
    if isinstance(source, Entries):
        return source
    return find(
        source,
        image_folder=options.image_folder,
        image_column=options.image_column,
        id_column=options.id_column,
        leave_out=out,
    )


def _block(entries: Entries, options: Options) -> Entries:
    """The shard's block: all shards together are the first ``limit`` entries, each once."""
    if options.limit is not None:
        entries = entries[: options.limit]
    i, n = options.shard
    return entries[len(entries) * (i - 1) // n : len(entries) * i // n]


def _told_seldom(look: Callable[[int, int], None], total: int, done: int) -> None:
    if done % 1000 == 0 or done == total:
        look(done, total)


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Pillow's remarks on odd files are not shown: each file's row says what matters."""
    log = logging.getLogger("PIL")
    level = log.level
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        log.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            log.setLevel(level)
