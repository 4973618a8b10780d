"""Do the rules leave room for a face? Contradictions, forced attributes and redundant rules, by a SAT solver.

Needs the extra ``knowledge`` (python-sat). Rules are read as hard, whatever their weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import FaceHostError
from ..rulebook import Clause, Rule


@dataclass(frozen=True)
class Consistency:
    """What a set of rules amounts to."""

    core: tuple[Rule, ...]
    """Rules that cannot all hold, none of which can be left out of that statement; empty if all rules can hold."""
    forced: tuple[tuple[str, bool, tuple[Rule, ...]], ...]
    """Attributes that every consistent face has (True) or lacks (False), and the rules that say so."""
    redundant: tuple[tuple[int, tuple[Rule, ...]], ...]
    """Rules that others imply: their number (from 0), and those others."""

    @property
    def satisfiable(self) -> bool:
        return not self.core

    def to_dict(self) -> dict[str, Any]:
        """JSON: satisfiable, and the fields with rules as text."""
        forced = [{"attribute": n, "present": p, "because": texts(rules)} for n, p, rules in self.forced]
        redundant = [{"number": n, "implied_by": texts(rules)} for n, rules in self.redundant]
        return {"satisfiable": self.satisfiable, "core": texts(self.core), "forced": forced, "redundant": redundant}


def texts(rules: Iterable[Rule]) -> list[str]:
    return [rule.text() for rule in rules]


def consistency(rules: Sequence[Rule]) -> Consistency:
    """Check a set of rules. Raises ``FaceHostError`` where python-sat is not installed."""
    with Entailment(rules) as solver:
        everything = range(len(rules))
        core = solver.because(everything, ())
        if core is not None:
            return Consistency(tuple(rules[i] for i in core), (), ())
        forced = []
        for name in dict.fromkeys(name for rule in rules for name in rule.attributes()):
            for present in (True, False):
                found = solver.because(everything, ((name, present),))
                if found is not None:
                    forced.append((name, present, tuple(rules[i] for i in found)))
        redundant = []
        for number in everything:
            others = [i for i in everything if i != number]
            reasons = [solver.because(others, clause) for clause in rules[number].clauses()]
            if all(reason is not None for reason in reasons):
                together = sorted({i for reason in reasons for i in reason or ()})
                redundant.append((number, tuple(rules[i] for i in together)))
        return Consistency((), tuple(forced), tuple(redundant))


def contradiction(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """``Consistency.core`` alone, which takes one call of the solver where all is well. Raises as ``consistency``."""
    with Entailment(rules) as solver:
        return tuple(rules[i] for i in solver.because(range(len(rules)), ()) or ())


class Entailment:
    """Asks a SAT solver which of some rules imply a clause. A context: it holds the solver."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._solver = _solver()
        self._number: dict[str, int] = {}
        self._selector = {self._id(f"\0 rule {at}"): at for at in range(len(rules))}
        for selector, at in self._selector.items():  # clause or not this rule
            for clause in rules[at].clauses():
                self._solver.add_clause([-selector, *self._literals(clause)])

    def __enter__(self) -> Entailment:
        return self

    def __exit__(self, *_: object) -> None:
        self._solver.delete()

    def because(self, rules: Iterable[int], clause: Clause) -> list[int] | None:
        """Numbers of rules that imply the clause, without any one that is not needed; None if ``rules`` do not.

        The empty clause asks whether they contradict each other.
        """
        against = [-literal for literal in self._literals(clause)]
        selectors = {at: selector for selector, at in self._selector.items()}
        needed = [selectors[at] for at in rules]
        if self._solver.solve(assumptions=[*against, *needed]):
            return None
        needed = [s for s in self._solver.get_core() or [] if s in self._selector]
        for selector in sorted(needed, reverse=True):
            rest = [s for s in needed if s != selector]
            if not self._solver.solve(assumptions=[*against, *rest]):
                needed = rest
        return sorted(self._selector[s] for s in needed)

    def _literals(self, clause: Clause) -> list[int]:
        return [self._id(name) if positive else -self._id(name) for name, positive in clause]

    def _id(self, name: str) -> int:
        return self._number.setdefault(name, len(self._number) + 1)


def _solver() -> Any:
    try:
        from pysat.solvers import Solver
    except ImportError as error:
        raise FaceHostError(
            f"checking rules needs python-sat: pip install 'llava-face-plugin[knowledge]' ({error})"
        ) from error
    return Solver(name="glucose4", incr=True)
