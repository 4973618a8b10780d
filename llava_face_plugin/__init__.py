"""Face mode for LLaVA, switched on by the ``face`` block of a model's ``config.json``.

Importing this package is cheap: it loads neither torch nor any host (the import hook relies on that).
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "FaceConfig": "llava_face_plugin.config",
    "FaceBranch": "llava_face_plugin.branch",
    "enable": "llava_face_plugin.switch",
    "disable": "llava_face_plugin.switch",
    "activate": "llava_face_plugin.hosts.loader",
    "deactivate": "llava_face_plugin.hosts.loader",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
