"""Closed questions about stills, as token ids, with the first tokens of their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from still_model import IMAGE_TOKEN, TOKENS
from still_sets import Stills
from torch import Tensor

from llava_face_plugin.labels import prompt_of

CELEBA = ("Male", "Smiling", "Bangs", "Blond_Hair", "No_Beard")
IGNORED = -100
AGES = (0, 0, 0, 1, 1, 2, 2, 2, 2)
"""Of FairFace's nine age groups: under 20, 20 to 39, 40 and above."""


@dataclass(frozen=True)
class Question:
    """One column of labels and how it is asked for."""

    name: str
    text: str
    answers: tuple[str, ...]
    """By the label's number."""
    labels: Tensor
    """(N,) int64."""


def questions_of(stills: Stills) -> list[Question]:
    """Yes or no about a handful of visible attributes of CelebA; gender and age of FairFace."""
    if "gender" not in stills.labels:
        return [Question(name, f"{prompt_of(name)}?", ("No", "Yes"), stills.labels[name]) for name in CELEBA]
    age = torch.tensor(AGES)[stills.labels["age_group"]]
    return [
        Question("gender", "male or female?", ("Male", "Female"), stills.labels["gender"]),
        Question("age", "under 20, 20 to 39, 40 or above?", ("Under", "Between", "Above"), age),
    ]


@dataclass(frozen=True)
class Encoded:
    """A question with each of its A answers: rows of L token ids, padded on the right."""

    ids: Tensor
    """(A, L) int64."""
    labels: Tensor
    """(A, L) int64: the answer and its end; -100 elsewhere."""
    length: int
    """Of the prompt: the first token of the answer stands there, and is told from place ``length - 1``."""
    first: Tensor
    """(A,) int64, the first token of each answer; no two alike."""


def encode(questions: list[Question], tokenizer: Any) -> list[Encoded]:
    """All questions, padded to one length L."""
    rows = [[_row(question, answer, tokenizer) for answer in question.answers] for question in questions]
    longest = max(len(prompt) + len(answer) for pairs in rows for prompt, answer in pairs)
    out = []
    for question, pairs in zip(questions, rows, strict=True):
        ids = torch.full((len(pairs), longest), tokenizer.unk_token_id)
        labels = torch.full_like(ids, IGNORED)
        length = len(pairs[0][0])
        for row, (prompt, answer) in enumerate(pairs):
            ids[row, : length + len(answer)] = torch.tensor(prompt + answer)
            labels[row, length : length + len(answer)] = torch.tensor(answer)
        first = ids[:, length]
        assert len(first.unique()) == len(pairs), f"two answers to {question.text!r} begin alike"
        out.append(Encoded(ids, labels, length, first))
    return out


def _row(question: Question, answer: str, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Prompt, with the image behind <s>, and answer with its end."""
    prompt = tokenizer(f"USER:\n{question.text} ASSISTANT:").input_ids
    reply = tokenizer(f"USER:\n{question.text} ASSISTANT: {answer}").input_ids[len(prompt) :]
    return [prompt[0], *[IMAGE_TOKEN] * TOKENS, *prompt[1:]], [*reply, tokenizer.eos_token_id]
