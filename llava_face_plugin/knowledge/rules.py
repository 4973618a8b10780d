"""The logical module: rules as a differentiable loss. (How rules are written is in ``rulebook``.)"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..constants import Constants
from ..rulebook import Rule, SignedName, check_rules, load_rules, signed
from .tally import RuleTally, violations, weigh

__all__ = ["LogicalModule", "Rule", "RuleTally", "check_rules", "load_rules", "violations", "weigh"]

_Reduce = Callable[[Tensor], Tensor]
_FALSE = -1e30  # log-odds of a literal that never holds: fills the rows of shorter rules


class LogicalModule:
    """FaceInsight's logical module. The paper's formula is not readable: this one is our default.

    A rule's loss is exactly -log P(rule holds) when the attributes are independent Bernoulli(sigmoid(logit)):
    product fuzzy logic, and the semantic loss of Xu et al. (ICML 2018). With V and H the probabilities that
    the rule is broken and that it holds, the loss is softplus(log V - log H). Both logarithms are built one
    literal at a time from sums of positive terms in float32, so that value and gradient are finite and
    accurate at both ends (a log(1 - V) would be neither for a rule that is broken with certainty).

    It has no parameters and no buffers. Raises ``FaceDataError`` if a rule names an unknown attribute.
    """

    def __init__(self, rules: Sequence[Rule], vocabulary: Sequence[str]) -> None:
        check_rules(rules, vocabulary)
        self.vocabulary = tuple(vocabulary)
        # Clauses ("at least one of these literals") first, then the groups ("at most one of these literals").
        self.rules = tuple(rules)
        clauses = [(at, clause) for at, rule in enumerate(rules) if (clause := rule.clause()) is not None]
        groups = [
            (at, tuple(signed(literal) for literal in rule.of))
            for at, rule in enumerate(rules)
            if rule.clause() is None
        ]
        self._arrays = {
            "clauses": _literal_columns([literals for _, literals in clauses], self.vocabulary),
            "groups": _literal_columns([literals for _, literals in groups], self.vocabulary),
            "order": np.argsort(np.array([at for at, _ in (*clauses, *groups)], dtype=np.int64)),
            "weights": np.array([rule.weight for rule in rules], dtype=np.float64),
        }
        self._constants = Constants()

    def __len__(self) -> int:
        return len(self.rules)

    def rule_losses(self, logits: Tensor) -> Tensor:
        """(B, A) logits -> (B, R) float32: -log P(rule holds) >= 0, unweighted, in the order of ``rules``."""
        x = logits.float()
        table = torch.cat([x, -x, x.new_full((len(x), 1), _FALSE)], dim=1)
        return self._by_rule(table, _at_least_one_loss, _at_most_one_loss)

    def loss_per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B,) float32: the mean of weight * loss over a sample's active rules, 0 if none is active.

        Args:
            logits: (B, A), any float dtype.
            labels: (B, A) int8 with -1 unknown, 0, 1. Which labels are *known* decides which rules are active
                (all
                of a rule's attributes must be); their values are not read.
        """
        if logits.shape != labels.shape or logits.shape[1:] != (len(self.vocabulary),):
            shapes = f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)}"
            raise ValueError(f"{shapes}: expected (B, {len(self.vocabulary)}) for both")
        known = labels >= 0
        table = torch.cat([known, known, known.new_ones((len(known), 1))], dim=1)
        active = self._by_rule(table, _all, _all)
        weighted = self.rule_losses(logits) * self._constant("weights", logits.device, torch.float32)
        return torch.where(active, weighted, 0.0).sum(dim=1) / active.sum(dim=1).clamp(min=1)

    @torch.no_grad()
    def violation_rate(self, predictions: Tensor) -> Tensor:
        """(B, A) probabilities or 0/1 predictions -> (R,) float32, the share of B samples that break each
        rule.

        An attribute is present where its prediction is at least 0.5. Unlike in ``violations``, an implication
        is counted over all samples, not only over those where its antecedent holds.
        """
        present = predictions >= 0.5
        table = torch.cat([present, ~present, present.new_zeros((len(present), 1))], dim=1)
        broken = self._by_rule(table, lambda z: ~z.any(dim=-1), lambda z: z.sum(dim=-1) > 1)
        return broken.float().sum(dim=0) / max(len(predictions), 1)

    def _by_rule(self, table: Tensor, on_clauses: _Reduce, on_groups: _Reduce) -> Tensor:
        """(B, 2A+1) values of all literals -> (B, R): each rule's literals reduced, by form."""
        clauses = on_clauses(table[:, self._constant("clauses", table.device, torch.long)])
        groups = on_groups(table[:, self._constant("groups", table.device, torch.long)])
        return torch.cat([clauses, groups], dim=1)[:, self._constant("order", table.device, torch.long)]

    def _constant(self, name: str, device: torch.device, dtype: torch.dtype) -> Tensor:
        return self._constants.get(name, self._arrays[name], device, dtype)


def _at_least_one_loss(z: Tensor) -> Tensor:
    """(..., L) log-odds of independent literals -> (...) -log P(at least one holds)."""
    true, false = F.logsigmoid(z), F.logsigmoid(-z)
    none, some = false[..., 0], true[..., 0]
    for i in range(1, z.shape[-1]):
        some = torch.logaddexp(some, none + true[..., i])
        none = none + false[..., i]
    return F.softplus(none - some)


def _at_most_one_loss(z: Tensor) -> Tensor:
    """(..., L) log-odds of independent literals -> (...) -log P(at most one holds).

    Equal to sum_i softplus(z_i) - logsumexp(0, z), which loses small values to cancellation.
    """
    true, false = F.logsigmoid(z), F.logsigmoid(-z)
    none, one, more = false[..., 0], true[..., 0], torch.full_like(z[..., 0], _FALSE)
    for i in range(1, z.shape[-1]):
        more = torch.logaddexp(more, one + true[..., i])
        one = torch.logaddexp(one + false[..., i], none + true[..., i])
        none = none + false[..., i]
    return F.softplus(more - torch.logaddexp(none, one))


def _all(z: Tensor) -> Tensor:
    return z.all(dim=-1)


def _literal_columns(literals: Sequence[Sequence[SignedName]], vocabulary: Sequence[str]) -> np.ndarray:
    """(R, L) int64 columns of a (B, 2A+1) table: present attributes, absent attributes, one filler."""
    size = len(vocabulary)
    columns = np.full((len(literals), max(map(len, literals), default=1)), 2 * size, dtype=np.int64)
    for row, rule in enumerate(literals):
        for place, (name, positive) in enumerate(rule):
            columns[row, place] = vocabulary.index(name) + (0 if positive else size)
    return columns
