"""The logical module: rules as a differentiable loss. (How rules are written is in ``rulebook``.)"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..constants import Constants
from ..rulebook import Rule, SignedName, check_rules, load_rules
from .diagram import FALSE, TRUE, Node, compile_rule
from .tally import RuleTally, violations, weigh

__all__ = ["LogicalModule", "Rule", "RuleTally", "check_rules", "load_rules", "violations", "weigh"]


class LogicalModule:
    """FaceInsight's logical module. The paper's formula is not readable: this one is our default.

    A rule's loss is exactly -log P(rule holds) when the attributes are independent Bernoulli(sigmoid(logit)):
    product fuzzy logic, and the semantic loss of Xu et al. (ICML 2018). With V and H the probabilities that
    the rule is broken and that it holds, the loss is softplus(log V - log H). Both logarithms are sums of
    positive terms along the paths of the rule's decision diagram, in float32, so that value and gradient are
    finite and accurate at both ends (a log(1 - V) would be neither for a rule that is broken with certainty).
    Rules of the same form are computed together.

    It has no parameters and no buffers. Raises ``FaceDataError`` if a rule names an unknown attribute.
    """

    def __init__(self, rules: Sequence[Rule], vocabulary: Sequence[str]) -> None:
        check_rules(rules, vocabulary)
        self.vocabulary, self.rules = tuple(vocabulary), tuple(rules)
        diagrams = [compile_rule(rule) for rule in rules]
        forms: dict[tuple[tuple[Node, ...], ...], list[int]] = {}
        for at, diagram in enumerate(diagrams):
            forms.setdefault(diagram.layers, []).append(at)
        self._forms = [(layers, len(members)) for layers, members in forms.items()]
        members = [at for group in forms.values() for at in group]
        self._arrays = {
            "literals": self._columns([literal for at in members for literal in diagrams[at].literals]),
            "order": np.argsort(np.array(members, dtype=np.int64)),
            "weights": np.array([rule.weight for rule in rules], dtype=np.float64),
            "attributes": self._rows([[(name, True) for name in rule.attributes()] for rule in rules]),
        }
        clauses = [(at, clause) for at, rule in enumerate(rules) for clause in rule.clauses()]
        self._arrays["clauses"] = self._rows([clause for _, clause in clauses])
        self._arrays["rule_of"] = np.array([at for at, _ in clauses], dtype=np.int64)
        self._constants = Constants()

    def __len__(self) -> int:
        return len(self.rules)

    def rule_losses(self, logits: Tensor) -> Tensor:
        """(B, A) logits -> (B, R): -log P(rule holds) >= 0, unweighted, in the order of ``rules``.

        float32 for every dtype of logits but float64, which stays.
        """
        x = logits if logits.dtype == torch.float64 else logits.float()
        logs = F.logsigmoid(torch.cat([x, -x], dim=1))  # (B, 2A) of every literal
        columns = self._constant("literals", x.device, torch.long)
        pairs = torch.stack([columns, (columns + len(self.vocabulary)) % (2 * len(self.vocabulary) or 1)])
        true, false = logs[:, pairs].unbind(dim=1)
        losses, start = [logs[:, :0]], 0  # connected to the graph, should there be no rule
        for layers, members in self._forms:
            end = start + members * len(layers)
            shape = (len(x), members, len(layers))
            losses.append(_loss(layers, true[:, start:end].view(shape), false[:, start:end].view(shape)))
            start = end
        return torch.cat(losses, dim=1)[:, self._constant("order", x.device, torch.long)]

    def loss_per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B,) float32 (float64 for such logits): mean of weight * loss over a sample's active rules, 0 without any.

        Args:
            logits: (B, A), any float dtype.
            labels: (B, A) int8 with -1 unknown, 0, 1. Which labels are *known* decides which rules are active
                (all of a rule's attributes must be); their values are not read.
        """
        if logits.shape != labels.shape or logits.shape[1:] != (len(self.vocabulary),):
            shapes = f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)}"
            raise ValueError(f"{shapes}: expected (B, {len(self.vocabulary)}) for both")
        losses = self.rule_losses(logits)
        active = (labels >= 0)[:, self._constant("attributes", labels.device, torch.long)].all(dim=-1)
        weighted = losses * self._constant("weights", logits.device, losses.dtype)
        return torch.where(active, weighted, 0.0).sum(dim=1) / active.sum(dim=1).clamp(min=1)

    @torch.no_grad()
    def violation_rate(self, predictions: Tensor) -> Tensor:
        """(B, A) probabilities or 0/1 predictions -> (R,) float32, the share of B samples that break each
        rule.

        An attribute is present where its prediction is at least 0.5. Unlike in ``violations``, an implication
        is counted over all samples, not only over those where its antecedent holds.
        """
        present = predictions >= 0.5
        literals = torch.cat([present, ~present], dim=1)[:, self._constant("clauses", present.device, torch.long)]
        unmet = (~literals.any(dim=-1)).int()  # (B, clauses)
        rule_of = self._constant("rule_of", present.device, torch.long)
        number = unmet.new_zeros((len(present), len(self.rules))).index_add_(1, rule_of, unmet)
        return (number > 0).float().sum(dim=0) / max(len(predictions), 1)

    def _columns(self, literals: Sequence[SignedName]) -> np.ndarray:
        """(n,) int64 columns of a (B, 2A) table: present attributes, then absent ones."""
        index = {name: at for at, name in enumerate(self.vocabulary)}
        columns = [index[name] + (0 if positive else len(index)) for name, positive in literals]
        return np.array(columns, dtype=np.int64)

    def _rows(self, rows: Sequence[Sequence[SignedName]]) -> np.ndarray:
        """(R, L) int64 columns; shorter rows repeat their first literal, which no all or any minds."""
        width = max(map(len, rows), default=1)
        padded = [literal for row in rows for literal in [*row, *[row[0]] * (width - len(row))]]
        return self._columns(padded).reshape(len(rows), width)

    def _constant(self, name: str, device: torch.device, dtype: torch.dtype) -> Tensor:
        return self._constants.get(name, self._arrays[name], device, dtype)


def _loss(layers: tuple[tuple[Node, ...], ...], true: Tensor, false: Tensor) -> Tensor:
    """(..., L) log-probabilities that the literals hold, and that they do not -> (...) -log P(the diagram's clauses).

    A node's mass is the log-probability of reaching it.
    """
    masses: dict[int, Tensor] = {}
    ends: dict[int, Tensor] = {}
    for depth, nodes in enumerate(layers):
        following: dict[int, Tensor] = {}
        for at, (met, unmet) in enumerate(nodes):
            if depth and met == unmet:  # this literal changes nothing
                steps = [(met, masses[at])]
            else:
                steps = [(met, true[..., depth]), (unmet, false[..., depth])]
                steps = [(end, masses[at] + literal if depth else literal) for end, literal in steps]
            for end, mass in steps:
                reached = ends if end < 0 else following
                reached[end] = torch.logaddexp(reached[end], mass) if end in reached else mass
        masses = following
    return F.softplus(ends[FALSE] - ends[TRUE])
