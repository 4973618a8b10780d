"""The seam to lmms-eval: what the YAMLs of ``eval_tasks/`` call. The text of a question, its pictures, its record.

``process_results`` of a task makes one record of a question and hands every metric its part of it (``ITEMS``);
``aggregations`` makes a number of these parts. lmms-eval calls them from four threads, in any order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from ..errors import FaceDataError
from . import answers
from .questions import LETTERS, load_questions, question_path

ROOT_ENV = "FACE_EVAL_ROOT"
"""The environment variable that overrides the image root of the question files."""

Record = dict[str, Any]
"""One scored question: ``question_id``, ``image_id``, ``cluster``, ``topic``, ``gold`` and ``pred`` (None: the answer
could not be read), ``score`` (1.0 right, 0.0 wrong), ``unparsed``, ``refused`` (0.0 or 1.0), ``groups``, ``fold``."""


def docs(dataset: Any) -> Any:
    """``process_docs``: the one-row ``source.jsonl`` of a task folder -> the task's questions (``datasets.Dataset``).

    The file is ``$FACE_EVAL_DATA/<task>.parquet``: no absolute path can stand in a YAML that is shipped, and lmms-eval
    expands no variables. Raises ``FaceDataError`` where it is missing or damaged; lmms-eval retries that for ten
    seconds and shows a RetryError, so the message is logged, too.
    """
    import datasets
    from loguru import logger

    try:
        header, table = load_questions(question_path(dataset[0]["task"]))
    except FaceDataError as error:
        logger.error(str(error))
        raise
    root = os.environ.get(ROOT_ENV) or header.image_root
    return datasets.Dataset(datasets.table.InMemoryTable(table)).add_column("image_root", [root] * len(table))


def doc_to_visual(doc: Mapping[str, Any]) -> list[Any]:
    """The question's pictures (PIL, RGB), or its clip's path. Raises ``FaceDataError`` naming question and file."""
    from ..segment.images import Picture, read_file

    root = Path(doc["image_root"])
    if doc["video"]:
        return [str(root / doc["video"])]
    try:
        return [Picture(read_file(root / name), f"image {root / name}").seen for name in doc["images"]]
    except FaceDataError as error:
        raise FaceDataError(f"question {doc['question_id']}: {error}", error.reason) from error


def doc_to_text(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, str] | None = None) -> str:
    """The whole prompt. ``options``: ``lettered`` (default), or ``inline``, as ``llava-face prepare`` words choices."""
    kwargs = lmms_eval_specific_kwargs or {}
    text = doc["question"]
    if doc["kind"] == "choice":
        if kwargs.get("options", "lettered") == "inline":
            text += f" Choose one: {', '.join(doc['options'])}."
        else:
            text += "".join(f"\n{letter}. {option}" for letter, option in zip(LETTERS, doc["options"], strict=False))
    return f"{kwargs.get('pre_prompt', '')}{text}{kwargs.get('post_prompt', '')}"


def doc_to_messages(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, str] | None = None) -> list[Any]:
    """The same for chat models: pictures or clip first, then the text."""
    media = "video" if doc["video"] else "image"
    content: list[dict[str, Any]] = [{"type": media, "url": visual} for visual in doc_to_visual(doc)]
    content.append({"type": "text", "text": doc_to_text(doc, lmms_eval_specific_kwargs)})
    return [{"role": "user", "content": content}]


def doc_to_target(doc: Mapping[str, Any]) -> str:
    """The right answer as text."""
    return ", ".join(doc["answer"])


def record(doc: Mapping[str, Any], text: str) -> Record:
    """A question and the model's answer -> its record. An answer that cannot be read is wrong."""
    gold, parsed = READERS[doc["kind"]](doc, text)
    return {
        "question_id": doc["question_id"], "image_id": doc["image_id"], "cluster": doc["cluster"],
        "topic": doc["topic"], "gold": gold, "pred": parsed.value, "score": float(_right(doc, gold, parsed.value)),
        "unparsed": float(parsed.value is None), "refused": float(parsed.refused),
        "groups": dict(doc.get("groups") or {}), "fold": doc["fold"],
    }  # fmt: skip


def scorer(*metrics: str, make: Callable[[Mapping[str, Any], str], Record] = record) -> Callable[..., dict[str, Any]]:
    """``process_results`` for these metrics. Raises ``FaceDataError`` for an unknown one."""
    unknown = [m for m in metrics if m not in ITEMS]
    if unknown or not metrics:
        raise FaceDataError(f"unknown metrics {unknown}; known: {', '.join(ITEMS)}")

    def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, Any]:
        made = make(doc, results[0])
        return {m: ITEMS[m](made) for m in metrics}

    return process_results


def _right(doc: Mapping[str, Any], gold: Any, pred: Any) -> bool:
    """Equal; a number: an age within five years, a similarity on the right side of 50 (our defaults)."""
    if doc["kind"] != "number" or pred is None:
        return pred == gold
    return abs(pred - gold) <= 5 if doc["topic"] == "age" else (pred >= 50) == (gold >= 50)


def _yes_no(doc: Mapping[str, Any], text: str) -> tuple[str, answers.Parsed]:
    return doc["answer"][0], answers.parse_yes_no(text)


def _choice(doc: Mapping[str, Any], text: str) -> tuple[str, answers.Parsed]:
    options = doc["options"]
    parsed = answers.parse_choice(text, options)
    chosen = None if parsed.value is None else options[int(parsed.value)]  # type: ignore[arg-type]
    return options[LETTERS.index(doc["answer"][0])], answers.Parsed(chosen, parsed.refused)


def _number(doc: Mapping[str, Any], text: str) -> tuple[float, answers.Parsed]:
    return float(doc["answer"][0]), answers.parse_number(text, *NUMBER_RANGES[doc["topic"]], NUMBER_UNITS[doc["topic"]])


def _labels(doc: Mapping[str, Any], text: str) -> tuple[tuple[str, ...], answers.Parsed]:
    return tuple(sorted(doc["answer"])), answers.parse_labels(text, {o: (o,) for o in doc["options"]})


NUMBER_RANGES = {"age": (0.0, 120.0), "similarity": (0.0, 100.0)}
"""Topic -> the numbers that count as an answer."""
NUMBER_UNITS: dict[str, Literal["years", "percent"]] = {"age": "years", "similarity": "percent"}
"""Topic -> the unit that may follow the number."""

READERS: dict[str, Callable[[Mapping[str, Any], str], tuple[Any, answers.Parsed]]] = {
    "yes_no": _yes_no, "choice": _choice, "number": _number, "labels": _labels,
}  # fmt: skip
"""Kind of question -> (gold, what was read)."""


def _whole(r: Record) -> Record:
    return r


def _scored(r: Record) -> tuple[str, float]:
    return r["cluster"], r["score"]


def _labelled(r: Record) -> tuple[str, Any, Any]:
    return r["topic"], r["gold"], r["pred"]


def _grouped(r: Record) -> tuple[dict[str, str], str, float]:
    return r["groups"], r["cluster"], r["score"]


def _folded(r: Record) -> tuple[int, float]:
    return r["fold"], r["score"]


def _pair(r: Record) -> tuple[Any, Any]:
    return r["gold"], r["pred"]


def _aged(r: Record) -> tuple[dict[str, str], str, float, float | None]:
    return r["groups"], r["cluster"], r["gold"], r["pred"]


def _clustered_pair(r: Record) -> tuple[str, float, float | None]:
    return r["cluster"], r["gold"], r["pred"]


def _clustered_label(r: Record) -> tuple[str, str, Any, Any]:
    return r["cluster"], r["topic"], r["gold"], r["pred"]


ITEMS: dict[str, Callable[[Record], Any]] = {
    "face_acc_score": _whole,
    "face_cs5_score": _whole,
    "face_eer": _whole,
    "face_eer_low": _clustered_pair,
    "face_eer_high": _clustered_pair,
    "face_acc_low": _scored,
    "face_acc_high": _scored,
    "face_score_low": _scored,
    "face_score_high": _scored,
    "face_balanced_acc": _labelled,
    "face_balanced_acc_low": _clustered_label,
    "face_balanced_acc_high": _clustered_label,
    "face_f1": _labelled,
    "face_f1_low": _clustered_label,
    "face_f1_high": _clustered_label,
    "face_uar": _labelled,
    "face_uar_low": _clustered_label,
    "face_uar_high": _clustered_label,
    "face_macro_f1": _labelled,
    "face_majority": _labelled,
    "face_worst_group": _grouped,
    "face_group_gap": _grouped,
    "face_fold_acc": _folded,
    "face_fold_sd": _folded,
    "face_auc": _pair,
    "face_mae": _pair,
    "face_mae_low": _clustered_pair,
    "face_mae_high": _clustered_pair,
    "face_mae_parsed": _pair,
    "face_worst_group_mae": _aged,
    "face_unparsed": lambda r: r["unparsed"],
    "face_refused": lambda r: r["refused"],
}
"""Metric -> what it needs of a record. Tuples where that will do, for the items of all metrics are logged; a task has
one metric with the whole record: its main one, which the report reads."""

YES_NO = (
    "face_acc_score", "face_acc_low", "face_acc_high", "face_balanced_acc", "face_balanced_acc_low",
    "face_balanced_acc_high", "face_f1", "face_f1_low", "face_f1_high", "face_majority", "face_worst_group",
    "face_group_gap", "face_unparsed", "face_refused",
)  # fmt: skip
CHOICE = (
    "face_acc_score", "face_acc_low", "face_acc_high", "face_uar", "face_uar_low", "face_uar_high", "face_macro_f1",
    "face_majority", "face_worst_group", "face_group_gap", "face_unparsed", "face_refused",
)  # fmt: skip
AGE = (
    "face_cs5_score", "face_mae", "face_mae_low", "face_mae_high", "face_mae_parsed", "face_worst_group_mae",
    "face_unparsed", "face_refused",
)  # fmt: skip
PAIRS = (
    "face_acc_score", "face_acc_low", "face_acc_high", "face_fold_acc", "face_fold_sd", "face_balanced_acc",
    "face_worst_group", "face_group_gap", "face_unparsed", "face_refused",
)  # fmt: skip
SIMILARITY = ("face_eer", "face_eer_low", "face_eer_high", "face_auc", "face_unparsed", "face_refused")
"""The metrics of a kind of task: each set has its template ``eval_tasks/_face_<set>_yaml``."""
