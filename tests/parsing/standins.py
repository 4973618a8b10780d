"""What the parser tests are made of: drawn faces, a network that reads them, traced doubles, and facer itself."""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from llava_face_plugin.labels import NUM_PARTS, PALETTE
from llava_face_plugin.maps.overlay import paint
from llava_face_plugin.parsing.detectors.base import Detection
from llava_face_plugin.parsing.geometry import CELEBA_HQ_POINTS

SKIN, NOSE, L_EYE, R_EYE, MOUTH, HAIR = 1, 2, 4, 5, 10, 13


def drawn_map(size: tuple[int, int], points: np.ndarray, hair: bool = True) -> np.ndarray:
    """(H, W) uint8: a face as blobs about its five points (5, 2), as CelebA-HQ would show it."""
    width, height = size
    y, x = np.mgrid[:height, :width] + 0.5
    unit = float(np.hypot(*(points[1] - points[0])))
    middle = points.mean(axis=0)
    labels = np.zeros((height, width), dtype=np.uint8)
    blobs = [(HAIR, middle - (0, 0.4 * unit), 1.3)] if hair else []
    blobs += [(SKIN, middle, 1.0), (R_EYE, points[0], 0.3), (L_EYE, points[1], 0.3), (NOSE, points[2], 0.25)]
    for part, (cx, cy), radius in [*blobs, (MOUTH, (points[3] + points[4]) / 2, 0.25)]:
        labels[np.hypot(x - cx, y - cy) < radius * unit] = part
    return labels


def placed_points(left: float, top: float, side: float) -> np.ndarray:
    """(5, 2) five points of a face whose CelebA-HQ square lies there."""
    return (CELEBA_HQ_POINTS * side + (left, top)).astype(np.float32)


def drawn_face(size: tuple[int, int], points: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """The picture (part colours of MaskGAN's palette) and its true map."""
    labels = drawn_map(size, points)
    return paint(labels), labels


def detection_of(points: Sequence[np.ndarray], scores: Sequence[float] | None = None) -> Detection:
    """A detection of these faces, the largest box first as ever."""
    boxes = [[*(p.min(axis=0) - 0.3 * np.ptp(p)), *(p.max(axis=0) + 0.3 * np.ptp(p))] for p in points]
    boxes_ = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    order = np.argsort(-np.prod(boxes_[:, 2:] - boxes_[:, :2], axis=1))
    scores_ = np.array([0.9] * len(points) if scores is None else scores, dtype=np.float32)
    return Detection(boxes_[order], np.array(points, dtype=np.float32).reshape(-1, 5, 2)[order], scores_[order])


class ScriptedDetector:
    """Finds what it was told to find in each image."""

    digest = "scripted"

    def __init__(self, detections: Sequence[Detection]) -> None:
        self.detections = list(detections)

    def detect(self, images: Sequence[Image.Image]) -> list[Detection]:
        assert len(images) == len(self.detections)
        return self.detections


class ColourNetwork:
    """Reads a drawn face: the class is the palette colour that a pixel comes nearest to."""

    def __init__(self, size: int = 256, to_canonical: tuple[int, ...] = tuple(range(NUM_PARTS))) -> None:
        self.size, self.to_canonical, self.digest = size, to_canonical, "colours"
        self.batches: list[int] = []

    def __call__(self, crops: Tensor) -> Tensor:
        self.batches.append(len(crops))
        colours = torch.tensor(PALETTE, dtype=torch.float32, device=crops.device)[list(self.to_canonical)] / 255
        return -500 * (crops[:, None] - colours[None, :, :, None, None]).square().sum(dim=2)


class TinyParser(nn.Module):
    """The signature of facer's TorchScript files: (logits, auxiliary), of a size of its own."""

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU(), nn.Conv2d(8, classes, 1, bias=False),
            nn.Upsample(size=(size, size), mode="bilinear"),
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = 20 * self.net(x - 0.5)
        return logits, logits.new_zeros(1)


def traced(path: Path, classes: int, size: int, seed: int = 0) -> tuple[str, str]:
    """Writes such a network with random weights; returns its path and sha256."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit's deprecation notices
        torch.manual_seed(seed)
        torch.jit.trace(TinyParser(classes, size).eval(), torch.rand(1, 3, 64, 64)).save(str(path))
    return str(path), hashlib.sha256(path.read_bytes()).hexdigest()


_kept: list[torch.library.Library] = []  # the operators vanish with the object that defined them


def import_facer() -> ModuleType:
    """facer, also beside PyPI's torchvision and a CPU torch, which do not fit: only operators facer never calls are
    missing, and these are defined here. Skips the test where facer is not installed."""
    if importlib.util.find_spec("facer") is None:
        pytest.skip("pyfacer is not installed")
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # facer imports timm by a deprecated name
        import facer
    return facer
