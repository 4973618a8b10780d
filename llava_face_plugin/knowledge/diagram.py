"""Rules compiled to decision diagrams, by which the probability that they hold is a sum of products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..rulebook import Clause, Rule, SignedName, signed

TRUE, FALSE = -1, -2
Node = tuple[int, int]
"""Where a literal that holds, and one that does not, lead: a node of the next layer, ``TRUE`` or ``FALSE``."""

_Residual = frozenset[frozenset[int]]


@dataclass(frozen=True)
class Diagram:
    """A layered decision diagram (OBDD) of a rule: layer t decides literal t, layer 0 has one node.

    Nodes are clauses that are still to be met, equal ones merged, so "at most one of n" has two nodes a layer.
    Rules of the same form have equal ``layers`` and differ only in ``literals``.
    """

    literals: tuple[SignedName, ...]
    """L literals, one an attribute."""
    layers: tuple[tuple[Node, ...], ...]


def compile_rule(rule: Rule) -> Diagram:
    """The diagram of a rule. One of many has a clause a pair, and its diagram is well known: no search for it."""
    if len(rule.of) <= 2 or rule.kind == "at_least_one":
        return compile_clauses(rule.clauses())
    return Diagram(tuple(map(signed, rule.of)), _one_of(len(rule.of), exactly=rule.kind == "exactly_one"))


def _one_of(number: int, exactly: bool) -> tuple[tuple[Node, ...], ...]:
    """At most one of so many literals, or exactly one: in each layer a node for "one so far", and one for "none"."""
    layers: list[tuple[Node, ...]] = []
    for left in reversed(range(number)):  # literals of the layers below
        one = (FALSE, 0 if left else TRUE)
        missing = FALSE if exactly else TRUE  # where the literals end without one
        none = (0 if left else TRUE, 1 if left > (not exactly) else missing)
        layers.append((one, none) if layers else (none,))
    return (*layers[:-1], layers[-1] if exactly else layers[-1][:1])


def compile_clauses(clauses: Sequence[Clause]) -> Diagram:
    """The diagram of all ``clauses`` together; attributes are decided in the order in which they occur.

    Raises ``ValueError`` for clauses that no assignment meets, or that every one does.
    """
    signs: dict[str, bool] = {}
    for clause in clauses:
        for name, positive in clause:
            signs.setdefault(name, positive)
    number = {name: at for at, name in enumerate(signs, start=1)}
    layer = {_simplified({frozenset(_code(number, signs, literal) for literal in clause) for clause in clauses}): 0}
    layers = []
    for literal in range(1, len(signs) + 1):
        nodes, following = [], dict[_Residual, int]()
        for residual in layer:
            ends = []
            for outcome in (literal, -literal):
                left = _simplified({c - {-outcome} for c in residual if outcome not in c})
                end = TRUE if not left else FALSE if frozenset() in left else following.setdefault(left, len(following))
                ends.append(end)
            nodes.append((ends[0], ends[1]))
        layers.append(tuple(nodes))
        layer = following
    ends_met = {end for nodes in layers for node in nodes for end in node if end < 0}
    if ends_met != {TRUE, FALSE}:
        raise ValueError("clauses that always hold, or never, make no rule")
    return Diagram(tuple(signs.items()), tuple(layers))


def _code(number: dict[str, int], signs: dict[str, bool], literal: SignedName) -> int:
    name, positive = literal
    return number[name] if positive == signs[name] else -number[name]


def _simplified(clauses: set[frozenset[int]]) -> _Residual:
    """Without clauses that another one implies, so that equal nodes look equal."""
    return frozenset(c for c in clauses if not any(other < c for other in clauses))
