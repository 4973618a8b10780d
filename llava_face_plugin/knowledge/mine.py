"""Rules of two attributes, proposed by the counts of pairs: who has A, or lacks it, (almost) always or never has B.

Needs the extra ``knowledge``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FaceDataError
from ..rulebook import Rule, dump_rules
from .check import Entailment
from .cooccurrence import Cooccurrence, wilson
from .file import Knowledge

_GENDER = {"male", "female", "man", "woman"}
"""Rules through these are of the group ``gender``, which ``--without gender`` removes, as in the built-in sets."""


@dataclass(frozen=True)
class Proposal:
    """A mined rule and the counts behind it."""

    rule: Rule
    violated: int
    support: int
    """Rows with the antecedent in which the consequent is known."""
    interval: tuple[float, float]
    """95 % Wilson interval of the violation rate."""
    chance: float
    """The violation rate if the antecedent said nothing about the consequent."""

    @property
    def rate(self) -> float:
        return self.violated / self.support


@dataclass(frozen=True)
class Mined:
    """``kept``: the proposals, the surest first. ``folded``: how many more follow from these and the known rules."""

    kept: tuple[Proposal, ...]
    folded: int


def mine(
    counts: Cooccurrence,
    known: Sequence[Rule] = (),
    *,
    min_support: int = 200,
    max_rate: float = 0.02,
    max_of_chance: float = 0.1,
) -> Mined:
    """Rules of two attributes from label counts: A => B, A => not B, not A => B (thresholds: our defaults).

    A proposal needs ``min_support`` rows with A (or not A) and a known B, and a violation rate whose 95 % interval ends
    at or below ``max_rate``, so that a rare attribute cannot pass by luck, and at or below ``max_of_chance`` times the
    rate among all rows, so that "nearly everybody has B" proposes nothing. Where A => not B and B => not A both pass it
    is an exclusion, where not A => B and not B => A do "at least one", with the counts of the rarer one, as ``knowledge
    build`` counts it. Rules of more than two attributes are not proposed: counts of pairs cannot show that one of three
    is always there, and at most one of three is three exclusions. What the surer proposals and the ``known`` rules
    imply is folded into them.

    Raises ``FaceHostError`` where python-sat is not installed.
    """
    found = sorted(
        _proposals(counts, min_support, max_rate, max_of_chance), key=lambda p: (p.interval[1], p.rule.text())
    )
    with Entailment([*known, *(proposal.rule for proposal in found)]) as solver:
        given = list(range(len(known)))
        clauses = dict(enumerate((proposal.rule.clauses()[0] for proposal in found), start=len(known)))
        kept: list[int] = []
        for at, clause in clauses.items():
            if solver.because([*given, *kept], clause) is None:
                kept.append(at)
        for at in reversed(kept.copy()):  # a later one may, with others, say what an earlier one says
            others = [other for other in kept if other != at]
            if solver.because([*given, *others], clauses[at]) is not None:
                kept = others
    return Mined(tuple(found[at - len(known)] for at in kept), len(found) - len(kept))


def mine_file(knowledge: Knowledge, name: str, **options: Any) -> tuple[Mined, str]:
    """Mine a knowledge file: the proposals beyond its own rules, and the text of a rule file.

    Its rules say where they come from. Raises ``FaceDataError`` unless its counts are of the training split alone.
    """
    split = knowledge.meta.get("split")
    if split != "train":
        raise FaceDataError(f"{name}: counted from split {split!r}; rules are mined from 'train' alone")
    mined = mine(knowledge.cooccurrence, knowledge.rules, **options)
    rules = []
    for proposal in mined.kept:
        numbers = f"violations {proposal.violated} of {proposal.support}"
        source = f"mined from {knowledge.meta.get('dataset', name)} train, {numbers}"
        rules.append(dataclasses.replace(proposal.rule, source=source))
    more = f"; {mined.folded} more follow from these and the file's own rules" if mined.folded else ""
    description = f"Proposed by `llava-face knowledge mine` from {name}{more}. Read them before use."
    return mined, dump_rules(rules, description)


def _proposals(counts: Cooccurrence, min_support: int, max_rate: float, max_of_chance: float) -> list[Proposal]:
    names, n, joint = counts.vocabulary, counts.support, counts.joint
    # [A, B]: rows by the values of A and B, among those in which both are known
    rows = {(1, 1): joint, (1, 0): n - joint, (0, 1): n.T - joint, (0, 0): counts.both - n - n.T + joint}
    found: list[Proposal] = []
    for if_, then in ((1, 1), (1, 0), (0, 1)):  # not A => not B is B => A
        violated, support = rows[if_, 1 - then], rows[if_, 0] + rows[if_, 1]
        opposite = rows[1, 1 - then] + rows[0, 1 - then]
        chance = np.divide(opposite, counts.both, out=np.zeros(n.shape), where=counts.both > 0)
        low, high = wilson(violated, support)
        passes = (support >= min_support) & (high <= np.minimum(max_rate, max_of_chance * chance))
        np.fill_diagonal(passes, False)
        for i, j in np.argwhere(passes).tolist():
            both_ways = if_ != then and passes[j, i]
            if both_ways and (support[i, j], i) > (support[j, i], j):
                continue  # said with the counts of the rarer side
            of, group = (names[i], names[j]), _group(names[i], names[j])
            if both_ways:
                rule = Rule("exclusion" if if_ else "at_least_one", of=of, group=group)
            else:
                words = [name if positive else f"not {name}" for name, positive in zip(of, (if_, then), strict=True)]
                rule = Rule("implication", (words[0],), (words[1],), group=group)
            interval = (float(low[i, j]), float(high[i, j]))
            found.append(Proposal(rule, int(violated[i, j]), int(support[i, j]), interval, float(chance[i, j])))
    return found


def _group(*names: str) -> str:
    values = {name.casefold().rpartition(":")[2] for name in names}  # "gender:Male" of a closed set, or "Male"
    return "gender" if _GENDER & values else "mined"
