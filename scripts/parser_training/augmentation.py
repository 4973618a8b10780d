"""Random geometry and colour for a batch of training pairs. Flips are ``pairs.TrainingSet``'s: they change ids."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from llava_face_plugin.labels import NO_MAP


@dataclass(frozen=True)
class Augmentation:
    """Ranges, uniform about no change (our defaults)."""

    degrees: float = 15.0
    scale: float = 0.25
    """Largest change of size: 0.25 is from 1/1.25 to 1.25 times."""
    stretch: float = 0.08
    """The same for the width alone."""
    shift: float = 0.08
    """Of the image's side."""
    colour: float = 0.3
    """Of brightness, contrast and saturation; a third of it for each colour channel."""


def augment(
    images: Tensor, maps: Tensor, rng: torch.Generator, how: Augmentation, map_size: int
) -> tuple[Tensor, Tensor]:
    """(n, 3, S, S) uint8 images and (n, S, S) uint8 maps -> float32 images in [0, 1] and (n, m, m) int64 maps,
    ``m = map_size``, turned, scaled and shifted alike; images bilinearly, maps by the nearest pixel.

    What comes from outside of the picture is black and has the id 255 (no map), which no loss counts. ``rng`` is a
    CPU generator, so that every device sees the same draws.
    """
    theta = _affine(len(images), rng, how).to(images.device)
    size = images.shape[-1]
    grid = F.affine_grid(theta, [len(images), 1, size, size], align_corners=False)
    moved = F.grid_sample(images.float().div_(255.0), grid, mode="bilinear", align_corners=False)
    if map_size != size:
        grid = F.affine_grid(theta, [len(images), 1, map_size, map_size], align_corners=False)
    # Ids move up by one so that the zeros of the padding stay apart from the background.
    ids = F.grid_sample(maps.unsqueeze(1).float() + 1.0, grid, mode="nearest", align_corners=False).squeeze(1)
    labels = ids.long() - 1
    return recolour(moved, rng, how.colour), labels.masked_fill_(labels < 0, NO_MAP)


def recolour(images: Tensor, rng: torch.Generator, strength: float) -> Tensor:
    """(n, 3, S, S) images in [0, 1] with other brightness, contrast, saturation and colour balance, clipped."""
    n = len(images)
    brightness, contrast, saturation = (_factor(n, strength, rng).to(images.device) for _ in range(3))
    balance = 1.0 + (2.0 * torch.rand(n, 3, 1, 1, generator=rng) - 1.0) * strength / 3.0
    gray = images.mean(dim=1, keepdim=True)
    out = gray + (images - gray) * saturation
    middle = gray.mean(dim=(2, 3), keepdim=True)
    out = (middle + (out - middle) * contrast) * brightness * balance.to(images.device)
    return out.clamp_(0.0, 1.0)


def _affine(n: int, rng: torch.Generator, how: Augmentation) -> Tensor:
    """(n, 2, 3): from the new picture's coordinates (-1..1) to those of the old one."""
    draw = 2.0 * torch.rand(n, 5, generator=rng) - 1.0
    angle = torch.deg2rad(draw[:, 0] * how.degrees)
    zoom = (1.0 + how.scale) ** draw[:, 1]
    wide = zoom * (1.0 + how.stretch) ** draw[:, 2]
    cos, sin = torch.cos(angle), torch.sin(angle)
    shift = draw[:, 3:] * 2.0 * how.shift
    across = torch.stack([cos / wide, -sin / zoom, shift[:, 0]], 1)
    down = torch.stack([sin / wide, cos / zoom, shift[:, 1]], 1)
    return torch.stack([across, down], 1)


def _factor(n: int, strength: float, rng: torch.Generator) -> Tensor:
    return 1.0 + (2.0 * torch.rand(n, 1, 1, 1, generator=rng) - 1.0) * strength
