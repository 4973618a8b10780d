"""FaceXBench: the repository's own ``benchmark/`` folder. Prompts are whole, as its ``evaluate.py`` makes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import FaceDataError
from ..questions import LETTERS, Question
from ._suite_files import image, mapping, read_json, subfolder, text, texts
from .base import Benchmark, Source

QUESTIONS = 5000
"""In the whole benchmark."""
SHOWN = 4
"""Options that the prompt shows; the repository's code drops further ones."""


def facexbench_questions(source: Source) -> Iterator[Question]:
    """All questions, zero-shot: without the task description (``prepend_text``) of the in-context setting."""
    base = subfolder(source.root, "benchmark")
    files = sorted((source.root / base).glob("*.json"))
    if not files:
        raise FaceDataError(f"{source.root / base}: no *.json: expected FaceXBench's folder `benchmark`", "missing")
    number = disagreeing = 0
    for path in files:
        for question, agrees in _file_questions(source, path, base):
            number, disagreeing = number + 1, disagreeing + (not agrees)
            yield question
    if number != QUESTIONS:
        source.notes.append(f"{number} questions; the whole benchmark has {QUESTIONS}: not comparable figures")
    if disagreeing:
        source.notes.append(
            f"questions whose letter is not their answer's (the letter counts, as there): {disagreeing}"
        )


def _file_questions(source: Source, path: Path, base: str) -> Iterator[tuple[Question, bool]]:
    """The questions of a file, and whether ``answer`` is the option of ``correct_answer_option``."""
    data = mapping(read_json(source, path), str(path))
    category, topic, pictures = (text(data, key, str(path)) for key in ("category", "sub-category", "num_images"))
    groups = {"category": category, "num_images": pictures}
    for key, row in mapping(data.get("questions"), f"{path}: questions").items():
        where = f"{path}: question {key!r}"
        row = mapping(row, where)
        options = texts(row, "options", where, least=2)
        if len(options) > SHOWN:
            source.skipped[f"question with more than {SHOWN} options"] += 1
            continue
        gold = text(row, "correct_answer_option", where)
        if gold not in tuple(LETTERS[: len(options)]):
            raise FaceDataError(f"{where}: correct_answer_option {gold!r}; expected one of {len(options)} letters")
        right = options[LETTERS.index(gold)]
        images = tuple(image(name, where, base) for name in texts(row, "image_paths", where, most=64))
        identifier = f"{path.stem}:{key}"
        yield Question(
            identifier, identifier, images, "text", _prompt(data, row, options, where), (gold,), topic, options,
            tuple(range(len(options))), right, groups=groups,
        ), str(row.get("answer")) == right  # fmt: skip


def _prompt(data: dict[str, Any], row: dict[str, Any], options: tuple[str, ...], where: str) -> str:
    """Character by character as theirs, the line break at the end included."""
    lines = [text(data, "context", where)] if data["category"] == "tools_use" else []
    lines.append(text(row, "question_text", where))
    if data.get("postpend_text"):
        lines.append(text(data, "postpend_text", where))
    lines += [f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "".join(f"{line}\n" for line in lines)


BENCHMARKS = (
    Benchmark(
        "face_facexbench", "FaceXBench: 14 tasks in 6 categories, multiple choice", facexbench_questions,
        licence="none stated in the repository; images under the licences of the 25 source data sets",
        layout="benchmark/*.json (47 tables and tools_retrieval.json)\nbenchmark/images/<table>/question_*.png",
    ),
)  # fmt: skip
