"""The parts of a mixture of experts: router, experts, dispatch, and the router's losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Expert(nn.Module):
    """A two-layer GELU MLP, (..., in_width) -> (..., out_width)."""

    def __init__(self, in_width: int, hidden: int, out_width: int) -> None:
        super().__init__()
        self.widen = nn.Linear(in_width, hidden)
        self.project = nn.Linear(hidden, out_width)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(F.gelu(self.widen(x)))

    def reset_parameters(self) -> None:
        """Fresh weights."""
        self.widen.reset_parameters()
        self.project.reset_parameters()


class Router(nn.Linear):
    """(..., in_width) -> logits (..., experts), float32 in every precision (Switch Transformers, section 2.4).

    It starts small, as theirs: the patches of an image have much in common, so that at first nearly all may choose the
    same experts, and the smaller the logits are, the sooner the balance loss has that changed.
    """

    def __init__(self, in_width: int, experts: int) -> None:
        super().__init__(in_width, experts, bias=False)

    def reset_parameters(self) -> None:
        """Truncated normal, variance 0.1 / in_width."""
        nn.init.trunc_normal_(self.weight, std=math.sqrt(0.1 / self.in_features))

    def forward(self, x: Tensor) -> Tensor:
        exact = nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
        with exact:
            return F.linear(x.float(), self.weight.float())


class Routing(NamedTuple):
    """Which experts a token goes to."""

    probabilities: Tensor
    """(B, P, K) float32, softmax of the router's logits."""
    gates: Tensor
    """(B, P, K) float32: the probabilities of the chosen experts, divided by their sum; 0 for the others."""
    chosen: Tensor
    """(B, P, K) bool, ``top_k`` of them True."""


def route(logits: Tensor, top_k: int) -> Routing:
    """Router logits (B, P, K) -> top-k routing with renormalised gates."""
    probabilities = logits.softmax(dim=-1)
    best, places = probabilities.topk(top_k, dim=-1)
    gates = torch.zeros_like(probabilities).scatter(-1, places, best / best.sum(dim=-1, keepdim=True))
    chosen = torch.zeros_like(probabilities, dtype=torch.bool).scatter(-1, places, True)
    return Routing(probabilities, gates, chosen)


def dense(experts: Sequence[nn.Module], x: Tensor, routing: Routing) -> Tensor:
    """Every expert sees every token; those that were not chosen count 0. (B, P, in) -> (B, P, out)."""
    gates = routing.gates.to(x.dtype)
    parts = [gates[..., k, None] * expert(x) for k, expert in enumerate(experts)]
    return sum(parts[1:], parts[0])


def grouped(experts: Sequence[nn.Module], x: Tensor, routing: Routing) -> Tensor:
    """Every expert sees the tokens that chose it. The same result as ``dense``, up to rounding.

    An expert that none chose still runs, on no token: its parameters stay in the graph, and ZeRO-3 gathers the same
    weights in the same order on every rank. How many tokens there are is read back from the device.
    """
    rows, gates = x.flatten(0, 1), routing.gates.to(x.dtype).flatten(0, 1)  # (B * P, ...)
    chosen = routing.chosen.flatten(0, 1)
    out: Tensor | None = None
    for k, expert in enumerate(experts):
        mine = chosen[:, k].nonzero()[:, 0]
        part = gates[mine, k, None] * expert(rows[mine])
        out = part.new_zeros(len(rows), part.shape[-1]) if out is None else out
        out = out.index_add(0, mine, part)
    assert out is not None
    return out.unflatten(0, x.shape[:2])


DISPATCH: dict[str, Callable[[Sequence[nn.Module], Tensor, Routing], Tensor]] = {"dense": dense, "grouped": grouped}


def load(routing: Routing, dim: tuple[int, ...] = (0, 1)) -> Tensor:
    """Share of the tokens' choices that fall on each expert: (K,), or (B, K) over ``dim`` (1,). Sums to 1."""
    counts = routing.chosen.float().mean(dim=dim)
    return counts / counts.sum(dim=-1, keepdim=True)


def balance_loss(routing: Routing, per_image: bool = False) -> Tensor:
    """K * sum_k load_k * p_k, with p_k the mean probability of expert k: 1 where all are used alike. Scalar.

    Fedus et al., Switch Transformers (2021), equation 4, its f_k counted over all ``top_k`` choices (GShard, Lepikhin
    et al. 2020, counts the first). Over all tokens of the batch; ``per_image``: over each image's own (a group of
    GShard), then the mean. Only that form is the same whatever the batch is cut into.
    """
    dim = (1,) if per_image else (0, 1)
    experts = routing.probabilities.shape[-1]
    return experts * (load(routing, dim) * routing.probabilities.mean(dim=dim)).sum(dim=-1).mean()


def z_loss(logits: Tensor) -> Tensor:
    """Mean over the tokens of logsumexp(logits)^2: keeps the logits small. Zoph et al., ST-MoE (2022), equation 5."""
    return logits.logsumexp(dim=-1).square().mean()


def entropy(probabilities: Tensor) -> Tensor:
    """Mean over the tokens of the entropy of their probabilities, in nats; at most log K. Scalar."""
    return torch.special.entr(probabilities).sum(dim=-1).mean()
