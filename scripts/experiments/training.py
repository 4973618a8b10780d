"""The two stages in which the tiny model is trained on made clips, and how it is questioned."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from clip_model import Recipe, Task, inputs_of, last_logits
from made_frames import Clips
from torch import Tensor, nn


def learn_states(model: Any, clips: Clips, task: Task, recipe: Recipe, seed: int) -> list[float]:
    """The first stage: all but the tower, on single frames and what each shows. Nothing of their order is in it.

    Returns the loss of each step.
    """
    pixels, states = clips.pixels.reshape(-1, 1, *clips.pixels.shape[2:]), clips.state.reshape(-1)
    answers = task.padded()

    def loss(rows: np.ndarray) -> Tensor:
        batch, answer = inputs_of(pixels[rows], task, recipe), answers[states[rows]]
        ids = torch.cat([batch["input_ids"], answer.clamp(min=0)], dim=1)  # what stands behind an answer is not seen
        labels = torch.cat([torch.full_like(batch["input_ids"], -100), answer], dim=1)
        return model(**{**batch, "input_ids": ids, "attention_mask": torch.ones_like(ids)}, labels=labels).loss

    parameters = [p for p in model.parameters() if p.requires_grad]
    rows = _batches(len(states), recipe.first_batch, seed)
    return _train(model, parameters, loss, rows, recipe.first_steps, recipe.first_rate, recipe.warmup)


def learn_events(model: Any, tokens: Tensor, which: np.ndarray, task: Task, recipe: Recipe, seed: int) -> list[float]:
    """The second stage: the LLM alone, on clips as ``frame_tokens`` and the event of each. Returns each step's loss."""
    answers = torch.tensor(task.answers)[:, 0]

    def loss(rows: np.ndarray) -> Tensor:
        return F.cross_entropy(last_logits(model, tokens[rows], task), answers[which[rows]])

    parameters = [*model.model.language_model.parameters(), *model.lm_head.parameters()]
    rows = _batches(len(which), recipe.batch, seed)
    return _train(model, parameters, loss, rows, recipe.steps, recipe.rate, recipe.warmup)


@torch.no_grad()
def balanced_accuracy(model: Any, tokens: Tensor, which: np.ndarray, task: Task) -> float:
    """Mean recall of the two events; the answer is the likelier of the two tokens in which they differ. Chance: 0.5."""
    model.eval()
    first, second = (answer[0] for answer in task.answers)
    logits = torch.cat([last_logits(model, some, task) for some in tokens.split(50)])
    answers = (logits[:, second] > logits[:, first]).numpy()
    return float(np.mean([(answers[which == event] == event).mean() for event in (0, 1)]))


@torch.no_grad()
def state_accuracy(model: Any, clips: Clips, task: Task, recipe: Recipe) -> float:
    """Of the first stage, about each clip's first frame: the likeliest of the answers. Chance: 1 / their number."""
    model.eval()
    pixels = clips.pixels[:, :1]
    likelihoods = []
    for answer in map(torch.tensor, task.answers):
        batch = inputs_of(pixels, task, recipe)
        ids = torch.cat([batch["input_ids"], answer.expand(len(pixels), -1)], dim=1)
        batch |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        logits = model(**batch, logits_to_keep=len(answer) + 1).logits[:, :-1].log_softmax(dim=-1)
        likelihoods.append(logits.gather(-1, answer.expand(len(pixels), -1)[..., None]).sum(dim=(1, 2)))
    said = torch.stack(likelihoods).argmax(dim=0).numpy()
    return float((said == clips.state[:, 0]).mean())


def _train(
    model: Any,
    parameters: list[nn.Parameter],
    loss_of: Callable[[np.ndarray], Tensor],
    batches: Iterator[np.ndarray],
    steps: int,
    rate: float,
    warmup: int,
) -> list[float]:
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _factor(step, steps, warmup))
    model.train()
    losses = []
    for _, rows in zip(range(steps), batches, strict=False):
        loss = loss_of(rows)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return losses


def _factor(step: int, steps: int, warmup: int) -> float:
    """Of the rate: a linear warm-up, then a cosine to 0."""
    return min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps))


def _batches(total: int, size: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng([seed, 11])
    while True:
        order = rng.permutation(total)
        yield from (order[start : start + size] for start in range(0, total - size + 1, size))
