"""From images to rows and maps: decoding and encoding in threads, the parser in this one, memory bounded."""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import FaceDataError
from ..labels import NO_MAP
from ..maps.files import check_ids
from ..maps.keys import pixel_key
from ..maps.pngs import encode_map
from ..maps.rows import Row, map_path, one_line
from ..maps.store import Format
from ..parsing.base import Parsed, Parser
from .batches import BatchedParser
from .entries import Cell, Entry
from .images import Picture, file_status, read_file
from .parquet import Reader
from .upright import stored_box, stored_map

PIXELS_AHEAD = 64_000_000
"""Decoded pixels that may wait for the parser, and that a batch may have (our default); a pixel takes 3 bytes."""

LOOKS_UP = "precomputed"
"""The parser that looks maps up by the image's pixels: it must be given those that LLaVA sees, not upright ones."""


@dataclass(frozen=True)
class Task:
    """An image to be segmented, unless its sha256 begins with ``known``: then what the store has of it is right."""

    entry: Entry
    known: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a task: its row and the PNG bytes of its map."""

    row: Row | None
    """None: the image has not changed."""
    png: bytes | None = None
    fault: str = ""
    """What the parser failed with, without the image's name: the same for each image if the parser is at fault."""


@dataclass(frozen=True)
class Settings:
    """What decides how tasks are worked on."""

    format: Format = "png"
    workers: int = 4
    images_per_batch: int = 16
    max_side: int | None = None


@dataclass(frozen=True)
class Loaded:
    """A decoded image on its way to the parser."""

    row: Row
    """All that is known before parsing; its status is provisional."""
    image: Image.Image
    """RGB, upright if ``row.orientation`` is to be undone."""
    upright: bool


def outcomes(tasks: Iterable[Task], parser: Parser, settings: Settings) -> Generator[Outcome, None, None]:
    """One outcome for each task, in no particular order.

    Raises ``FaceHostError`` when memory does not suffice for a batch, and the parser's own ``FaceHostError`` and
    ``FaceConfigError``; what is wrong with single images, or with what the parser says of them, becomes a failed row.
    """
    batched = BatchedParser(parser)
    loader = _Loader(parser)
    pool = ThreadPoolExecutor(max(1, settings.workers), thread_name_prefix="segment")
    finishing: list[Future[Outcome]] = []
    batch: list[Loaded] = []
    try:
        ahead = settings.images_per_batch + settings.workers
        for loaded in _in_advance(pool, loader, tasks, ahead):
            if isinstance(loaded, Outcome):
                yield loaded
                continue
            batch.append(loaded)
            if len(batch) < settings.images_per_batch and sum(map(_pixels, batch)) < PIXELS_AHEAD:
                continue
            # While this batch is parsed, the maps of the last one are encoded.
            parsed = batched.parse(batch)
            yield from (future.result() for future in finishing)
            finishing = [pool.submit(_finish, *pair, settings) for pair in zip(batch, parsed, strict=True)]
            batch = []
        parsed = batched.parse(batch)
        yield from (future.result() for future in finishing)
        yield from (_finish(*pair, settings) for pair in zip(batch, parsed, strict=True))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Loader:
    """Reads and decodes the image of a task; called by several threads."""

    def __init__(self, parser: Parser) -> None:
        self.digest = parser.digest
        self.upright = parser.name != LOOKS_UP
        self.reader = Reader()

    def __call__(self, task: Task) -> Loaded | Outcome:
        entry = task.entry
        row = Row(entry.name, "failed", parser=self.digest)
        try:
            if entry.problem:
                raise FaceDataError(entry.problem, "path")
            row = replace(row, mtime=_mtime(entry))
            data, row = self._content(entry, row)
            if task.known and row.sha256.startswith(task.known):
                return Outcome(None)
            return self._picture(data, row)
        except FaceDataError as error:
            return Outcome(_failed(row, error.reason, str(error)))
        except MemoryError:
            return Outcome(_failed(row, "memory", f"image {entry.name}: not enough memory to decode it"))

    def _content(self, entry: Entry, row: Row) -> tuple[bytes, Row]:
        source = self.reader.content(entry.source) if isinstance(entry.source, Cell) else entry.source
        if source is None:
            raise FaceDataError(f"image {entry.name}: the cell in {entry.file} is empty", "missing")
        data = read_file(source) if isinstance(source, Path) else source
        return data, replace(row, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    def _picture(self, data: bytes, row: Row) -> Loaded:
        picture = Picture(data, f"image {row.image}")
        row = replace(
            row,
            width=picture.seen.width,
            height=picture.seen.height,
            orientation=picture.orientation,
            frames=picture.frames,
            pixel_key=pixel_key(picture.seen),
        )
        return Loaded(row, picture.upright() if self.upright else picture.seen, self.upright)


def _mtime(entry: Entry) -> float:
    return file_status(entry.file).st_mtime


def _in_advance(
    pool: ThreadPoolExecutor, load: _Loader, tasks: Iterable[Task], ahead: int
) -> Iterator[Loaded | Outcome]:
    """Loaded images in the order of the tasks; at most ``ahead`` of them, and few large ones, wait to be taken."""
    tasks = iter(tasks)
    waiting: deque[Future[Loaded | Outcome]] = deque()
    while True:
        while len(waiting) < ahead and sum(_pixels(f.result()) for f in waiting if f.done()) < PIXELS_AHEAD:
            following = list(itertools.islice(tasks, 1))
            if not following:
                break
            waiting.append(pool.submit(load, following[0]))
        if not waiting:
            return
        yield waiting.popleft().result()


def _pixels(loaded: Loaded | Outcome) -> int:
    return loaded.image.width * loaded.image.height if isinstance(loaded, Loaded) else 0


def _finish(loaded: Loaded, parsed: Parsed | Exception, settings: Settings) -> Outcome:
    """The row and the map's PNG of a parsed image."""
    error = parsed
    if not isinstance(parsed, Exception):
        try:
            return _filed(loaded, parsed, settings)
        except Exception as wrong:  # whatever a parser returns
            error = wrong
    told = str(error).split("\n")[0][:300] or "no message"
    row = _failed(loaded.row, "parser", f"image {loaded.row.image}: {type(error).__name__}: {told}")
    # A parser that raises FaceDataError speaks of this image's data, such as its stored map.
    at_fault = error is not parsed or not isinstance(error, FaceDataError)
    return Outcome(row, fault=f"{type(error).__name__}: {told.replace(loaded.row.image, '')}" if at_fault else "")


def _filed(loaded: Loaded, parsed: Parsed, settings: Settings) -> Outcome:
    """Raises ``FaceDataError`` for a map that does not fit its image."""
    row = _with_faces(loaded, parsed)
    labels = parsed.labels
    if labels is None:
        return Outcome(replace(row, status="no-face"))
    expected = (loaded.image.height, loaded.image.width)
    if labels.shape != expected or labels.dtype != np.uint8:
        raise FaceDataError(f"the parser's map is {labels.dtype} {labels.shape}, expected uint8 {expected}")
    check_ids(labels, "the parser's map")
    covered = np.count_nonzero((labels != 0) & (labels != NO_MAP))
    row = replace(row, status="ok", coverage=round(covered / labels.size, 6))
    if settings.format == "png":
        row = replace(row, map=map_path(row.image))
    if loaded.upright:
        labels = stored_map(labels, row.orientation, row.boxes)
    return Outcome(row, encode_map(_limited(labels, settings.max_side), row))


def _with_faces(loaded: Loaded, parsed: Parsed) -> Row:
    """Raises ``FaceDataError`` for numbers that are none."""
    orientation = loaded.row.orientation if loaded.upright else 1
    size = (loaded.row.width, loaded.row.height)
    faces = parsed.faces
    numbers = [float(v) for face in faces for v in (*face.box, face.score, face.confidence)]
    if not np.isfinite(numbers).all():
        raise FaceDataError(f"the parser's boxes or scores are not finite: {numbers}")
    boxes = (stored_box(tuple(map(float, face.box)), orientation, size) for face in faces)  # type: ignore[arg-type]
    return replace(
        loaded.row,
        boxes=tuple(tuple(round(v, 2) for v in box) for box in boxes),
        scores=tuple(round(float(face.score), 4) for face in faces),
        confidences=tuple(round(float(face.confidence), 4) for face in faces),
    )


def _limited(labels: np.ndarray, max_side: int | None) -> np.ndarray:
    """The map scaled down (nearest) so that its longest side is at most ``max_side``."""
    longest = max(labels.shape)
    if max_side is None or longest <= max_side:
        return labels
    height, width = (max(1, round(side * max_side / longest)) for side in labels.shape)
    return np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))


def _failed(row: Row, reason: str, message: str) -> Row:
    return replace(row, status="failed", reason=reason, message=one_line(message))
