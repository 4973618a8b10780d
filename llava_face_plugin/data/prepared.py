"""What a prepared data set consists of, and the files all data sets write alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FaceDataError
from ..maps.files import atomic_path
from ..parsing.precomputed import index
from .conversations import Sample, closed_questions, question_rows, text_only_rows

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)``."""


@dataclass
class Prepared:
    """The outcome of preparing a data set.

    ``labels``: split -> (N, A) int8 of 0, 1 and -1 (unknown), in the order of ``vocabulary``: what knowledge
    is counted from, so for CelebA *all* official rows of the split, with or without an image. ``rows``:
    split -> number of samples written. ``skipped``: reason -> number. ``files``: what was written, by kind.
    ``notes``: sentences the user should read. ``rules``: name of the built-in rules that fit the vocabulary.
    """

    out: Path
    vocabulary: tuple[str, ...]
    labels: dict[str, np.ndarray]
    rows: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    image_folder: Path = Path(".")
    rules: str = "celeba"
    notes: list[str] = field(default_factory=list)

    def skip(self, reason: str, n: int = 1) -> None:
        """Count ``n`` skipped samples."""
        if n:
            self.skipped[reason] = self.skipped.get(reason, 0) + n


def attributes_of(row: np.ndarray, vocabulary: Sequence[str]) -> dict[str, int]:
    """The known attributes (not -1) of one (A,) label row, by name."""
    return {a: v for a, v in zip(vocabulary, row.tolist(), strict=True) if v >= 0}


def write_training(
    prepared: Prepared,
    samples: Iterable[Sample],
    *,
    split: str = "train",
    k: int = 4,
    seed: int = 0,
    text_only: int = 0,
) -> None:
    """Write ``<split>.json`` for LLaVA's ``--data_path``; samples without a known attribute are skipped."""
    path = prepared.out / f"{split}.json"
    written = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal written
        for sample in samples:
            row = closed_questions(sample, k=k, seed=seed)
            if row is None:
                prepared.skip("no known attribute")
                continue
            written += 1
            yield row
        yield from text_only_rows(text_only, seed=seed)

    # One sample a line: the file stays greppable, and 160,000 rows never lie in memory together.
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        separator = "[\n"
        for row in rows():
            stream.write(separator + json.dumps(row, ensure_ascii=False))
            separator = ",\n"
        stream.write("[]\n" if separator == "[\n" else "\n]\n")
    prepared.rows[split] = written
    if text_only:
        prepared.rows[f"{split} (text only)"] = text_only
    prepared.files[split] = path


def write_questions(
    prepared: Prepared, samples: Iterable[Sample], *, split: str = "val", k: int | None = None, seed: int = 0
) -> None:
    """Write ``<split>_questions.jsonl`` for upstream's ``model_vqa_loader.py --question-file``."""
    path = prepared.out / f"{split}_questions.jsonl"
    n = 0
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        for row in question_rows(samples, k=k, seed=seed):
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            n += 1
    prepared.rows[f"{split} questions"] = n
    prepared.files[f"{split} questions"] = path


def write_knowledge(
    prepared: Prepared,
    dataset: str,
    *,
    split: str = "train",
    rules: str | None = None,
    max_rate: float = 0.02,
    source: Path | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Path:
    """Count ``prepared.labels[split]`` into ``<dataset>.knowledge.safetensors``; returns its path.

    ``rules`` is a built-in name or a YAML file (default: ``prepared.rules``); rules that more than
    ``max_rate`` of the rows break are dropped. ``source`` is the label file whose sha256 is noted.
    """
    from ..knowledge.file import Knowledge
    from ..knowledge.rules import load_rules

    labels = prepared.labels[split]
    header: dict[str, Any] = {"dataset": dataset, "split": split}
    if source is not None:
        header["label_file"] = {"name": source.name, "sha256": sha256_of(source)}
    header.update(meta or {})
    built = Knowledge.build(
        prepared.vocabulary, [labels], load_rules(rules or prepared.rules), max_rate=max_rate, meta=header
    )
    path = prepared.out / f"{dataset}.knowledge.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    built.save(path)
    prepared.files["knowledge"] = path
    return path


def sha256_of(path: Path) -> str:
    """sha256 (hex) of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def within(path: Path, folder: Path) -> str:
    """``path`` relative to ``folder`` with forward slashes; absolute if it lies elsewhere.

    An absolute path works under any ``--image_folder``: ``os.path.join`` drops what precedes it.
    """
    path, folder = path.resolve(), folder.resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def existing_folder(path: Path, what: str) -> Path:
    """``path``, if it is a folder; otherwise ``FaceDataError`` that names what is missing."""
    if not path.is_dir():
        raise FaceDataError(f"{what}: no such folder: {path}")
    return path


def write_index(prepared: Prepared, samples: Iterable[Sample], progress: Progress | None = None) -> None:
    """Write ``index.json``, by which ``PrecomputedParser`` finds the maps of these samples at inference."""
    folder = prepared.image_folder
    pairs = [(folder / s.image, folder / s.face_map) for s in samples if s.face_map is not None]

    def report(done: int) -> None:
        if progress is not None:
            progress("indexing maps", done, len(pairs))

    written = index(pairs, prepared.out, progress=report)
    prepared.files["map index"] = written.path
    if written.duplicates:
        prepared.notes.append(f"{written.duplicates} images have the pixels of another one: the first map counts")
