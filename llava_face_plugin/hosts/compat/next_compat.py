"""Mends of LLaVA-NeXT: one named shim a break (docs/upstream.md).

Nothing here belongs to face mode. ``loop`` is applied wherever the break is, for no transformers at all runs upstream's
training without it. What transformers 4.57 breaks is mended only where LLAVA_FACE_NEXT_COMPAT=1 asks for it.
"""

from __future__ import annotations

import os

from ...errors import FaceHostError
from ..environment import NEXT_COMPAT_SWITCH
from .next_models import NEXT_MODEL_SHIMS
from .next_shared import NEXT_SHARED_SHIMS
from .next_shim import NextShim
from .next_trainer import NEXT_TRAINER_SHIMS
from .shim import PATCHES, Moment, release_of

__all__ = ["SHIMS", "SUPPORTED_SERIES", "FaceImportError", "applied", "apply", "check", "is_opted_in", "undo"]

SUPPORTED_SERIES = ("4.40", "4.57")
"""The transformers series on which every shim was tried: upstream's pin, and the newest 4.x."""

SHIMS: tuple[NextShim, ...] = (*NEXT_MODEL_SHIMS, *NEXT_TRAINER_SHIMS, *NEXT_SHARED_SHIMS)

_applied: list[str] = []


class FaceImportError(FaceHostError, ImportError):
    """``llava`` cannot be imported here. Programs that try whether it can (lmms-eval) expect an ``ImportError``."""


def is_opted_in() -> bool:
    """True where the environment asks for the mends of newer transformers."""
    return os.environ.get(NEXT_COMPAT_SWITCH) == "1"


def check() -> None:
    """Raises ``FaceHostError`` unless the installed transformers is of a series in ``SUPPORTED_SERIES``."""
    release = release_of("transformers")
    if ".".join(map(str, release[:2])) not in SUPPORTED_SERIES:
        raise FaceHostError(f"{_here()}: not supported with LLaVA-NeXT. {_advice()}")


def apply(moment: Moment) -> list[str]:
    """Applies each needed shim of ``moment`` that is not applied yet, and returns their keys.

    ``"before_llava"``: just before package ``llava`` runs. ``"before_trainer"``: just before
    ``llava/train/llava_trainer.py`` runs. ``"trainer"``: it has run. ``"models"``: nothing is due.
    Raises ``FaceImportError`` where a break would stop upstream and nobody asked for its mend; nothing is applied then.
    """
    due = [shim for shim in SHIMS if shim.moment == moment and shim.key not in _applied and shim.needed()]
    refused = [shim for shim in due if shim.opt_in and not (is_opted_in() and release_of("transformers") < (5,))]
    if refused:
        breaks = "; ".join(f"{shim.where}: {shim.symptom}" for shim in refused)
        raise FaceImportError(f"{_here()}: this LLaVA-NeXT does not run on it ({breaks}). {_advice()}")
    for shim in due:
        shim.mend()
        _applied.append(shim.key)
    return [shim.key for shim in due]


def applied() -> tuple[str, ...]:
    """The keys of the shims in force in this process, in the order of their application."""
    return tuple(_applied)


def undo() -> None:
    """Takes every shim back. Raises ``FaceHostError`` if somebody wrapped a patched name since."""
    PATCHES.undo()
    _applied.clear()


def _here() -> str:
    return f"transformers {'.'.join(map(str, release_of('transformers')))}"


def _advice() -> str:
    return (
        f"Use transformers 4.40.x (upstream's pin), or 4.57.x with {NEXT_COMPAT_SWITCH}=1 in the environment or with "
        "patches/llava-next-df17966 applied to your checkout"
    )
