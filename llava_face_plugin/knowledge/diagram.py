"""Clauses compiled to decision diagrams, by which the probability that they hold is a sum of products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..rulebook import Clause, SignedName

TRUE, FALSE = -1, -2
Node = tuple[int, int]
"""Where a literal that holds, and one that does not, lead: a node of the next layer, ``TRUE`` or ``FALSE``."""

_Residual = frozenset[frozenset[int]]


@dataclass(frozen=True)
class Diagram:
    """A layered decision diagram (OBDD) of some clauses: layer t decides literal t, layer 0 has one node.

    Nodes are clauses that are still to be met, equal ones merged, so "at most one of n" has two nodes a layer.
    Rules of the same form have equal ``layers`` and differ only in ``literals``.
    """

    literals: tuple[SignedName, ...]
    """L literals, one an attribute: with the sign in which the attribute first occurs."""
    layers: tuple[tuple[Node, ...], ...]

    @property
    def nodes(self) -> int:
        return sum(map(len, self.layers))


def compile_clauses(clauses: Sequence[Clause], order: Sequence[str] = ()) -> Diagram:
    """The diagram of all ``clauses`` together. ``order``: which attribute is decided when (default: as they occur).

    Raises ``ValueError`` for clauses that no assignment meets, or that every one does.
    """
    signs: dict[str, bool] = {}
    for clause in clauses:
        for name, positive in clause:
            signs.setdefault(name, positive)
    names = [name for name in order if name in signs] or list(signs)
    number = {name: at for at, name in enumerate(names, start=1)}
    layer = {_simplified({frozenset(_code(number, signs, literal) for literal in clause) for clause in clauses}): 0}
    layers = []
    for literal in range(1, len(names) + 1):
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
    return Diagram(tuple((name, signs[name]) for name in names), tuple(layers))


def _code(number: dict[str, int], signs: dict[str, bool], literal: SignedName) -> int:
    name, positive = literal
    return number[name] if positive == signs[name] else -number[name]


def _simplified(clauses: set[frozenset[int]]) -> _Residual:
    """Without clauses that another one implies, so that equal nodes look equal."""
    return frozenset(c for c in clauses if not any(other < c for other in clauses))
