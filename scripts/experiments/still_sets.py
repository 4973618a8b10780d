"""Real faces for experiments: FairFace and CelebA as one tensor of small squares each, with their labels.

Read from the users' own copies, in the layouts of ``llava-face prepare``; nothing of them is written anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from llava_face_plugin.data.datasets import DATASETS, ReadOptions
from llava_face_plugin.data.manifest import SPLITS
from llava_face_plugin.data.splits import hold_out


@dataclass(frozen=True)
class Stills:
    """N images of one data set."""

    pixels: Tensor
    """(N, 3, S, S) uint8 RGB."""
    labels: dict[str, Tensor]
    """Column -> (N,) int64, the place of the label in ``classes[column]``."""
    classes: dict[str, tuple[str, ...]]
    held_out: Tensor
    """(N,) bool."""

    def of(self, rows: Tensor) -> Stills:
        """The images of these rows (M,) alone."""
        labels = {name: values[rows] for name, values in self.labels.items()}
        return Stills(self.pixels[rows], labels, self.classes, self.held_out[rows])


def celeba(root: Path, side: int, held_out: int) -> Stills:
    """The images that are there, with all 40 attributes; ``held_out`` of them or a few more, by whole persons."""
    manifest = DATASETS["celeba"].read(root, ReadOptions())
    here = np.flatnonzero(manifest.present)
    values = torch.from_numpy(manifest.attributes[here].astype(np.int64))
    return Stills(
        pixels=_pixels(root, manifest.images[here], side),
        labels=dict(zip(manifest.vocabulary, values.T, strict=True)),
        classes=dict.fromkeys(manifest.vocabulary, ("No", "Yes")),
        held_out=torch.from_numpy(hold_out(manifest.identity[here], held_out, seed=0)),
    )


def fairface(root: Path, side: int) -> Stills:
    """The images that are there, with age group, gender and race; its val split is held out."""
    manifest = DATASETS["fairface"].read(root, ReadOptions())
    here = np.flatnonzero(manifest.present)
    return Stills(
        pixels=_pixels(root, manifest.images[here], side),
        labels={name: torch.from_numpy(values[here].astype(np.int64)) for name, values in manifest.labels.items()},
        classes=manifest.classes,
        held_out=torch.from_numpy(manifest.split[here] == SPLITS.index("val")),
    )


def balanced_accuracy(found: Tensor, wanted: Tensor) -> float:
    """Mean over the classes in ``wanted`` (N,) of their recall."""
    right = found == wanted
    return float(np.mean([right[wanted == value].float().mean() for value in wanted.unique()]))


def _pixels(root: Path, names: np.ndarray, side: int) -> Tensor:
    """(N, 3, side, side) uint8: the middle square of each image, bicubic."""
    squares = np.stack([_square(root / name, side) for name in names])
    return torch.from_numpy(squares).permute(0, 3, 1, 2).contiguous()


def _square(path: Path, side: int) -> np.ndarray:
    with Image.open(path) as image:
        width, height = image.size
        edge = min(width, height)
        left, top = (width - edge) // 2, (height - edge) // 2
        box = (left, top, left + edge, top + edge)
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC, box))
