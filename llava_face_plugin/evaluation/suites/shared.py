"""What the suites share: records, ``process_results`` with metrics of a suite's own, letters of lettered options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..answers import parse_choice
from ..questions import LETTERS
from ..scoring import ITEMS, Record

Item = Callable[[Record], Any]
"""What a metric needs of a record."""


def whole(record: Record) -> Record:
    """The item of a task's main metric."""
    return record


def field(name: str) -> Item:
    """One value of the record."""
    return lambda record: record[name]


def suite_record(
    doc: Mapping[str, Any], gold: Any, pred: Any, score: float, *, refused: bool = False, **more: Any
) -> Record:
    """The record of a question (see ``scoring.Record``), with what the suite's own metrics need in ``more``.

    ``pred`` None: the answer could not be read. ``score`` is in 0..1.
    """
    return {
        "question_id": doc["question_id"], "image_id": doc["image_id"], "cluster": doc["cluster"],
        "topic": doc["topic"], "gold": gold, "pred": pred, "score": float(score), "unparsed": float(pred is None),
        "refused": float(refused), "groups": dict(doc.get("groups") or {}), "fold": doc["fold"], **more,
    }  # fmt: skip


def letter_record(doc: Mapping[str, Any], text: str, original: Callable[[str, Sequence[str]], str | None]) -> Record:
    """The record of a question with lettered options. ``pred`` is the letter of the strict parser, ``pred_original``
    that of the paper's (None: not read), ``original`` 1.0 where the latter is right."""
    options, gold = doc["options"], doc["answer"][0]
    parsed = parse_choice(text, options)
    pred = None if parsed.value is None else LETTERS[int(parsed.value)]  # type: ignore[arg-type]
    theirs = original(text, options)
    return suite_record(
        doc, gold, pred, float(pred == gold), refused=parsed.refused, pred_original=theirs,
        original=float(theirs == gold),
    )  # fmt: skip


def suite_scorer(make: Callable[[Mapping[str, Any], str], Record], items: Mapping[str, Item]) -> Callable[..., Any]:
    """``process_results``: metric -> its part of the record. The first metric is the main one."""

    def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, Any]:
        made = make(doc, results[0])
        return {name: item(made) for name, item in items.items()}

    return process_results


INTERVAL: dict[str, Item] = {name: ITEMS[name] for name in ("face_acc_low", "face_acc_high")}
"""The 95 % interval of the accuracy."""
SCORE_INTERVAL: dict[str, Item] = {name: ITEMS[name] for name in ("face_score_low", "face_score_high")}
"""The same of a mean ``score`` that is no accuracy (F1, ROUGE)."""
READ: dict[str, Item] = {name: ITEMS[name] for name in ("face_unparsed", "face_refused")}
"""Shares of answers that could not be read, and that refuse."""


def mean(items: Sequence[float]) -> float:
    """Mean over all questions."""
    return float(np.mean(items))


def mean_score(items: Sequence[Record]) -> float:
    """Mean ``score`` of the records."""
    return float(np.mean([i["score"] for i in items]))


def mean_counted(items: Sequence[float | None]) -> float:
    """Mean over the questions that the paper's code counts: it leaves out those with None. NaN where none is left."""
    counted = [i for i in items if i is not None]
    return float(np.mean(counted)) if counted else float("nan")
