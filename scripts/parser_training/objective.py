"""The loss, and the moving average of the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llava_face_plugin.labels import NO_MAP, NUM_PARTS


def class_weights(frequency: Tensor, power: float = 0.25) -> Tensor:
    """(19,) float32 weights: frequency ** -power, so scaled that the mean pixel has weight 1.

    ``frequency`` (19,) shares of all pixels. The power is our default: at 0.25 a part a thousand times rarer
    weighs 5.6 times as much a pixel. A part that never occurs gets the weight of one at 1e-6.
    """
    weights = frequency.double().clamp_min(1e-6) ** -power
    return (weights / (weights * frequency).sum()).float()


def parsing_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy plus Dice loss, a scalar. Rare parts live by the Dice term, which counts parts alike.

    ``logits`` (n, 19, h, w) of any float type, ``labels`` (n, h, w) int64 with 255 = not counted. Dice pools the
    pixels of the whole batch and is the mean over the parts that occur in it.
    """
    flat = logits.float().permute(0, 2, 3, 1).reshape(-1, NUM_PARTS)
    ids = labels.reshape(-1)
    known = ids != NO_MAP
    ids = ids.masked_fill(~known, 0)
    log_probability = F.log_softmax(flat, dim=1)
    pixel = weights[ids] * known
    entropy = -(log_probability.gather(1, ids[:, None]).squeeze(1) * pixel).sum() / pixel.sum().clamp_min(1.0)
    truth = F.one_hot(ids, NUM_PARTS).float() * known[:, None]
    probability = log_probability.exp() * known[:, None]
    overlap, total = (probability * truth).sum(0), (probability + truth).sum(0)
    occurs = truth.sum(0) > 0
    dice = 1.0 - (2.0 * overlap / total.clamp_min(1e-6))
    return entropy + (dice * occurs).sum() / occurs.sum().clamp_min(1)


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, step: int, decay: float) -> None:
    """Move ``average`` towards ``net`` (weights and batch statistics); early steps count more, as they must."""
    keep = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1.0 - keep)
        else:
            mean.copy_(value)
