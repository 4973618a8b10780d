"""The text that each image is shown with, for fusions that read it: from a batch of token ids to a ``Prompt``.

A text's prompt is all of it before its answer, the first supervised token. Without labels (inference): all of it. With
labels that supervise nothing in a text: none of it, since nobody knows where its answer begins.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import FaceHostError
from ..fusion import Prompt

IGNORE = -100
"""The label of a token that is not supervised, in every host."""


class Texts(NamedTuple):
    """The texts of a batch, images and videos as placeholders."""

    input_ids: Tensor | None
    """(S, L) int64; None where a caller brought embeddings of its own."""
    attention_mask: Tensor | None
    """(S, L), 0 at padding; or (S, 1, L, K), bool or added to the scores. None: no padding."""
    labels: Tensor | None
    """(S, L), ``IGNORE`` where nothing is supervised; None where nothing is at all, or nobody knows."""
    markup: frozenset[int] = frozenset()
    """Ids that a template supervises in questions, too, so that no answer begins with one."""


def prompt_of(
    texts: Texts, rows: Sequence[int], places: Collection[int], embed: Callable[[Tensor], Tensor], training: bool
) -> Prompt | None:
    """The embedded prompts, without gradient.

    Args:
        rows: of each image, tile or frame the text that it is shown with.
        places: the placeholders' ids.
        embed: the LLM's own embedding, (S, T) int64 -> (S, T, D).
        training: whether a loss will be made of this forward.

    None where the ids are not known: the neutral state. Raises ``FaceHostError`` in training where ids or labels are
    not known, since answers would be read.
    """
    ids = texts.input_ids
    if training and (ids is None or texts.labels is None):
        raise FaceHostError(
            "this fusion reads the prompt, and in training must be told where the answers begin: give input_ids and "
            "labels to the model's forward. For a trainer that goes past it (TRL's SFTTrainer) mix in "
            "llava_face_plugin.hosts.hf.FaceLossMixin"
        )
    if ids is None:
        return None
    packed, mask = _packed(ids, _readable(texts, ids, places))
    if training and not packed.shape[1]:
        warnings.warn(
            "no text of this batch has a prompt: its labels supervise everything, from the first token on, or nothing. "
            "A fusion that reads the prompt learns nothing of it so; set the labels of the questions to -100",
            stacklevel=2,
        )
    with torch.no_grad():
        tokens = embed(packed)
    return Prompt(tokens, mask, torch.tensor(rows, dtype=torch.long, device=ids.device))


def rows_of(places: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """Of each image the text that it stands in.

    Args:
        places: how many placeholders each text has.
        lengths: how many of them each image takes, in order over the batch.

    Raises ``FaceHostError`` unless whole images fill each text.
    """
    rows: list[int] = []
    for row, waiting in enumerate(places):
        while waiting > 0 and len(rows) < len(lengths):
            waiting -= lengths[len(rows)]
            rows.append(row)
        if waiting:
            break
    else:
        if len(rows) == len(lengths):
            return rows
    raise FaceHostError(
        f"this fusion reads the prompt of each image, but places and images do not add up: the texts of the batch have "
        f"{list(places)} places for images or videos, and what there is takes {list(lengths)}"
    )


def _readable(texts: Texts, ids: Tensor, places: Collection[int]) -> Tensor:
    """(S, L) bool: text, and before the first answer; see the module."""
    mask = _visible(texts.attention_mask, ids)
    if texts.labels is not None:
        if texts.labels.shape != ids.shape:
            raise FaceHostError(f"labels {tuple(texts.labels.shape)} are not those of texts {tuple(ids.shape)}")
        answer = _without((texts.labels.to(ids.device) != IGNORE) & mask, ids, texts.markup)
        # A text without an answer teaches nothing: upstream masks whole samples that it could not read.
        mask = mask & (answer.cumsum(dim=1) == 0) & answer.any(dim=1, keepdim=True)
    return _without(mask, ids, places)


def _without(mask: Tensor, ids: Tensor, these: Collection[int]) -> Tensor:
    for one in these:
        mask = mask & (ids != one)
    return mask


def _visible(attention_mask: Tensor | None, ids: Tensor) -> Tensor:
    """(S, L) bool, False at padding."""
    length = ids.shape[1]
    if attention_mask is None:
        return torch.ones_like(ids, dtype=torch.bool)
    attention_mask = attention_mask.to(ids.device)
    if attention_mask.ndim == 4:  # generate's with a static cache: what the last token sees
        last = attention_mask[:, 0, -1, :length]
        return last if last.dtype == torch.bool else last == 0
    return attention_mask[:, -length:].bool()


def _packed(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The ids under the mask moved to the front, 0 behind them: (S, T), with their mask; T of the longest."""
    length = int(mask.sum(dim=1).max())
    order = mask.int().argsort(dim=1, descending=True, stable=True)[:, :length]
    mask = mask.gather(1, order)
    return ids.gather(1, order).masked_fill(~mask, 0), mask
