"""Face-Human-Bench (Qin et al., NeurIPS 2025, arXiv 2501.01243): lettered options, a mean of means over abilities.

Source of the paper's rules: lxq1000/Face-Human-Bench, ``code/evaluation/output_final_answer.py`` and ``score.py``
(commit f926a28d), read, not copied. Its last stage, a GPT-3.5 matcher, is not used: no network, no model that changes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..scoring import Record
from .shared import INTERVAL, READ, Item, field, letter_record, whole

LEVELS = ("level", "ability", "sub_ability")
"""Group columns from the top of the tree down; below them comes the topic: kind of question and version of image."""
_MARKED = re.compile(r"([ABCD])[.。)），,:：]")
_NAMED = re.compile(r"选项 ?([ABCD])")

Leaf = tuple[tuple[str, ...], float, float]
"""(level, ability, sub-ability, topic), score, refused."""


def original_letter(text: str, options: Sequence[str]) -> str | None:
    """The letter that the paper's code reads before it asks GPT-3.5, or None.

    An answer of one character is that character; else the capitals A to D before ``. 。 ) ） , ， : ：`` or after 选项,
    if they are all the same. Known defects, kept: the capital may end a word ("a MAD. man" is D), and options beyond
    those shown count.
    """
    if len(text) == 1:
        return text
    found = {*_MARKED.findall(text), *_NAMED.findall(text)}
    return found.pop() if len(found) == 1 else None


def record(doc: Mapping[str, Any], text: str) -> Record:
    """The record of a question; see ``letter_record``."""
    return letter_record(doc, text, original_letter)


def _leaf(r: Record) -> Leaf:
    return (*(r["groups"][level] for level in LEVELS), r["topic"]), r["score"], r["refused"]


def _leaf_original(r: Record) -> Leaf:
    path, _, refused = _leaf(r)
    return path, r["original"], refused


def face_level_acc(items: Sequence[Leaf]) -> float:
    """The paper's overall score: the accuracy of each topic, averaged up the four levels, each branch counting alike.

    Branches without a question (a part of the benchmark only) are left out.
    """
    topics: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for path, score, _ in items:
        topics[tuple(path)].append(score)
    return _mean_of_means({path: float(np.mean(scores)) for path, scores in topics.items()})


def face_level_acc_answered(items: Sequence[Leaf]) -> float:
    """The same over answers that do not refuse. A topic refused as a whole counts 0 (their code divides by zero).

    The paper counts as refusals all answers that GPT-3.5 finds unlike every option; here, those with a refusal's
    phrase. An answer that is merely unclear stays in and is wrong.
    """
    topics: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for path, score, refused in items:
        topics[tuple(path)].extend([] if refused else [score])
    return _mean_of_means({path: float(np.mean(scores)) if scores else 0.0 for path, scores in topics.items()})


def _mean_of_means(scores: Mapping[tuple[str, ...], float]) -> float:
    """Path -> score; the mean over the first names of the means of what is below them."""
    if () in scores:
        return scores[()]
    below: dict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
    # Sorted: a sum of floats depends on its order.
    for (first, *rest), score in sorted(scores.items()):
        below[first][tuple(rest)] = score
    return float(np.mean([_mean_of_means(branch) for branch in below.values()]))


METRICS: dict[str, Item] = {
    "face_acc_score": whole,
    **INTERVAL,
    "face_acc_original": field("original"),
    "face_level_acc": _leaf,
    "face_level_acc_answered": _leaf,
    "face_level_acc_original": _leaf_original,
    **READ,
    "face_unparsed_original": lambda r: float(r["pred_original"] is None),
}
"""Metric -> its item."""
