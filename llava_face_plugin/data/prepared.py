"""What a prepared data set consists of, and the files all data sets write alike."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..maps.files import atomic_path
from ..parsing.precomputed import index
from .conversations import Plan, Sample, choice_rows, conversations, question_rows, text_only_rows
from .datasets.base import Progress

if TYPE_CHECKING:
    from ..rulebook import Rule
    from .manifest import Manifest

__all__ = [
    "Prepared", "Progress", "attributes_of", "note_removed", "remove_outputs", "write_choices", "write_conversations",
    "write_index", "write_json", "write_knowledge", "write_questions", "write_training",
]  # fmt: skip


@dataclass
class Prepared:
    """The outcome of preparing a data set.

    ``labels``: split -> (N, A) int8 of 0, 1 and -1 (unknown), in the order of ``vocabulary``: what knowledge
    is counted from, so *all* rows of the manifest's split, with or without an image, but for persons who are in a
    later split too. ``rows``:
    split -> number of samples written. ``skipped``: reason -> number. ``files``: what was written, by kind.
    ``notes``: sentences the user should read. ``rules``: name of the built-in rules that fit the vocabulary.
    ``manifest``: the table behind it, but for made faces.
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
    manifest: Manifest | None = None

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
    """``write_conversations`` of plainly worded yes/no questions."""
    plan = Plan(k=k, seed=seed, varied=False)
    write_conversations(prepared, samples, plan, split=split, text_only=text_only)


def write_conversations(
    prepared: Prepared, samples: Iterable[Sample], plan: Plan, *, split: str = "train", text_only: int = 0
) -> None:
    """Write ``<split>.json`` for LLaVA's ``--data_path``; samples of which too little is known are skipped."""
    written: Counter[str] = Counter()

    def rows() -> Iterator[dict[str, Any]]:
        for sample in samples:
            before = written.total()
            for style, row in conversations(sample, plan):
                written[style] += 1
                yield row
            if written.total() == before:
                prepared.skip("nothing known to ask about")
        yield from text_only_rows(text_only, seed=plan.seed)

    write_json(prepared, rows(), split)
    prepared.rows[split] = written.total()
    if len(plan.styles) > 1:
        prepared.rows |= {f"{split} ({style})": written[style] for style in plan.styles}
    if text_only:
        prepared.rows[f"{split} (text only)"] = text_only


def write_json(prepared: Prepared, rows: Iterable[Mapping[str, Any]], split: str) -> None:
    """Write ``<split>.json``, a list with one sample a line."""
    path = prepared.out / f"{split}.json"
    # One sample a line: the file stays greppable, and 160,000 rows never lie in memory together.
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        separator = "[\n"
        for row in rows:
            stream.write(separator + json.dumps(row, ensure_ascii=False))
            separator = ",\n"
        stream.write("[]\n" if separator == "[\n" else "\n]\n")
    prepared.files[split] = path


def write_questions(
    prepared: Prepared, samples: Iterable[Sample], *, split: str = "val", k: int | None = None, seed: int = 0
) -> None:
    """Write ``<split>_questions.jsonl`` for upstream's ``model_vqa_loader.py --question-file``."""
    _write_lines(prepared, question_rows(samples, k=k, seed=seed), f"{split} questions")


def write_choices(
    prepared: Prepared, samples: Iterable[Sample], classes: Mapping[str, tuple[str, ...]], *, split: str, seed: int = 0
) -> None:
    """Write ``<split>_choices.jsonl``: multiple-choice questions about closed-set labels, for the same script."""
    _write_lines(prepared, choice_rows(samples, classes, seed=seed), f"{split} choices")


def write_knowledge(
    prepared: Prepared,
    dataset: str,
    *,
    split: str = "train",
    rules: str | Sequence[Rule] | None = None,
    prompts: Mapping[str, str] | None = None,
    max_rate: float = 0.02,
    meta: Mapping[str, Any] | None = None,
) -> Path:
    """Count ``prepared.labels[split]`` into ``<dataset>.knowledge.safetensors``; returns its path.

    ``rules`` is a built-in name or a YAML file (default: ``prepared.rules``), or the rules themselves; those that
    more than ``max_rate`` of the rows break are dropped, and noted.
    """
    from ..knowledge.file import Knowledge
    from ..rulebook import load_rules

    if rules is None or isinstance(rules, str):
        rules = load_rules(rules or prepared.rules)
    header: dict[str, Any] = {"dataset": dataset, "split": split, **(meta or {})}
    built = Knowledge.build(
        prepared.vocabulary, [prepared.labels[split]], rules,
        max_rate=max_rate, meta=header, prompts=prompts,
    )  # fmt: skip
    path = prepared.out / f"{dataset}.knowledge.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    built.save(path)
    prepared.files["knowledge"] = path
    prepared.notes += [
        f"rule dropped: {entry['rule']} ({entry['violated']:,} of {entry['applicable']:,} rows break it, "
        f"{entry['rate']:.2%}; --max-rate {max_rate:g})"
        for entry in built.meta["rule_report"]
        if not entry["kept"]
    ]
    return path


def remove_outputs(out: Path, inputs: Sequence[str]) -> list[Path]:
    """Remove what an earlier run wrote into ``out``: its images may be on the other side of the split by now.

    Only files of the names that ``prepare`` writes, only where there is a manifest of it, and none of the names
    ``inputs``. Maps and images stay. Returns what was removed.
    """
    from .datasets import DATASETS

    if not (out / "manifest.parquet").is_file():
        return []
    names = [f"{s}{end}" for s in ("train", "val", "test") for end in (".json", "_questions.jsonl", "_choices.jsonl")]
    names += [f"{stage}_{s}.json" for stage in ("summary", "qa", "hard") for s in ("train", "val")]
    names += ["manifest.parquet", "manifest.schema.json", "index.json"]
    names += [f"{dataset}.knowledge.safetensors" for dataset in ("made", *DATASETS)]
    removed = [out / name for name in names if name not in inputs and (out / name).is_file()]
    for path in removed:
        path.unlink()
    return removed


def note_removed(prepared: Prepared, removed: Iterable[Path]) -> None:
    """Name those files of ``remove_outputs`` that were not written again."""
    if gone := [path.name for path in removed if not path.exists()]:
        prepared.notes.append(f"removed from an earlier run: {', '.join(gone)}")


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


def _write_lines(prepared: Prepared, rows: Iterable[Mapping[str, Any]], kind: str) -> None:
    path = prepared.out / f"{kind.replace(' ', '_')}.jsonl"
    n = 0
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            n += 1
    prepared.rows[kind] = n
    prepared.files[kind] = path
