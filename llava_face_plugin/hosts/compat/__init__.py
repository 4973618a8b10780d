"""Mends of llava 1.2.2 on transformers newer than its pin: one named shim a break (docs/upstream.md).

Nothing here belongs to face mode: without these shims llava cannot train on transformers 4.57 or 5.23 at all.
On the pinned 4.37.2 only what current deepspeed and torch break is mended.
"""

from __future__ import annotations

from ...errors import FaceHostError
from .models import MODEL_SHIMS
from .shim import PATCHES, Moment, Shim, release_of
from .trainer import TRAINER_SHIMS

__all__ = [
    "SHIMS", "SUPPORTED_SERIES", "Moment", "Shim",
    "applied", "apply", "is_supported", "transformers_series", "undo",
]  # fmt: skip

SUPPORTED_SERIES = ("4.37", "4.57", "5.23")
"""The transformers series on which every shim was tried. Others may work, but were not run."""

SHIMS: tuple[Shim, ...] = (*MODEL_SHIMS, *TRAINER_SHIMS)

_applied: list[str] = []


def transformers_series() -> str:
    """``"4.57"`` for transformers 4.57.6, without importing it. Raises ``FaceHostError`` if there is none."""
    release = release_of("transformers")
    if not release:
        raise FaceHostError("transformers is not installed; llava needs it")
    return ".".join(str(part) for part in release[:2])


def is_supported() -> bool:
    """True if the installed transformers is of a series in ``SUPPORTED_SERIES``."""
    return transformers_series() in SUPPORTED_SERIES


def apply(moment: Moment) -> list[str]:
    """Applies each needed shim of ``moment`` that is not applied yet, and returns their keys.

    ``"models"``: package ``llava`` has been imported. ``"before_trainer"``: just before
    ``llava/train/llava_trainer.py`` runs. ``"trainer"``: it has run, and train.py has not yet read its flags.
    """
    new: list[str] = []
    for shim in SHIMS:
        if shim.moment == moment and shim.key not in _applied and shim.needed():
            shim.mend()
            _applied.append(shim.key)
            new.append(shim.key)
    return new


def applied() -> tuple[str, ...]:
    """The keys of the shims in force in this process, in the order of their application."""
    return tuple(_applied)


def undo() -> None:
    """Takes every shim back. Raises ``FaceHostError`` if somebody wrapped a patched name since."""
    PATCHES.undo()
    _applied.clear()
