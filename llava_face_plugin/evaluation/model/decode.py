"""Greedy answers to many questions that share prefixes.

A *row* is one prefix (system prompt, image, the questions' common start) and its *branches* (the rest of each
question). The prefix is computed once. All branches of a row then lie one after the other in the same sequence; an
attention mask lets a token see its row's prefix and its own branch only, and its position is counted as if the branch
were alone. So the keys and values of the prefix exist once, are never copied per question, and rows of different
images are batched with right padding (the mask of tree attention as in SpecInfer, arXiv 2305.09781, section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .caches import crop, mask_4d, new_cache
from .host import Host

_PREFIX = -2  # a column that all branches of the row see
_PADDING = -1  # a column or query that nobody sees, and that sees nobody


@dataclass
class Branch:
    """One question's own tokens, and its answer as far as it has come."""

    ids: list[int]
    """At least one: its hidden state decides the first new token."""
    max_new_tokens: int
    stopped: Callable[[Sequence[int]], bool] | None = None
    """Asked after each new token whether the answer is complete."""
    answer: list[int] = field(default_factory=list)
    """New tokens, an end token included."""
    margin: float = float("inf")
    """Least distance of the two best logits over all steps, as a fraction of the step's largest absolute logit."""


class Prefixes:
    """The computed prefixes of some rows."""

    @torch.inference_mode()
    def __init__(self, host: Host, embeddings: Sequence[Tensor]) -> None:
        """``embeddings``: (P, D) of each row; P may differ and may be 0."""
        self.host = host
        self.lengths = torch.tensor([len(rows) for rows in embeddings], device=host.device)
        self.width = int(self.lengths.max())
        self.cache = new_cache()
        if self.width:  # no mask: padding comes last, so no token of a prefix sees any
            padded = pad_sequence(list(embeddings), batch_first=True)
            host.decoder(inputs_embeds=padded, past_key_values=self.cache, use_cache=True)

    @torch.inference_mode()
    def answer(self, branches: Sequence[Sequence[Branch]]) -> None:
        """Fills in the answers of each row's branches. May be called again with other branches."""
        tree = _Tree(self)
        hidden = tree.extend(_suffixes(branches, self.lengths))
        alive = [(row, index, branch) for row, column in enumerate(branches) for index, branch in enumerate(column)]
        where = [(row, _last(branches[row], index)) for row, index, _ in alive]
        while alive:
            self._choose(hidden, where, [branch for *_, branch in alive])
            alive = [entry for entry in alive if not _complete(entry[2], self.host.eos)]
            if alive:
                tokens, where = _next_tokens(alive, len(branches), self.lengths)
                hidden = tree.extend(tokens)
        crop(self.cache, self.width)

    def _choose(self, hidden: Tensor, where: list[tuple[int, int]], branches: list[Branch]) -> None:
        rows, columns = zip(*where, strict=True)
        logits = self.host.head(hidden[list(rows), list(columns)]).float()
        best = logits.topk(2, dim=-1).values
        # argmax, not topk's index: of equal logits the first, as generate takes it
        chosen = logits.argmax(-1).tolist()
        margins = ((best[:, 0] - best[:, 1]) / logits.abs().amax(-1)).tolist()
        for branch, token, margin in zip(branches, chosen, margins, strict=True):
            branch.answer.append(token)
            branch.margin = min(branch.margin, margin)


@dataclass
class _Tokens:
    """One forward pass: (R, T) each, on the CPU. ``owners`` is the branch of a token."""

    ids: Tensor
    owners: Tensor
    positions: Tensor


class _Tree:
    """The sequence of each row so far: who owns which column of the cache."""

    def __init__(self, prefixes: Prefixes) -> None:
        self.host, self.cache = prefixes.host, prefixes.cache
        columns = torch.arange(prefixes.width, device=self.host.device)
        inside = columns < prefixes.lengths[:, None]
        self.owners = torch.where(inside, _PREFIX, _PADDING)

    def extend(self, tokens: _Tokens) -> Tensor:
        """Hidden states (R, T, D) of new tokens, which stay in the cache."""
        device = self.host.device
        owners = tokens.owners.to(device)
        past, count = self.owners.shape[1], owners.shape[1]
        self.owners = torch.cat([self.owners, owners], dim=1)
        seen = (owners[:, :, None] == self.owners[:, None, :]) | (self.owners == _PREFIX)[:, None, :]
        seen &= (owners != _PADDING)[:, :, None]
        seen[:, :, past:] &= torch.ones(count, count, dtype=torch.bool, device=device).tril()
        output: Any = self.host.decoder(
            inputs_embeds=self.host.embed(tokens.ids.to(device)),
            attention_mask=mask_4d(seen, self.host.dtype),
            position_ids=tokens.positions.to(device),
            past_key_values=self.cache,
            use_cache=True,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden


def _suffixes(branches: Sequence[Sequence[Branch]], lengths: Tensor) -> _Tokens:
    """All branches of each row, one after the other."""
    ids, owners, positions = [], [], []
    for row, length in zip(branches, lengths.tolist(), strict=True):
        ids.append([token for branch in row for token in branch.ids])
        owners.append([index for index, branch in enumerate(row) for _ in branch.ids])
        positions.append([length + place for branch in row for place in range(len(branch.ids))])
    return _tokens(ids, owners, positions)


def _last(row: Sequence[Branch], index: int) -> int:
    return sum(len(branch.ids) for branch in row[: index + 1]) - 1


def _next_tokens(
    alive: list[tuple[int, int, Branch]], rows: int, lengths: Tensor
) -> tuple[_Tokens, list[tuple[int, int]]]:
    """The newest token of each branch that goes on, and where its hidden state will be."""
    ids: list[list[int]] = [[] for _ in range(rows)]
    owners: list[list[int]] = [[] for _ in range(rows)]
    positions: list[list[int]] = [[] for _ in range(rows)]
    where = []
    starts = lengths.tolist()
    for row, index, branch in alive:
        where.append((row, len(ids[row])))
        ids[row].append(branch.answer[-1])
        owners[row].append(index)
        positions[row].append(starts[row] + len(branch.ids) + len(branch.answer) - 1)
    return _tokens(ids, owners, positions), where


def _tokens(ids: list[list[int]], owners: list[list[int]], positions: list[list[int]]) -> _Tokens:
    def padded(rows: list[list[int]], value: int) -> Tensor:
        return pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], True, value)

    return _Tokens(padded(ids, 0), padded(owners, _PADDING), padded(positions, 0))


def _complete(branch: Branch, eos: frozenset[int]) -> bool:
    if branch.answer[-1] in eos or len(branch.answer) >= branch.max_new_tokens:
        return True
    return branch.stopped is not None and branch.stopped(branch.answer)
