"""Files of weights: the face adapter, and checkpoints from one host to another. No model is built for either.

``save_adapter``, ``apply_adapter`` and ``load_adapter`` are the face adapter; ``convert`` is the conversion.
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "FaceAdapter": "adapter",
    "save_adapter": "save",
    "apply_adapter": "apply",
    "load_adapter": "live",
    "convert": "conversion",
}

__all__ = [*_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
