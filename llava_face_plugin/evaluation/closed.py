"""Yes/no questions: reading a model's answers, accuracy, and how often they contradict the rules."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import FaceDataError
from ..knowledge.rules import LogicalModule, Rule

_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Answer:
    """One answered question. ``given`` is None where the text says neither yes nor no."""

    sample: str
    attribute: str
    expected: bool
    given: bool | None


def parse_yes_no(text: str) -> bool | None:
    """True or False if the first word is yes or no (any case), else None."""
    word = _WORD.match(text.strip().lower())
    return {"yes": True, "no": False}.get(word.group()) if word else None


def read_answers(questions: Path, answers: Path) -> list[Answer]:
    """Joins a question file of ``llava-face prepare`` with what ``model_vqa_loader.py`` wrote.

    Raises ``FaceDataError`` naming file and line for a broken row, and the first question without an answer.
    """
    given = {row["question_id"]: row["text"] for row in _rows(answers, ("question_id", "text"))}
    out = []
    for row in _rows(questions, ("question_id", "attribute", "answer", "sample")):
        if row["question_id"] not in given:
            raise FaceDataError(f"{answers}: no answer to question {row['question_id']} of {questions}")
        expected = row["answer"] == "yes"
        out.append(Answer(row["sample"], row["attribute"], expected, parse_yes_no(given[row["question_id"]])))
    return out


def _rows(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise FaceDataError(f"{path}, line {number}: not valid JSON: {error}") from None
        missing = [key for key in keys if key not in row]
        if missing:
            raise FaceDataError(f"{path}, line {number}: no {', '.join(missing)}")
        rows.append(row)
    return rows


def score(answers: Sequence[Answer]) -> dict[str, Any]:
    """Accuracy figures, all in [0, 1].

    ``accuracy``: over all questions, an unparsed answer being wrong. ``balanced_accuracy``: mean over
    attributes of the mean recall of yes and no (attributes that occur both ways). ``majority``: accuracy of
    always giving an attribute's commoner answer. ``unparsed``: share of answers that say neither.
    ``attributes``: accuracy of each.
    """
    if not answers:
        raise FaceDataError("no answers to score")
    by_attribute: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_attribute[answer.attribute].append(answer)
    balanced = [b for rows in by_attribute.values() if (b := _balanced(rows)) is not None]
    commoner = sum(max(n := sum(a.expected for a in rows), len(rows) - n) for rows in by_attribute.values())
    return {
        "questions": len(answers),
        "accuracy": _accuracy(answers),
        "balanced_accuracy": float(np.mean(balanced)) if balanced else None,
        "majority": commoner / len(answers),
        "unparsed": sum(a.given is None for a in answers) / len(answers),
        "attributes": {name: _accuracy(rows) for name, rows in sorted(by_attribute.items())},
    }


def group_accuracy(answers: Sequence[Answer], attribute: str) -> dict[str, float]:
    """Accuracy among the samples that have ``attribute`` and among those that lack it, by their labels."""
    label = {a.sample: a.expected for a in answers if a.attribute == attribute}
    groups: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        if answer.sample in label and answer.attribute != attribute:
            groups[attribute if label[answer.sample] else f"not {attribute}"].append(answer)
    return {name: _accuracy(rows) for name, rows in sorted(groups.items())}


def rule_breaking_share(answers: Iterable[Answer], rules: Sequence[Rule], vocabulary: Sequence[str]) -> float | None:
    """Share of samples whose answers, taken together, break at least one rule.

    Only samples with a parsed answer to every attribute that the rules speak of count; None if there is none.
    """
    logic = LogicalModule(list(rules), tuple(vocabulary))
    needed = {name for rule in rules for name in rule.attributes()}
    rows: dict[str, dict[str, bool | None]] = defaultdict(dict)
    for answer in answers:
        rows[answer.sample][answer.attribute] = answer.given
    whole = [row for row in rows.values() if all(row.get(name) is not None for name in needed)]
    if not whole or not rules:
        return None
    broken = 0
    for row in whole:
        binary = torch.tensor([[float(bool(row.get(name))) for name in vocabulary]])
        broken += bool((logic.violation_rate(binary) > 0).any())
    return broken / len(whole)


def _accuracy(rows: Sequence[Answer]) -> float:
    return sum(a.given is a.expected for a in rows) / len(rows)


def _balanced(rows: Sequence[Answer]) -> float | None:
    sides = [[a for a in rows if a.expected is side] for side in (True, False)]
    return float(np.mean([_accuracy(side) for side in sides])) if all(sides) else None
