"""Which of the two packages called ``llava`` this environment has."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Literal

Kind = Literal["llava_v1", "llava_next"]


def kind() -> Kind | None:
    """``"llava_v1"`` (haotian-liu/LLaVA), ``"llava_next"`` (LLaVA-VL/LLaVA-NeXT), or None: another, or none at all.

    By the package's files, so that it can be asked before ``llava`` is imported, and costs no import.
    """
    module = sys.modules.get("llava")
    # Not find_spec for what is imported: it raises for a module without a spec, which is nobody's package.
    spec = getattr(module, "__spec__", None) if module is not None else importlib.util.find_spec("llava")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        models = Path(folder) / "model" / "language_model"
        if (models / "llava_qwen.py").exists():
            return "llava_next"
        if (models / "llava_llama.py").exists():
            return "llava_v1"
    return None
