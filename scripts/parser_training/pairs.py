"""Image and mask pairs of a CelebAMask-HQ-format folder, decoded once and held in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.labels import NO_MAP, NUM_PARTS
from llava_face_plugin.maps.files import open_image, read_map, same_aspect
from llava_face_plugin.maps.vocabularies import by_image_side, mirrored

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True)
class Pair:
    """One face as read from disk."""

    name: str
    image: np.ndarray
    """(S, S, 3) uint8 RGB, the whole image resized (antialiased) to the network's square."""
    labels: np.ndarray
    """(H, W) uint8 canonical ids at the mask's own size, left and right by image side."""
    exchanged: bool
    """Whether ``by_image_side`` had to exchange a left and a right part."""


@dataclass(frozen=True)
class Pairs:
    """What a folder holds."""

    good: list[Pair]
    """In the order of their names."""
    skipped: dict[str, str]
    """Why each other one cannot be used, by name."""

    def split(self, holdout: int, seed: int) -> tuple[list[Pair], list[Pair]]:
        """(training, held-out) pairs: ``holdout`` of them drawn by ``seed``, each list in the order of names.

        Raises ``FaceDataError`` if that leaves nothing to train on.
        """
        if holdout < 1 or holdout >= len(self.good):
            raise FaceDataError(f"cannot hold out {holdout} of {len(self.good)} usable pairs: 1 or more, and fewer")
        held = set(np.random.default_rng([seed, 0]).permutation(len(self.good))[:holdout].tolist())
        chosen: tuple[list[Pair], list[Pair]] = ([], [])
        for i, pair in enumerate(self.good):
            chosen[i in held].append(pair)
        return chosen


def read_pairs(root: Path, size: int, workers: int) -> Pairs:
    """Read ``images/NAME.jpg`` with ``masks/NAME.png``, all of them, by ``workers`` threads.

    A pair with a part missing, damaged, of unequal sizes or with foreign ids is left out and named. Raises
    ``FaceDataError`` if the folder has no images or no usable pair.
    """
    folder = root / "images"
    images = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not images:
        raise FaceDataError(f"{folder}: no images; expected {root}/images/NAME.jpg and {root}/masks/NAME.png")
    masks = {p.stem for p in (root / "masks").glob("*.png")}

    def read(path: Path) -> Pair | str:
        try:
            return _pair(path, root / "masks" / f"{path.stem}.png", size)
        except FaceDataError as error:
            return str(error)

    with ThreadPoolExecutor(workers) as pool:
        read_all = dict(zip([p.stem for p in images], pool.map(read, images), strict=True))
    skipped = {name: pair for name, pair in read_all.items() if isinstance(pair, str)}
    skipped |= {name: f"mask {name}.png has no image in {folder}" for name in sorted(masks - set(read_all))}
    good = [pair for pair in read_all.values() if isinstance(pair, Pair)]
    if not good:
        first = next(iter(skipped.values()))
        raise FaceDataError(f"{root}: none of {len(skipped)} pairs can be used; the first: {first}")
    return Pairs(good, skipped)


def _pair(image_path: Path, mask_path: Path, size: int) -> Pair:
    image = open_image(image_path)
    given = read_map(mask_path)
    if not same_aspect(image.size, given.shape[::-1]):
        width, height = given.shape[::-1]
        raise FaceDataError(
            f"face map {mask_path}: size {width}x{height}, but the image has {image.width}x{image.height}"
        )
    if (given == NO_MAP).all():
        raise FaceDataError(f"face map {mask_path}: no pixel with a known part")
    labels = by_image_side(given)
    small = image.resize((size, size), Image.Resampling.BILINEAR)
    return Pair(image_path.stem, np.array(small), np.ascontiguousarray(labels), labels is not given)


class TrainingSet:
    """The training pairs as tensors, with how often each is to be shown."""

    def __init__(self, pairs: Sequence[Pair], size: int) -> None:
        resized = [np.asarray(Image.fromarray(p.labels).resize((size, size), Image.Resampling.NEAREST)) for p in pairs]
        self.images = torch.from_numpy(np.stack([p.image for p in pairs])).permute(0, 3, 1, 2).contiguous()
        """(N, 3, S, S) uint8"""
        self.maps = torch.from_numpy(np.stack([np.stack([m, mirrored(m)]) for m in resized]))
        """(N, 2, S, S) uint8: each map as it is, and that of the flipped image (left and right exchanged)."""
        present = np.stack([np.bincount(m.reshape(-1), minlength=256)[:NUM_PARTS] for m in resized])
        self.frequency = torch.from_numpy(present.sum(axis=0) / present.sum())
        """(19,) float64 share of each part in all pixels with a known id."""
        self.repeats = repeat_factors(present > 0)
        self.digest = hashlib.sha256(self.images.numpy().tobytes() + self.maps.numpy().tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    def order(self, rng: torch.Generator) -> Tensor:
        """(N,) indices of one epoch: N draws in random order, each pair about as often as its repeat factor.

        Systematic resampling: a pair due 1.3 times comes once or twice, never nought or three times.
        """
        edges = torch.cumsum(self.repeats / self.repeats.sum() * len(self), 0)
        places = torch.arange(len(self)) + torch.rand((), generator=rng, dtype=torch.float64)
        drawn = torch.searchsorted(edges, places).clamp_max(len(self) - 1)
        return drawn[torch.randperm(len(self), generator=rng)]

    def batch(self, chosen: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """(n, 3, S, S) uint8 images and (n, S, S) uint8 maps of ``chosen``, each flipped half of the time."""
        flips = torch.rand(len(chosen), generator=rng) < 0.5
        images = self.images[chosen]
        images[flips] = images[flips].flip(-1)
        return images, self.maps[chosen, flips.long()]


def repeat_factors(present: np.ndarray, threshold: float = 0.2) -> Tensor:
    """(N,) float64 >= 1: how much more often images with rare parts are shown.

    ``present`` (N, 19) bool. LVIS's rule (Gupta et al., 2019): max over an image's parts of
    sqrt(threshold / share of images with that part); ``threshold`` is our default.
    """
    share = present.mean(axis=0)
    of_part = np.sqrt(np.maximum(1.0, threshold / np.maximum(share, 1e-9)))
    return torch.from_numpy(np.where(present, of_part, 1.0).max(axis=1))
