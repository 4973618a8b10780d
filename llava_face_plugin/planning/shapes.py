"""``Shapes``: what a plan knows of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..config import FaceConfig

FAMILIES = ("llava", "llava_next", "llava_next_video", "llava_onevision")
PACKAGES = ("llava-v1", "llava-next")
HOSTS = (*PACKAGES, *(f"hf-{family.replace('_', '-')}" for family in FAMILIES))
"""LLaVA 1.5's own package, LLaVA-NeXT's, and transformers' own classes."""


@dataclass(frozen=True)
class Shapes:
    """Shapes of a LLaVA. ``text`` and ``vision``: keys of transformers' configurations, ``model_type`` among them."""

    name: str
    family: str
    """One of ``FAMILIES``: how an image becomes tokens (tokens.py)."""
    host: str
    """One of ``HOSTS``: what trains it."""
    text: Mapping[str, Any]
    vision: Mapping[str, Any]
    source: str
    """Where the numbers come from."""
    projector: str = "mlp2x_gelu"
    pinpoints: tuple[tuple[int, int], ...] = ()
    """Anyres: (height, width) in pixels of the canvases that an image is cut from."""
    most_tiles: int | None = None
    """``anyres_max_N``: features of more than N tiles are scaled down to about N tiles' worth of tokens."""
    face: FaceConfig | None = None
    """The block of a model directory that has one."""

    @property
    def grid(self) -> int:
        """Patches along a side of the tower's input."""
        return int(self.vision["image_size"]) // int(self.vision["patch_size"])

    @property
    def patches(self) -> int:
        """Tokens of one tile."""
        return self.grid**2
