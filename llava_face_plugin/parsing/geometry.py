"""A face's way before the network and back: where its crop lies, the crop, and logits painted into the image.

Positions are continuous pixel coordinates: the centre of the first pixel is (0.5, 0.5), and an image of width W spans
0..W. A (3, 3) float64 matrix takes positions of the image to positions of a square crop. All crops are similarities:
turned, moved and scaled, never stretched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .base import Box

CELEBA_HQ_POINTS: np.ndarray = np.array(
    [(0.3776, 0.4786), (0.6195, 0.4784), (0.4972, 0.6297), (0.3939, 0.7320), (0.6059, 0.7317)]
)
"""(5, 2) places of the five points in CelebA-HQ's framing, as fractions of the side. Measured: mean of RetinaFace's
and YuNet's points (which agree within 0.8 %) on 599 of 600 images of CelebAMask-HQ."""

BOX_FACTOR = 1.4
"""align "box": side of the square over the longer side of the detector's box. Ours; measured: RetinaFace's box on 12
images of CelebAMask-HQ is 342 to 413 of 512 pixels high, median 367."""

TILE, CUDA_TILE = 256, 1024
"""Logits are brought to the image in squares of this side: C x 256 x 256 floats at a time, not C x H x W. A CPU has
them in its cache; a GPU would wait for its many small kernels (ours)."""

Grid = Callable[[int, int, int, torch.device], Tensor]
"""(x0, y0, tile, device) -> (tile, tile, 2) float32 there: where in the logits the image's pixels from (x0, y0) on lie,
in the coordinates of ``torch.nn.functional.grid_sample`` (the logits span -1..1, align_corners=False)."""


class Patch(NamedTuple):
    """What one face says about a window of its image."""

    labels: np.ndarray
    """(h, w) uint8 canonical ids; 0 (background) outside the crop."""
    left: int
    top: int
    confidence: float
    """Mean over the pixels that are not background of the highest class probability; 0 where there are none, NaN for
    logits that are NaN."""


def letterbox(size: tuple[int, int], side: int) -> np.ndarray:
    """The whole image of ``size`` (width, height) in the middle of the square, its aspect kept."""
    return _square(complex(*size) / 2, max(size) / 2, side)


def box_square(box: Box, side: int) -> np.ndarray:
    """A square about the middle of the box, ``BOX_FACTOR`` times its longer side wide."""
    x0, y0, x1, y1 = box
    return _square(complex(x0 + x1, y0 + y1) / 2, BOX_FACTOR * max(x1 - x0, y1 - y0) / 2, side)


def celeba_hq(points: np.ndarray, side: int) -> np.ndarray:
    """The five points (5, 2) as near as a similarity can bring them (least squares) to ``CELEBA_HQ_POINTS``."""
    here, there = _complex(points), _complex(CELEBA_HQ_POINTS) * side
    centred = here - here.mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        turn = np.vdot(centred, there - there.mean()) / np.vdot(centred, centred).real
    return _matrix(turn, there.mean() - turn * here.mean())


def celebm(points: np.ndarray, side: int) -> np.ndarray:
    """facer's crop for its celebm network: the oriented square of CelebA-HQ's own alignment (Karras et al., 2018)."""
    eye_left, eye_right, _, mouth_left, mouth_right = _complex(points)
    eyes, mouth = (eye_left + eye_right) / 2 + (0.5 + 0.5j), (mouth_left + mouth_right) / 2 + (0.5 + 0.5j)
    across, down = eye_right - eye_left, mouth - eyes
    direction = across - 1j * down
    half = max(abs(across) * 2.0, abs(down) * 1.8)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _square(eyes + 0.1 * down, np.complex128(half * direction) / abs(direction), side)


def usable(matrix: np.ndarray) -> bool:
    """Whether a crop can be made by the matrix: five points in one place, or mirrored ones, give none."""
    return bool(np.isfinite(matrix).all() and abs(np.linalg.det(matrix)) > 1e-12)


def crop(image: Image.Image, matrix: np.ndarray, side: int) -> Tensor:
    """(3, side, side) float32 RGB in [0, 1]; black outside the image.

    Bilinear; an image that is more than twice as fine as the crop is first averaged over whole blocks of pixels, so
    that nothing is skipped.
    """
    x0, y0, x1, y1 = window(matrix, side, image.size)
    if x0 >= x1 or y0 >= y1:
        return torch.zeros(3, side, side)
    inverse = np.linalg.inv(matrix)
    block = max(1, int(np.hypot(*inverse[:2, 0]) + 1e-6))  # image pixels along one pixel of the crop
    if block > 1:
        image = image.reduce(block, box=(x0, y0, x1, y1))
        inverse = np.array([[1 / block, 0, -x0 / block], [0, 1 / block, -y0 / block], [0, 0, 1]]) @ inverse
    coefficients = tuple(float(value) for value in inverse[:2].ravel())
    out = image.transform((side, side), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(out)).permute(2, 0, 1).float() / 255.0


def window(matrix: np.ndarray, side: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of the image's pixels that the crop can touch; empty (x1 <= x0 or y1 <= y0) if there is none."""
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]]) @ np.linalg.inv(matrix).T
    low = np.floor(np.clip(corners[:, :2].min(axis=0), 0, size)).astype(int)
    high = np.ceil(np.clip(corners[:, :2].max(axis=0), 0, size)).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def affine_grid(matrix: np.ndarray, side: int, x0: int, y0: int, tile: int) -> Tensor:
    """The ``Grid`` of a crop of ``side`` pixels by ``matrix``; it does not depend on the logits' own size."""
    normal = np.array([[2 / side, 0, -1], [0, 2 / side, -1], [0, 0, 1]]) @ matrix
    steps = np.arange(tile) + 0.5
    x, y = (x0 + steps)[None, :], (y0 + steps)[:, None]
    places = [row[0] * x + row[1] * y + row[2] for row in normal[:2]]
    return torch.from_numpy(np.stack(places, axis=-1).astype(np.float32))


def paste(logits: Tensor, grid: Grid, area: tuple[int, int, int, int], to_canonical: tuple[int, ...]) -> Patch:
    """One face's logits (C, h, w) as labels of the image's pixels in ``area`` (x0, y0, x1, y1).

    Bilinear between logits, then the highest class at once. Pixels outside the crop are background: all-zero logits
    there, as facer's celebm network gives them, would make every class equally likely.
    """
    x0, y0, x1, y1 = area
    device = logits.device
    tile = TILE if device.type == "cpu" else CUDA_TILE
    labels = torch.zeros(max(0, y1 - y0), max(0, x1 - x0), dtype=torch.uint8, device=device)
    canonical = torch.tensor(to_canonical, dtype=torch.uint8, device=device)
    reach = 1 + 1 / torch.tensor([logits.shape[2], logits.shape[1]], dtype=torch.float32, device=device)
    total = torch.zeros((), dtype=torch.float64, device=device)
    for top in range(y0, y1, tile):
        for left in range(x0, x1, tile):
            places = grid(left, top, tile, device)[: y1 - top, : x1 - left]
            inside = (places.abs() < reach).all(dim=2)
            if not inside.any():
                continue
            # "border": half a logit's width around the crop belongs to it, as in facer, and is not mixed with zeros
            near = F.grid_sample(logits[None], places[None], padding_mode="border", align_corners=False)[0]
            highest, best = near.max(dim=0)
            parts = canonical[best] * inside
            probability = near.sub_(highest).exp_().sum(dim=0).reciprocal_()  # softmax of the highest
            total += (probability * (parts != 0)).sum(dtype=torch.float64)
            rows, columns = parts.shape
            labels[top - y0 : top - y0 + rows, left - x0 : left - x0 + columns] = parts
    count = int((labels != 0).sum())
    return Patch(labels.cpu().numpy(), x0, y0, float(total) / max(count, 1))


def _square(middle: complex, half: complex | float, side: int) -> np.ndarray:
    """The matrix of a square by its middle and the vector from there to the middle of its right side."""
    turn = np.complex128(side / 2) / np.complex128(half)
    return _matrix(turn, complex(side, side) / 2 - turn * middle)


def _matrix(turn: complex, shift: complex) -> np.ndarray:
    """z -> turn * z + shift as a matrix of (x, y)."""
    return np.array(
        [[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag], [0.0, 0.0, 1.0]], dtype=np.float64
    )


def _complex(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, dtype=np.float64)
    return points[:, 0] + 1j * points[:, 1]
