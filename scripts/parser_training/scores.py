"""Pixel-level F1 of a parser on held-out pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llava_face_plugin.labels import FACE_PARTS, NUM_PARTS

from .pairs import Pair

DEFINITION = (
    "Pixel-level F1 = 2TP / (2TP + FP + FN) of each class over the pooled pixels of all held-out pairs, at the mask's "
    "own resolution, plain single forward pass; mean_f1 is the mean over the 19 classes, background included. "
    "A class that neither occurs nor is predicted has no F1 and does not enter the mean. mean_f1_of_images is the "
    "easier figure that NTU's CE7454 course and its public parsers report: of each image the mean F1 over the classes "
    "that occur in its mask, then the mean over the images."
)


@dataclass(frozen=True)
class Scores:
    """Figures in [0, 1]."""

    f1: dict[str, float | None]
    """Of each part; None where it neither occurs nor is predicted."""
    mean_f1: float
    mean_f1_without_background: float
    mean_f1_of_images: float
    pixel_accuracy: float
    pixels: dict[str, int]
    """True pixels of each part."""


def evaluate(net: nn.Module, pairs: Sequence[Pair], device: torch.device) -> Scores:
    """Score ``net`` (in its evaluation mode) on ``pairs``: float32, one image at a time, no flips."""
    return scores_of([confusion_of(pair.labels, predict(net, pair, device)) for pair in pairs])


@torch.inference_mode()
def predict(net: nn.Module, pair: Pair, device: torch.device) -> np.ndarray:
    """(H, W) uint8 ids at the mask's size: logits resized bilinearly, then argmax."""
    image = torch.from_numpy(pair.image).permute(2, 0, 1)[None].to(device)
    logits: Tensor = net(image.float() / 255.0)
    height, width = pair.labels.shape
    large = F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
    return large.argmax(dim=1)[0].to(torch.uint8).cpu().numpy()


def confusion_of(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(19, 19) int64 counts: rows the true part, columns the predicted one. Pixels without a true id do not count."""
    known = truth < NUM_PARTS
    codes = truth[known].astype(np.int64) * NUM_PARTS + predicted[known]
    return np.bincount(codes, minlength=NUM_PARTS**2).reshape(NUM_PARTS, NUM_PARTS)


def scores_of(images: Sequence[np.ndarray]) -> Scores:
    """The figures of one (19, 19) confusion matrix an image; at least one image."""
    confusion = np.sum(images, axis=0)
    f1, truth = _f1(confusion), confusion.sum(axis=1)
    return Scores(
        {part: None if np.isnan(value) else float(value) for part, value in zip(FACE_PARTS, f1, strict=True)},
        float(np.nanmean(f1)),
        float(np.nanmean(f1[1:])),
        float(np.mean([_f1(one)[one.sum(axis=1) > 0].mean() for one in images])),
        float(np.diag(confusion).sum() / truth.sum()),
        {part: int(count) for part, count in zip(FACE_PARTS, truth, strict=True)},
    )


def _f1(confusion: np.ndarray) -> np.ndarray:
    """(19,) float64; NaN where a part neither occurs nor is predicted."""
    total = confusion.sum(axis=0) + confusion.sum(axis=1)
    return np.where(total > 0, 2.0 * np.diag(confusion) / np.maximum(1, total), np.nan)
