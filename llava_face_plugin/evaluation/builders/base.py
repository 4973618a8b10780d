"""What a builder of questions gets, and how its questions become a file."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...data.files import sha256_of
from ...data.manifest import SPLITS, Manifest
from ...errors import FaceDataError
from ...segment.images import Picture, read_file
from ...video.decoders import DECODERS
from ...video.frames import opened
from ...video.limits import check_file
from ..questions import Header, Question, question_path, save_questions

Progress = Callable[[Iterable[Any], str], Iterable[Any]]
"""(what is gone through, what is done with it) -> the same, shown to the user."""


def _silent(what: Iterable[Any], doing: str) -> Iterable[Any]:
    return what


@dataclass
class Source:
    """What questions are made from. ``notes``, ``skipped`` and ``extra`` go into the file's header."""

    root: Path
    """Folder of the images; for a benchmark with files of its own: of these."""
    split: str
    seed: int
    manifest: Manifest | None = None
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """(N,) int64: the rows of the manifest that are asked about."""
    notes: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    extra: dict[str, Any] = field(default_factory=dict)
    sources: list[dict[str, Any]] = field(default_factory=list)
    """Files read: name, sha256."""
    options: dict[str, str] = field(default_factory=dict)
    """All of the benchmark's settings, those that the user set by ``--set`` among them."""

    def the_manifest(self) -> Manifest:
        """Raises ``FaceDataError`` where none was given."""
        if self.manifest is None:
            raise FaceDataError("these questions are made from a manifest: --manifest (`llava-face prepare` writes it)")
        return self.manifest

    def groups(self, row: int) -> dict[str, str]:
        """Column -> group of a row, for every one of the manifest's group columns; "" = unknown."""
        m = self.the_manifest()
        out = {}
        for name in m.groups:
            if name in m.classes:
                code = int(m.labels[name][row])
                out[name] = m.classes[name][code] if code >= 0 else ""
            else:
                code = int(m.attributes[row, m.vocabulary.index(name)])
                out[name] = {1: name, 0: f"not {name}"}.get(code, "")
        return out

    def cluster(self, row: int) -> str:
        """The person, where known, else the image."""
        m = self.the_manifest()
        known = m.identity is not None and m.identity[row] >= 0
        return f"person {m.identity[row]}" if known else str(m.ids[row])  # type: ignore[index]


@dataclass(frozen=True)
class Benchmark:
    """A task that questions can be made for."""

    task: str
    """Name of the task in ``eval_tasks/`` and of the question file."""
    title: str
    questions: Callable[[Source], Iterable[Question]]
    datasets: tuple[str, ...] = ()
    """Data sets of ``llava-face prepare`` whose manifest it reads; none: it reads files of its own below ``--root``."""
    split: str = "test"
    """The split of its protocol."""
    licence: str = ""
    """Of a benchmark with files of its own; others have the data set's."""
    layout: str = ""
    """The files below ``--root`` of a benchmark with files of its own, one a line."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What ``--set`` may change: name -> default. The task's README says what each does."""
    splits: tuple[str, ...] = ("test",)
    """Of a benchmark with files of its own; a manifest has those of ``llava-face prepare``."""

    def source(self, root: Path, split: str, seed: int = 0, settings: Mapping[str, str] | None = None) -> Source:
        """Raises ``FaceDataError`` for a split or a setting that the benchmark does not have."""
        splits = (*SPLITS, "all") if self.datasets else self.splits
        if split not in splits:
            raise FaceDataError(f"split {split!r}; {self.task} has {', '.join(splits)}")
        for name in settings or {}:
            if name not in self.settings:
                raise FaceDataError(f"--set {name}: {self.task} has {', '.join(self.settings) or 'no settings'}")
        return Source(root, split, seed, options={**self.settings, **(settings or {})})


@dataclass(frozen=True)
class BuildOptions:
    """``limit``: images at most, drawn by the seed. ``verify``: decode every image once, and leave out broken ones."""

    split: str | None = None
    seed: int = 0
    limit: int | None = None
    verify: bool = True
    settings: dict[str, str] = field(default_factory=dict)
    progress: Progress = _silent


def build(
    benchmark: Benchmark, root: Path, out: Path, manifest: Path | None = None, options: BuildOptions | None = None
) -> tuple[Path, Header]:
    """Write ``out/<task>.parquet``; returns its path and header.

    Images that are missing or cannot be decoded are left out with all their questions, and counted in the header's
    ``skipped``. Raises ``FaceDataError`` for a manifest that does not fit, and where no question is left.
    """
    options = options or BuildOptions()
    if not root.is_dir():
        raise FaceDataError(f"{root}: no such folder of images", "missing")
    split = options.split or benchmark.split
    source = benchmark.source(root.resolve(), split, options.seed, options.settings)
    licence = benchmark.licence
    if benchmark.datasets:
        licence = _from_manifest(source, benchmark, manifest, options)
    questions = list(options.progress(benchmark.questions(source), f"{benchmark.task}: questions"))
    if options.limit is not None and not benchmark.datasets:
        questions = _limited(source, questions, options.limit)
    if options.verify:
        questions = list(_readable(source, questions, options.progress))
    dataset = source.manifest.dataset if source.manifest is not None else benchmark.task.removeprefix("face_")
    header = Header(
        benchmark.task, dataset, split, options.seed, str(source.root), licence, source.sources, source.notes,
        dict(source.skipped), source.extra,
    )  # fmt: skip
    path = question_path(benchmark.task, out)
    return path, save_questions(path, header, questions)


def _from_manifest(source: Source, benchmark: Benchmark, path: Path | None, options: BuildOptions) -> str:
    """Fills in manifest and rows; returns the licence."""
    from ...data.datasets import DATASETS
    from ...data.manifest_file import load_manifest

    if path is None:
        raise FaceDataError(f"{benchmark.task} is made from a manifest: --manifest (`llava-face prepare` writes it)")
    if path.is_dir():
        path = path / "manifest.parquet"
    source.manifest = m = load_manifest(path)
    if m.dataset not in benchmark.datasets:
        raise FaceDataError(
            f"{path}: manifest of {m.dataset}; {benchmark.task} needs {' or '.join(benchmark.datasets)}"
        )
    source.sources = [{"name": path.name, "sha256": sha256_of(path)}, *m.sources]
    # Such as who was held out: a split is no longer the official one then.
    source.notes += [f"manifest: {note}" for note in m.notes if not note.startswith("licence")]
    wanted = np.ones(len(m), dtype=bool) if source.split == "all" else m.split == SPLITS.index(source.split)
    if source.split != benchmark.split:
        source.notes.append(f"split {source.split}; the benchmark's own is {benchmark.split}: not comparable figures")
    present = wanted if m.present is None else wanted & m.present
    if missing := int((wanted & ~present).sum()):
        source.skipped["no image file"] = missing
        source.notes.append(f"{missing:,} of {int(wanted.sum()):,} images are not here: not the whole benchmark")
    rows = np.flatnonzero(present)
    if not len(rows):
        raise FaceDataError(f"{path}: {_no_image(m, source.split)}", "empty")
    if options.limit is not None and options.limit < len(rows):
        rows = np.sort(np.random.default_rng(options.seed).choice(rows, options.limit, replace=False))
        source.notes.append(
            f"{options.limit} images of the split, drawn by seed {options.seed}: not the whole benchmark"
        )
    source.rows = rows
    return DATASETS[m.dataset].licence if m.dataset in DATASETS else ""


def _no_image(m: Manifest, split: str) -> str:
    here = np.ones(len(m), dtype=bool) if m.present is None else m.present
    counts = {name: int((here & (m.split == code)).sum()) for code, name in enumerate(SPLITS)}
    others = ", ".join(f"{name} has {count:,} (--split {name})" for name, count in counts.items() if count)
    return f"no image of the split {split} is here; {others or 'nor of any other'}"


def _limited(source: Source, questions: list[Question], limit: int) -> list[Question]:
    images = sorted({q.image_id for q in questions})
    if limit >= len(images):
        return questions
    source.notes.append(f"{limit} images by seed {source.seed}: not the whole benchmark")
    kept = set(np.random.default_rng(source.seed).choice(images, limit, replace=False).tolist())
    return [q for q in questions if q.image_id in kept]


def _readable(source: Source, questions: list[Question], progress: Progress) -> Iterator[Question]:
    """The questions whose pictures and clips can all be decoded."""
    files = sorted({name for q in questions for name in (q.images or (q.video,))})
    broken: dict[str, str] = {}
    clips = {q.video for q in questions}
    decodes = any(importlib.util.find_spec(name) is not None for name in DECODERS)
    if not decodes and any(clips):
        source.notes.append("clips were not decoded: neither PyAV nor OpenCV is installed")
    for name in progress(files, "reading the clips" if any(clips) else "reading the images"):
        path = source.root / name
        try:
            if name not in clips:
                Picture(read_file(path), f"image {name}")
            elif decodes or path.is_dir():
                opened(path).times()
            else:
                check_file(path)
        except FaceDataError as error:
            broken[name] = error.reason
            source.skipped[f"{'clip' if name in clips else 'image'} {error.reason}"] += 1
    source.notes.extend(f"left out: {name} ({reason})" for name, reason in sorted(broken.items())[:20])
    return (q for q in questions if not broken.keys() & set(q.images or (q.video,)))
