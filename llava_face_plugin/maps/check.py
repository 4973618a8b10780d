"""Is a map store, or a folder of maps, fit to train on?"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FaceDataError
from ..labels import FACE_PARTS, NO_MAP, NUM_PARTS, SIDES
from .files import IMAGE_SUFFIXES, check_ids, image_size, read_ids, same_aspect
from .rows import SUFFIX, Row, one_line
from .store import INFO, MapStore
from .vocabularies import mean_column

Progress = Callable[[int], None]
CHUNK = 512


@dataclass
class PartCoverage:
    """How much of the maps a part covers."""

    maps: int = 0
    """Maps with at least one pixel of it."""
    share: float = 0.0
    """Its mean share of the pixels over all maps, in [0, 1]."""


@dataclass
class Check:
    """What was found. ``problems`` make the store unfit; the rest is for the reader to judge."""

    maps: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    """Number by kind: no maps, unreadable, ids, size, missing map, missing image, changed image, orphan."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """The first messages of each kind of problem."""
    statuses: Counter[str] = field(default_factory=Counter)
    """store: rows by status (ok, no-face, failed)."""
    reasons: Counter[str] = field(default_factory=Counter)
    """store: failed rows by reason."""
    failures: list[str] = field(default_factory=list)
    """store: reason and message of the first failed rows."""
    coverage: dict[str, PartCoverage] = field(default_factory=dict)
    sizes: Counter[str] = field(default_factory=Counter)
    """Maps by WIDTHxHEIGHT."""
    unknown: int = 0
    """Maps with pixels of id 255."""
    empty: int = 0
    """Maps that are all background."""
    reversed_sides: int = 0
    """Maps in which an ``l_`` part lies to the left of its ``r_`` partner: see ``labels``."""
    images_without_row: int | None = None
    """store, with the image folder: pictures in it that the store has never seen."""
    same_pixels: int = 0
    """store: images whose pixels equal those of another image."""

    @property
    def ok(self) -> bool:
        return not self.problems

    def problem(self, kind: str, message: str, shown: int) -> None:
        """Counts a problem and keeps the first ``shown`` messages of its kind."""
        self.problems[kind] += 1
        if len(self.examples.get(kind, ())) < shown:
            self.examples.setdefault(kind, []).append(one_line(message))

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        # not asdict(): before Python 3.12 it turns a Counter inside out
        return {"ok": self.ok} | vars(self) | {"coverage": {part: vars(c) for part, c in self.coverage.items()}}


@dataclass(frozen=True)
class _Seen:
    """One map, looked at."""

    problem: tuple[str, str] | None = None
    counts: np.ndarray | None = None
    size: tuple[int, int] = (0, 0)
    reversed_sides: bool = False


def check_maps(
    path: str | Path, images: str | Path | None = None, *, workers: int = 4, shown: int = 5,
    progress: Progress | None = None,
) -> Check:  # fmt: skip
    """Reads every map of a store, or of a folder of PNG and ``.npy`` maps.

    ``images`` is the image folder: with it, images that are missing, of another shape, or (store) have changed are
    problems; so is a store without a map. ``shown`` messages are kept of each kind. ``progress`` is told the number of
    maps done. Raises ``FaceDataError`` if there is nothing at ``path``.
    """
    path = Path(path)
    folder = Path(images) if images is not None else None
    if folder is not None and not folder.is_dir():
        raise FaceDataError(f"image folder {folder}: no such folder", "missing")
    found = Check()
    if (path / INFO).is_file():
        work: Iterable[Callable[[], _Seen]] = _store_work(MapStore.open(path), folder, found, shown)
    elif path.is_dir():
        work = _folder_work(path, folder)
    else:
        raise FaceDataError(f"maps {path}: no such folder", "missing")
    shares = np.zeros(256)
    present = np.zeros(256, dtype=np.int64)
    for seen in _in_order(work, workers):
        _add(found, seen, shares, present, shown)
        if progress is not None:
            progress(found.maps)
    if not found.maps:
        found.problem("no maps", f"{path}: there is not one map in it", shown)
    found.coverage = {
        part: PartCoverage(int(present[i]), float(shares[i] / max(found.maps, 1))) for i, part in enumerate(FACE_PARTS)
    }
    return found


def _store_work(store: MapStore, images: Path | None, found: Check, shown: int) -> Iterator[Callable[[], _Seen]]:
    for row in store.rows():
        found.statuses[row.status] += 1
        if row.status == "failed":
            found.reasons[row.reason] += 1
            if len(found.failures) < shown:
                found.failures.append(one_line(f"({row.reason}) {row.message}"))
        if row.status == "ok":
            yield lambda row=row: _look_at_row(store, row, images)  # type: ignore[misc]
    if images is not None:
        pictures = (p for p in images.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        found.images_without_row = sum(store.row(p.relative_to(images).as_posix()) is None for p in pictures)
    keys = store.index.entries["pixels"]
    keys = keys[keys != 0]
    found.same_pixels = len(keys) - len(np.unique(keys))
    for path in (store.path / "maps").rglob(f"*{SUFFIX}"):
        relative = path.relative_to(store.path / "maps").as_posix()
        known = store.row(relative.removesuffix(SUFFIX))
        if known is None or known.status != "ok":
            found.problem("orphan", f"maps/{relative}: no row says that it is a map", shown)


def _look_at_row(store: MapStore, row: Row, images: Path | None) -> _Seen:
    try:
        labels = store.get(row.image)
    except FaceDataError as error:
        return _Seen(("ids" if "unknown part ids" in str(error) else "unreadable", str(error)))
    if labels is None:
        return _Seen(("missing map", f"{row.image}: its row says ok, but the map is not there"))
    if not same_aspect((row.width, row.height), labels.shape[::-1]):
        message = f"{row.image}: map {labels.shape[1]}x{labels.shape[0]}, image {row.width}x{row.height}"
        return _Seen(("size", message))
    if images is not None:
        problem = _image_problem(images / row.image, row.image, (row.width, row.height))
        problem = problem or _change(images / row.image, row)
        if problem is not None:
            return _Seen(problem)
    return _measured(labels)


def _folder_work(folder: Path, images: Path | None) -> Iterator[Callable[[], _Seen]]:
    paths = sorted(p for p in folder.rglob("*") if p.suffix in (".png", ".npy"))
    if not paths:
        raise FaceDataError(f"maps {folder}: neither a map store nor a folder of PNG or .npy maps", "missing")
    by_name = None if images is None else _images_by_name(images)
    for path in paths:
        yield lambda path=path: _look_at_file(folder, path, by_name)  # type: ignore[misc]


def _images_by_name(folder: Path) -> dict[Path, list[Path]]:
    """The images that a map of each name, without the map's own suffix, may be of: with and without theirs."""
    out = defaultdict(list)
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES):
        out[path.relative_to(folder)].append(path)
        out[path.relative_to(folder).with_suffix("")].append(path)
    return out


def _look_at_file(folder: Path, path: Path, by_name: dict[Path, list[Path]] | None) -> _Seen:
    name = path.relative_to(folder)
    try:
        labels = read_ids(path)
    except FaceDataError as error:
        return _Seen(("unreadable", str(error)))
    try:
        check_ids(labels, str(name))
    except FaceDataError as error:
        return _Seen(("ids", str(error)))
    if by_name is not None:
        candidates = by_name.get(name.with_suffix(""), [])  # a.png and a.jpg.png are both maps of a.jpg
        if not candidates:
            return _Seen(("missing image", f"{name}: there is no image of that name"))
        problems = [_image_problem(image, str(name), labels.shape[::-1]) for image in candidates]
        if None not in problems:
            return _Seen(problems[0])
    return _measured(labels)


def _image_problem(image: Path, name: str, size: tuple[int, int]) -> tuple[str, str] | None:
    try:
        actual = image_size(image)
    except FaceDataError as error:
        return "missing image", f"{name}: {error}"
    if not same_aspect(actual, size):
        return "size", f"{name}: the image is {actual[0]}x{actual[1]} now, the map was made for {size[0]}x{size[1]}"
    return None


def _change(image: Path, row: Row) -> tuple[str, str] | None:
    """Whether the image is no longer the one that its map was made of; one of the same size and time is not read."""
    try:
        status = image.stat()
        if status.st_size == row.bytes:
            if status.st_mtime == row.mtime:
                return None
            if hashlib.sha256(image.read_bytes()).hexdigest() == row.sha256:
                return None
    except OSError as error:
        return "missing image", f"{row.image}: cannot be read ({error})"
    return "changed image", f"{row.image}: the image has changed since its map was made; run `llava-face segment` again"


def _measured(labels: np.ndarray) -> _Seen:
    counts = np.bincount(labels.reshape(-1), minlength=256)
    reversed_sides = False
    for left, right in SIDES:
        if counts[left] and counts[right]:
            reversed_sides |= mean_column(labels, left) < mean_column(labels, right)  # type: ignore[operator]
    return _Seen(None, counts, (labels.shape[1], labels.shape[0]), reversed_sides)


def _add(found: Check, seen: _Seen, shares: np.ndarray, present: np.ndarray, shown: int) -> None:
    found.maps += 1
    if seen.counts is None:
        assert seen.problem is not None
        found.problem(*seen.problem, shown)
        return
    shares += seen.counts / max(seen.counts.sum(), 1)
    present += seen.counts > 0
    found.sizes[f"{seen.size[0]}x{seen.size[1]}"] += 1
    found.unknown += bool(seen.counts[NO_MAP])
    found.empty += not seen.counts[1:NUM_PARTS].any()
    found.reversed_sides += seen.reversed_sides


def _in_order(work: Iterable[Callable[[], _Seen]], workers: int) -> Iterator[_Seen]:
    """The results, with ``workers`` threads; a chunk at a time, so that memory does not grow with the store."""
    stream = iter(work)
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        while chunk := list(islice(stream, CHUNK)):
            yield from pool.map(lambda look: look(), chunk)
