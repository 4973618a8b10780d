"""FaceBench: its JSON lines, one task a type of question. Prompts are whole, as its ``inference.py`` makes them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from ...errors import FaceDataError
from ..answers import parse_labels
from ..questions import Question
from ._suite_files import image, mapping, read_json_lines, text, texts
from .base import Benchmark, Source

HINT = " Please return the answer directly without additional explanation."
TYPES = {
    "TFQ": "true/false questions", "SCQ": "single choice", "MCQ": "multiple choice", "OEQ": "open questions",
}  # fmt: skip


def facebench_questions(kind: str, source: Source) -> Iterator[Question]:
    """The questions of one type, all of them, follow-up questions included, as the paper's code asks them.

    ``--set file=NAME`` names another file than ``test.jsonl``. Questions whose answer is no option are counted.
    """
    path = source.root / source.options["file"]
    if not path.resolve().is_relative_to(source.root):
        raise FaceDataError(f"--set file={source.options['file']}: expected a file below {source.root}")
    for where, row in read_json_lines(source, path):
        asked = text(row, "question_type", where)
        if asked not in TYPES:
            raise FaceDataError(f"{where}: question_type {asked!r:.60}; expected {', '.join(TYPES)}", "format")
        if asked == kind and (question := _question(source, kind, row, where)):
            yield question


def _question(source: Source, kind: str, row: dict[str, Any], where: str) -> Question | None:
    options = texts(row, "options", where, least=0 if kind == "OEQ" else 2)
    given = row.get("gt_answer")
    gold = texts(row if isinstance(given, list) else {"gt_answer": [given]}, "gt_answer", where)
    if kind != "OEQ" and (not set(gold) <= set(options) or (kind != "MCQ" and len(gold) != 1)):
        source.skipped["question whose answer is no option"] += 1
        return None
    if kind == "MCQ":
        _check_names(options, where)
    name, identifier = text(row, "image_id", where), text(row, "question_id", where)
    prompt = f"{text(row, 'text', where)}\n" + "\n".join(options) + f"\n{text(row, 'instruction', where)}{HINT}"
    metadata = mapping(row.get("metadata"), f"{where}: metadata")
    return Question(
        f"{name}:{identifier}", name, (image(name, where, "images"),), "text", prompt, gold,
        identifier.rpartition("_q")[0] or identifier, options, tuple(range(len(options))), ", ".join(gold),
        groups={key: str(metadata.get(key) or "") for key in ("view", "attribute_level", "image_source")},
    )  # fmt: skip


def _check_names(options: tuple[str, ...], where: str) -> None:
    """Scoring must be able to tell the options apart; here the line can be named."""
    try:
        if len(set(options)) < len(options):
            raise FaceDataError("an option is there twice")
        parse_labels("", dict.fromkeys(options, ()))
    except FaceDataError as error:
        raise FaceDataError(f"{where}: options: {error}", "format") from error


BENCHMARKS = tuple(
    Benchmark(
        f"face_facebench_{kind.lower()}", f"FaceBench: {name}", partial(facebench_questions, kind),
        licence="cc-by-4.0 (questions, on Hugging Face); images under the licences of their sources",
        layout="test.jsonl\nimages/<image_id>", settings={"file": "test.jsonl"},
    )
    for kind, name in TYPES.items()
)  # fmt: skip
