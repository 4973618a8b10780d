"""How often the labels break each rule, and the weight that a rule gets from that."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..rulebook import Rule, check_rules, signed
from .cooccurrence import checked_labels


def violations(rule: Rule, labels: np.ndarray, vocabulary: Sequence[str]) -> tuple[int, int]:
    """(rows that break the rule, rows to which it applies) in (N, A) int8 labels (-1 unknown, 0, 1).

    Only rows where all of the rule's attributes are known count. An implication applies where its antecedent
    holds; any other rule applies everywhere. Raises ``FaceDataError`` for unknown attributes or other labels.
    """
    check_rules([rule], vocabulary)
    return _count(rule, checked_labels(labels, vocabulary), list(vocabulary))


class RuleTally:
    """Counts violations over a stream of label batches. Raises ``FaceDataError`` for unknown attributes."""

    def __init__(self, rules: Sequence[Rule], vocabulary: Sequence[str]) -> None:
        check_rules(rules, vocabulary)
        self.rules, self.vocabulary = list(rules), list(vocabulary)
        self.counts = np.zeros((len(self.rules), 2), dtype=np.int64)
        """(R, 2): violated and applicable rows so far."""

    def add(self, labels: np.ndarray) -> None:
        """Count one (N, A) batch."""
        labels = checked_labels(labels, self.vocabulary)
        for number, rule in enumerate(self.rules):
            self.counts[number] += _count(rule, labels, self.vocabulary)

    def weigh(self, max_rate: float = 0.02) -> tuple[list[Rule], list[dict[str, Any]]]:
        """The rules broken by at most ``max_rate`` of the rows they apply to, and a report on all rules.

        A kept rule's weight is multiplied by 1 - rate (our default). A rule that applies to no row is kept as
        it is: nothing speaks against it. Each report is JSON-ready: rule, group, violated, applicable, rate
        (None if the rule applies to no row), kept.
        """
        kept, report = [], []
        for rule, (violated, applicable) in zip(self.rules, self.counts.tolist(), strict=True):
            rate = violated / applicable if applicable else None
            keep = rate is None or rate <= max_rate
            if keep:
                kept.append(dataclasses.replace(rule, weight=rule.weight * (1.0 - (rate or 0.0))))
            report.append(
                {"rule": rule.text(), "group": rule.group, "violated": violated, "applicable": applicable,
                 "rate": rate, "kept": keep}
            )  # fmt: skip
        return kept, report


def weigh(
    rules: Sequence[Rule], batches: Iterable[np.ndarray], vocabulary: Sequence[str], max_rate: float = 0.02
) -> tuple[list[Rule], list[dict[str, Any]]]:
    """``RuleTally.weigh`` after one pass over (N, A) int8 label batches."""
    tally = RuleTally(rules, vocabulary)
    for labels in batches:
        tally.add(labels)
    return tally.weigh(max_rate)


def _count(rule: Rule, labels: np.ndarray, vocabulary: list[str]) -> tuple[int, int]:
    """``violations`` on labels and a rule that are already checked."""
    literals = [signed(literal) for literal in (*rule.if_, *rule.then, *rule.of)]
    values = labels[:, [vocabulary.index(name) for name, _ in literals]]
    values = values[(values >= 0).all(axis=1)]
    holds = values == np.array([positive for _, positive in literals], dtype=values.dtype)
    if rule.kind == "implication":
        split = len(rule.if_)
        holds = holds[holds[:, :split].all(axis=1), split:]
    if rule.kind in ("implication", "at_least_one"):
        broken = ~holds.any(axis=1)
    else:
        broken = holds.sum(axis=1) > 1
    return int(broken.sum()), len(holds)
