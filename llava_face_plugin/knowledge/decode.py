"""From attribute probabilities to the most probable assignment that breaks no rule (our addition to the paper's).

The search is a weighted partial MaxSAT problem, solved exactly by RC2 (Ignatiev et al., 2019) of python-sat, the
extra ``knowledge``. Rules are hard here: their weights are for the loss and are not read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FaceConfigError, FaceDataError, FaceHostError
from ..rulebook import Rule, check_rules
from .check import consistency, texts

SCALE = 2**32
"""Log-odds are rounded to multiples of 1 / SCALE, because RC2 adds integers: the result's log-probability is within
A / SCALE of the best one (1e-8 for 40 attributes)."""


@dataclass(frozen=True, eq=False)
class Decision:
    """Which attributes are present, and what the rules had to do with it."""

    present: np.ndarray
    """(A,) bool."""
    changed: tuple[str, ...]
    """Attributes decided otherwise than by their own probability, in the vocabulary's order."""
    broken: tuple[Rule, ...]
    """Rules that thresholding each attribute by itself would break; none is broken by ``present``."""


def decode(
    probabilities: np.ndarray, rules: Sequence[Rule], vocabulary: Sequence[str], threshold: float = 0.5
) -> Decision:
    """The assignment with the largest sum of log-odds over the present attributes, among those that break no rule.

    At threshold 0.5 that is the most probable consistent assignment of independent attributes; another threshold t
    counts log-odds from log(t / (1 - t)). If thresholding (present: p >= t) breaks no rule it is the answer, and no
    solver is needed. An attribute with probability exactly 0 or 1 is changed only where the rules leave no choice.
    Of equally good assignments the one with the fewest changes is taken, then the one that keeps the attributes
    that come first in the vocabulary: the order of the rules does not matter.

    Args:
        probabilities: (A,) in [0, 1], any float dtype.
        rules: all of them hard, whatever their weight.

    Raises ``FaceDataError`` for probabilities of another shape or range (NaN included), for rules with unknown
    attributes, and for rules that cannot all hold; ``FaceConfigError`` unless 0 < threshold < 1;
    ``FaceHostError`` if a rule is broken and python-sat is not installed.
    """
    p = _checked(probabilities, vocabulary)
    if not 0.0 < threshold < 1.0:
        raise FaceConfigError(f"threshold is {threshold}; expected a number between 0 and 1")
    check_rules(rules, vocabulary)
    index = {name: i for i, name in enumerate(vocabulary)}
    clauses = [[(index[name], positive) for name, positive in clause] for rule in rules for clause in rule.clauses()]
    alone = p >= threshold
    broken = tuple(rule for rule in rules if not _holds(rule, alone, index))
    present = _solve(alone, _costs(p, threshold), clauses) if broken else alone
    if present is None:
        core = "; ".join(texts(consistency(rules).core))
        raise FaceDataError(f"no assignment of the attributes keeps all rules, because these contradict: {core}")
    changed = tuple(vocabulary[i] for i in np.flatnonzero(present != alone).tolist())
    return Decision(present, changed, broken)


def _checked(probabilities: np.ndarray, vocabulary: Sequence[str]) -> np.ndarray:
    """(A,) float64."""
    p = np.asarray(probabilities, dtype=np.float64)
    if p.shape != (len(vocabulary),):
        raise FaceDataError(f"probabilities have shape {p.shape}; expected ({len(vocabulary)},), one an attribute")
    wrong = np.flatnonzero(~((p >= 0.0) & (p <= 1.0)))
    if len(wrong):
        raise FaceDataError(f"the probability of {vocabulary[wrong[0]]!r} is {p[wrong[0]]}; expected 0 to 1")
    return p


def _holds(rule: Rule, present: np.ndarray, index: dict[str, int]) -> bool:
    return all(any(present[index[name]] == positive for name, positive in clause) for clause in rule.clauses())


def _costs(p: np.ndarray, threshold: float) -> list[int]:
    """What it costs to decide each attribute against its probability: all sums of different sets differ.

    Three digits of one integer, the highest first: the scaled log-odds; the number of changes; the attribute's own
    bit. What is certain (0 or 1) costs more than everything uncertain together.
    """
    size = len(p)
    certain = (p == 0.0) | (p == 1.0)
    inner = np.where(certain, 0.5, p)
    odds = np.log(inner) - np.log1p(-inner) - (math.log(threshold) - math.log1p(-threshold))
    scaled = [0 if sure else round(abs(z) * SCALE) for z, sure in zip(odds.tolist(), certain.tolist(), strict=True)]
    more_than_all = sum(scaled) + 1
    return [
        ((more_than_all if certain[i] else cost) << 2 * size) + (1 << size) + (1 << size - 1 - i)
        for i, cost in enumerate(scaled)
    ]


def _solve(alone: np.ndarray, costs: list[int], clauses: list[list[tuple[int, bool]]]) -> np.ndarray | None:
    """(A,) bool: all clauses of (attribute, present) hold, at the least cost of differing from ``alone``.

    None if no assignment satisfies the clauses.
    """
    wcnf, rc2 = _pysat()
    formula = wcnf()
    for clause in clauses:
        formula.append([i + 1 if positive else -(i + 1) for i, positive in clause])
    named = sorted({i for clause in clauses for i, _ in clause})
    for i in named:
        formula.append([i + 1 if alone[i] else -(i + 1)], weight=costs[i])
    with rc2(formula, adapt=True) as solver:  # adapt: groups of at most one are found first, for speed
        model = solver.compute()
    if model is None:
        return None
    true, present = set(model), alone.copy()
    present[named] = [i + 1 in true for i in named]
    return present


def _pysat() -> tuple[Any, Any]:
    """``WCNF`` and ``RC2``. Raises ``FaceHostError`` naming the extra where python-sat is not installed."""
    try:
        from pysat.examples.rc2 import RC2
        from pysat.formula import WCNF
    except ImportError as error:
        raise FaceHostError(
            f"a rule is broken, and mending that needs python-sat: pip install 'llava-face-plugin[knowledge]' ({error})"
        ) from error
    return WCNF, RC2
