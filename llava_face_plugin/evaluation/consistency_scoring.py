"""Scoring of rules: how often a model's yes/no answers about one face contradict each other.

Only the question file knows the rules, and an aggregation sees items only. So ``process_results`` hands every rule on
in the item of its first attribute: items say all that the figures need, wherever they are read again.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..rulebook import Rule
from . import metrics
from .questions import question_path, read_header
from .scoring import CONSISTENCY, ITEMS, record

Item = tuple[str, str, str, str | None, Sequence[str]]
"""(image, cluster, attribute, yes or no, rules as JSON whose first attribute it is)."""

VIOLATIONS = ("face_violations", "face_violations_low", "face_violations_high", "face_violating_images")


def scorer(task: str) -> Callable[..., dict[str, Any]]:
    """``process_results`` for the questions of ``$FACE_EVAL_DATA/<task>.parquet``. Raises ``FaceDataError``."""

    def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, Any]:
        made = record(doc, results[0])
        path = question_path(task)
        rules = _rules_by_attribute(path, path.stat().st_mtime_ns).get(made["topic"], ())
        item: Item = (made["image_id"], made["cluster"], made["topic"], made["pred"], rules)
        return {m: ITEMS[m](made) for m in CONSISTENCY if m not in VIOLATIONS} | dict.fromkeys(VIOLATIONS, item)

    return process_results


def face_violations(items: Sequence[Item]) -> float:
    """Mean number of broken rules an image, over images with a rule whose attributes are all answered."""
    return _mean([number for _, number in _broken(items)])


def face_violations_low(items: Sequence[Item]) -> float:
    """Lower end of the 95 % interval of ``face_violations``, by a bootstrap over persons."""
    return _ends(items)[0]


def face_violations_high(items: Sequence[Item]) -> float:
    """Upper end, likewise."""
    return _ends(items)[1]


def face_violating_images(items: Sequence[Item]) -> float:
    """Share of these images with at least one broken rule."""
    return _mean([float(number > 0) for _, number in _broken(items)])


@functools.lru_cache(maxsize=8)
def _rules_by_attribute(path: Path, changed: int) -> dict[str, tuple[str, ...]]:
    """First attribute of a rule -> such rules as JSON. ``changed``: the file's time, so that a new one is read."""
    from .builders.consistency import RULES

    out: dict[str, tuple[str, ...]] = {}
    for rule in read_header(path).extra[RULES]:
        first = _rule(json.dumps(rule)).attributes()[0]
        out[first] = (*out.get(first, ()), json.dumps(rule, sort_keys=True))
    return out


@functools.lru_cache(maxsize=4096)
def _rule(text: str) -> Rule:
    return Rule.from_dict(json.loads(text))


def _broken(items: Sequence[Item]) -> list[tuple[str, int]]:
    """(cluster, number of broken rules) of every image with a rule that can be checked, by name of the image."""
    rules = [_rule(text) for text in sorted({text for *_, texts in items for text in texts})]
    names = sorted({i[2] for i in items} | {name for rule in rules for name in rule.attributes()})
    images, column = sorted({i[0] for i in items}), {name: at for at, name in enumerate(names)}
    row, clusters = {image: at for at, image in enumerate(images)}, {i[0]: i[1] for i in items}
    answers = np.full((len(images), len(names)), -1, dtype=np.int8)
    for image, _, name, answer, _ in items:
        if answer is not None:
            answers[row[image], column[name]] = answer == "yes"
    broken, checked = metrics.rule_breaks(answers, rules, names)
    return [(clusters[image], int(broken[at].sum())) for at, image in enumerate(images) if checked[at].any()]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _ends(items: Sequence[Item]) -> tuple[float, float]:
    found = _broken(items)
    interval = metrics.cluster_bootstrap([c for c, _ in found], [float(n) for _, n in found]) if found else None
    return (interval.low, interval.high) if interval else (float("nan"), float("nan"))
