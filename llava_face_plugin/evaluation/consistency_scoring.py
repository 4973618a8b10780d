"""Scoring of rules: how often a model's yes/no answers about one face contradict each other.

Only the question file knows the rules, and an aggregation sees items only. So ``process_results`` hands every rule on
in the item of its first attribute: items say all that the figures need, wherever they are read again.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..rulebook import Rule
from . import metrics
from .questions import question_path, read_header
from .scoring import ITEMS, record

Item = tuple[str, str, str, str | None, Sequence[str]]
"""(image, cluster, attribute, yes or no, rules as JSON whose first attribute it is)."""

ANSWER_METRICS = ("face_acc_score", "face_unparsed", "face_refused")
RULE_METRICS = (
    "face_violations", "face_violations_low", "face_violations_high", "face_violating_images", "face_violations_read",
    "face_rules_checked", "face_broken_share",
)  # fmt: skip
"""The metrics of ``eval_tasks/_face_consistency_yaml``: of single answers, and of the rules."""


def scorer(task: str) -> Callable[..., dict[str, Any]]:
    """``process_results`` for the questions of ``$FACE_EVAL_DATA/<task>.parquet``. Raises ``FaceDataError``."""

    def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, Any]:
        made = record(doc, results[0])
        path = question_path(task)
        rules = _rules_by_attribute(path, path.stat().st_mtime_ns).get(made["topic"], ())
        item: Item = (made["image_id"], made["cluster"], made["topic"], made["pred"], rules)
        return {m: ITEMS[m](made) for m in ANSWER_METRICS} | dict.fromkeys(RULE_METRICS, item)

    return process_results


def face_violations(items: Sequence[Item]) -> float:
    """Mean number of broken rules an image, over images that were asked about all attributes of a rule.

    A rule with an answer that cannot be read counts as broken, lest refusing pays.
    """
    return _mean(_tally(items).violations)


def face_violations_low(items: Sequence[Item]) -> float:
    """Lower end of the 95 % interval of ``face_violations``, by a bootstrap over persons."""
    return _ends(_tally(items))[0]


def face_violations_high(items: Sequence[Item]) -> float:
    """Upper end, likewise."""
    return _ends(_tally(items))[1]


def face_violating_images(items: Sequence[Item]) -> float:
    """Share of these images with at least one rule broken, counted alike."""
    return _mean([float(number > 0) for number in _tally(items).violations])


def face_violations_read(items: Sequence[Item]) -> float:
    """Mean number of rules broken by answers that were read, over images with a rule whose answers all were."""
    found = _tally(items)
    return _mean([broken for broken, checked in zip(found.broken, found.checked, strict=True) if checked])


def face_rules_checked(items: Sequence[Item]) -> float:
    """Mean number of rules an image whose answers were all read: what ``face_violations_read`` is about."""
    return _mean(_tally(items).checked)


def face_broken_share(items: Sequence[Item]) -> float:
    """Share of these rules that are broken."""
    found = _tally(items)
    return sum(found.broken) / sum(found.checked) if sum(found.checked) else float("nan")


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


@dataclass(frozen=True)
class _Tally:
    """An entry for every image that was asked about all attributes of a rule, by name of the image."""

    clusters: tuple[str, ...]
    checked: tuple[int, ...]
    """Rules whose answers were all read."""
    broken: tuple[int, ...]
    """Those of them that are broken."""
    violations: tuple[int, ...]
    """The broken ones, and the rules with an unread answer."""


def _tally(items: Sequence[Item]) -> _Tally:
    return _counted(tuple((image, cluster, name, pred, tuple(rules)) for image, cluster, name, pred, rules in items))


@functools.lru_cache(maxsize=2)  # seven metrics are made of the same items
def _counted(items: tuple[tuple[str, str, str, str | None, tuple[str, ...]], ...]) -> _Tally:
    rules = [_rule(text) for text in sorted({text for *_, texts in items for text in texts})]
    names = sorted({i[2] for i in items} | {name for rule in rules for name in rule.attributes()})
    images, column = sorted({i[0] for i in items}), {name: at for at, name in enumerate(names)}
    row, clusters = {image: at for at, image in enumerate(images)}, {i[0]: i[1] for i in items}
    answers = np.full((len(images), len(names)), -1, dtype=np.int8)
    asked = np.zeros(answers.shape, dtype=bool)
    for image, _, name, answer, _ in items:
        asked[row[image], column[name]] = True
        if answer is not None:
            answers[row[image], column[name]] = answer == "yes"
    broken, checked = metrics.rule_breaks(answers, rules, names)
    due = np.zeros(broken.shape, dtype=bool)
    for at, rule in enumerate(rules):
        due[:, at] = asked[:, [column[name] for name in rule.attributes()]].all(axis=1)
    violations = broken | (due & ~checked)
    kept = due.any(axis=1)
    return _Tally(
        tuple(clusters[images[at]] for at in np.flatnonzero(kept).tolist()),
        *(tuple(table[kept].sum(axis=1).tolist()) for table in (checked, broken, violations)),
    )


@functools.lru_cache(maxsize=2)
def _ends(found: _Tally) -> tuple[float, float]:
    interval = metrics.cluster_bootstrap(found.clusters, found.violations) if found.clusters else None
    return (interval.low, interval.high) if interval else (float("nan"), float("nan"))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
