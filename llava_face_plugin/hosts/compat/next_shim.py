"""What a mend of LLaVA-NeXT is, and how its breaks are seen before its modules run."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from .shim import Shim


@dataclass(frozen=True)
class NextShim(Shim):
    """One break of LLaVA-NeXT and its mend."""

    opt_in: bool = False
    """True: only where LLAVA_FACE_NEXT_COMPAT=1 asks for it. It mends a transformers that upstream never ran on."""


def imports_gone(file: str, module: str) -> list[str]:
    """The names that upstream's ``file`` (below the package ``llava``) imports from ``module``, which has them no more.

    Read off the source: such an import stops the file, so it cannot be asked. Imports inside of ``try`` do not count.
    """
    source = _package_folder() / file
    if not source.exists():
        return []
    wanted = [
        alias.name
        for node in ast.parse(source.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.module == module
        for alias in node.names
    ]
    return [name for name in wanted if not hasattr(importlib.import_module(module), name)]


def _package_folder() -> Path:
    # find_spec raises for a module that has no spec; while llava is being imported, sys.modules has it already.
    spec = getattr(sys.modules.get("llava"), "__spec__", None) or importlib.util.find_spec("llava")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("package llava is not installed")
    return Path(spec.submodule_search_locations[0])
