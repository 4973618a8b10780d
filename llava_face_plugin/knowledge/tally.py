"""How often the labels break each rule, and the weight that a rule gets from that."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import FaceDataError
from ..rulebook import Clause, Rule, check_rules
from .cooccurrence import Cooccurrence, checked_labels, is_count, wilson

Tally = tuple[int, int, int]
"""Rows that break a rule, and rows in which the first and the last of its antecedents hold."""


def violations(rule: Rule, labels: np.ndarray, vocabulary: Sequence[str]) -> tuple[int, int]:
    """(rows that break the rule, rows to which it applies) in (N, A) int8 labels (-1 unknown, 0, 1).

    Only rows where all of the rule's attributes are known count; where it applies is ``Rule.antecedents``. Raises
    ``FaceDataError`` for unknown attributes or other labels.
    """
    tally = RuleTally([rule], vocabulary)
    tally.add(labels)
    return tally.totals()[0]


def violations_in_counts(rule: Rule, counts: Cooccurrence) -> Tally | None:
    """``RuleTally.counts`` of a rule from the counts of pairs alone; None for a rule of more than two attributes.

    Raises ``FaceDataError`` for unknown attributes.
    """
    check_rules([rule], counts.vocabulary)
    names = rule.attributes()
    if len(names) > 2:
        return None
    i, j = (counts.vocabulary.index(name) for name in (names[0], names[-1]))
    joint, first, second = (int(part) for part in (counts.joint[i, j], counts.support[i, j], counts.support[j, i]))
    neither = int(counts.both[i, j]) - first - second + joint
    worlds = np.array([[1, 1], [1, 0], [0, 1], [0, 0]])
    number = np.array([joint, first - joint, second - joint, neither])
    columns = {names[0]: worlds[:, 0], names[-1]: worlds[:, 0 if i == j else 1]}
    return _tally(rule, columns, number)


class RuleTally:
    """Counts violations over a stream of label batches. Raises ``FaceDataError`` for unknown attributes."""

    def __init__(self, rules: Sequence[Rule], vocabulary: Sequence[str]) -> None:
        check_rules(rules, vocabulary)
        self.rules, self.vocabulary = list(rules), list(vocabulary)
        self.counts = np.zeros((len(self.rules), 3), dtype=np.int64)
        """(R, 3): rows so far that break the rule, and in which the first and the last of its antecedents hold."""

    def add(self, labels: np.ndarray) -> None:
        """Count one (N, A) batch."""
        labels = checked_labels(labels, self.vocabulary)
        used = sorted({name for rule in self.rules for name in rule.attributes()}, key=self.vocabulary.index)
        columns = {name: np.ascontiguousarray(labels[:, self.vocabulary.index(name)]) for name in used}
        for number, rule in enumerate(self.rules):
            self.counts[number] += _count(rule, columns)

    def totals(self) -> list[tuple[int, int]]:
        """Of each rule the rows that break it, and those to which it applies."""
        return [(broken, min(applicable)) for broken, *applicable in self.counts.tolist()]

    def weigh(self, max_rate: float = 0.02) -> tuple[list[Rule], list[dict[str, Any]]]:
        """The rules broken by at most ``max_rate`` of the rows they apply to, and a report on all rules.

        A kept rule's weight is multiplied by 1 - rate (our default). A rule that applies to no row is kept as
        it is: nothing speaks against it. Each report is JSON-ready: rule, group, violated, applicable, rate and
        its 95 % Wilson interval (None if the rule applies to no row), kept, weight (0 if it is not), and the
        ``definition`` of the rule as it was before.
        """
        kept, report = [], []
        for rule, (violated, applicable) in zip(self.rules, self.totals(), strict=True):
            rate = violated / applicable if applicable else None
            keep = rate is None or rate <= max_rate
            weight = rule.weight * (1.0 - (rate or 0.0)) if keep else 0.0
            if keep:
                kept.append(dataclasses.replace(rule, weight=weight))
            low, high = wilson(violated, applicable)
            report.append(
                {"rule": rule.text(), "group": rule.group, "violated": violated, "applicable": applicable,
                 "rate": rate, "interval": None if rate is None else [float(low), float(high)], "kept": keep,
                 "weight": weight, "definition": rule.to_dict()}
            )  # fmt: skip
        return kept, report


def check_report(report: Any) -> None:
    """Raise ``FaceDataError`` unless it is a report of ``RuleTally.weigh``, of this version or an older one."""
    if not isinstance(report, list):
        raise FaceDataError(f"rule_report is {reprlib.repr(report)}; expected a list")
    for number, entry in enumerate(report, start=1):
        try:
            texts = isinstance(entry["rule"], str) and isinstance(entry["group"], str)
            counts = is_count(entry["violated"]) and is_count(entry["applicable"])
            if (
                not texts
                or not counts
                or entry["violated"] > entry["applicable"]
                or not isinstance(entry["kept"], bool)
            ):
                raise FaceDataError("rule, group, violated, applicable or kept is not what it should be")
            if entry["rate"] != (entry["violated"] / entry["applicable"] if entry["applicable"] else None):
                raise FaceDataError("its rate is not violated / applicable")
            if "definition" in entry:
                Rule.from_dict(entry["definition"])
        except (FaceDataError, KeyError, TypeError) as error:
            raise FaceDataError(f"rule_report, entry {number}: {reprlib.repr(entry)}: {error}") from error


def weigh(
    rules: Sequence[Rule], batches: Iterable[np.ndarray], vocabulary: Sequence[str], max_rate: float = 0.02
) -> tuple[list[Rule], list[dict[str, Any]]]:
    """``RuleTally.weigh`` after one pass over (N, A) int8 label batches."""
    tally = RuleTally(rules, vocabulary)
    for labels in batches:
        tally.add(labels)
    return tally.weigh(max_rate)


def _count(rule: Rule, columns: dict[str, np.ndarray]) -> Tally:
    """``RuleTally.counts`` in (N,) label columns by name, of a rule whose names are checked."""
    return _tally(rule, columns, np.logical_and.reduce([columns[name] >= 0 for name in rule.attributes()]))


def _tally(rule: Rule, columns: dict[str, np.ndarray], number: np.ndarray) -> Tally:
    """``RuleTally.counts`` where row i of the columns stands for ``number[i]`` rows."""

    def rows(clauses: tuple[Clause, ...]) -> int:
        return int(np.where(_hold(clauses, columns), number, 0).sum())

    first, last = rule.antecedents()[0], rule.antecedents()[-1]
    return rows(()) - rows(rule.clauses()), rows(first), rows(last)


def _hold(clauses: Iterable[Clause], columns: dict[str, np.ndarray]) -> Any:
    """(N,) bool: rows in which every clause has a literal that holds; a bare True without clauses."""
    each = [np.logical_or.reduce([columns[n] == positive for n, positive in clause]) for clause in clauses]
    return np.logical_and.reduce(each) if each else True
