"""Do the answers about one face contradict each other? How often they break rules such as "Goatee => Male"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...knowledge.cooccurrence import checked_labels
from ...knowledge.rules import Rule, check_rules
from .inputs import checked_length


@dataclass(frozen=True)
class RuleConsistency:
    """Rules are checked on an image where all their attributes are answered. The shares are None with nothing checked.

    Answers that are left out lower ``checks_per_image``, and with it the chance to break a rule: compare models by
    ``broken_share`` as well, and with the unparsed rate beside it.
    """

    images: int
    """Images with at least one rule checked: the base of all below."""
    skipped: int
    """Images without."""
    checks_per_image: float | None
    broken_per_image: float | None
    """Mean number of broken rules."""
    broken_share: float | None
    """Share of all checks that found the rule broken, 0..1."""
    any_broken: float | None
    """Share of images with at least one broken rule, 0..1."""


def rule_consistency(answers: np.ndarray, rules: Sequence[Rule], vocabulary: Sequence[str]) -> RuleConsistency:
    """How often the answers about an image break the rules.

    Args:
        answers: (N, A) int8, one row an image, with -1 for not asked or not parsed, 0 (no), 1 (yes).
        vocabulary: the A attributes.

    Raises ``FaceDataError`` for no images, another shape, other values and rules of unknown attributes.
    """
    broken, checked = rule_breaks(answers, rules, vocabulary)
    counts = checked.any(axis=1)
    images, checks = int(counts.sum()), int(checked.sum())
    if not images:
        return RuleConsistency(0, len(broken), None, None, None, None)
    number = int(broken.sum())
    any_broken = int(broken.any(axis=1).sum()) / images
    return RuleConsistency(images, len(broken) - images, checks / images, number / images, number / checks, any_broken)


def rule_breaks(answers: np.ndarray, rules: Sequence[Rule], vocabulary: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(N, R) bool twice: the image's answers break the rule; the rule is checked, all its attributes being answered.

    For intervals, by image. Arguments and raises: as ``rule_consistency``.
    """
    checked_length(answers=answers)
    check_rules(rules, vocabulary)
    columns = dict(zip(vocabulary, checked_labels(answers, vocabulary).T, strict=True))
    broken, checked = np.zeros((2, len(answers), len(rules)), dtype=bool)
    for at, rule in enumerate(rules):
        checked[:, at] = np.logical_and.reduce([columns[name] >= 0 for name in rule.attributes()])
        for clause in rule.clauses():
            broken[:, at] |= ~np.logical_or.reduce([columns[name] == positive for name, positive in clause])
    return broken & checked, checked
