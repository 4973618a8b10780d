"""How the plugin gets into unmodified upstream scripts.

Three ways, with the same effect:

1. the hook: ``llava_face_plugin.pth``, installed with the package, calls ``install()`` in every Python process;
2. the launcher: ``python -m llava_face_plugin.launch script.py ...``;
3. the patch: ``patches/llava-1.2.2`` gives LLaVA an entry point hook that calls ``activate()``.

Nothing happens until ``llava`` is imported, and then the ``face`` flag of the model's ``config.json`` alone decides:
no variable has to travel through torchrun, deepspeed, pdsh or SLURM. ``LLAVA_FACE=0`` switches the hook off.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from .environment import CPU_SWITCH, SWITCH
from .imports import forget, is_imported, when_imported

if TYPE_CHECKING:
    from .compat import Moment

_way = ""


def install(way: str = "hook") -> None:
    """Waits for ``llava``. Imports nothing heavy, never raises, and may be called again."""
    global _way
    if _way or os.environ.get(SWITCH) == "0":
        return
    _way = way
    if os.environ.get(CPU_SWITCH) == "1":
        from .compat.cpu import install_cpu_dry_run

        install_cpu_dry_run()
    when_imported("llava", before=_before_llava, after=lambda module: _on_llava())
    when_imported("llava.train.llava_trainer", before=_before_trainer, after=lambda module: _on_trainer())


def activate() -> None:
    """As ``install``, from within LLaVA (the patch's entry point) or from a notebook, before or after ``llava``."""
    install("patch" if "llava" in sys.modules and not is_imported("llava") else "call")
    if "llava.model" in sys.modules and os.environ.get(SWITCH) != "0":
        _on_llava()


def deactivate() -> None:
    """Leaves upstream as it was found, and stops waiting."""
    global _way
    _way = ""
    forget()
    if "llava" in sys.modules:
        from . import compat

        host = _host()
        if host is not None:
            host.remove_gate()
        compat.undo()


def way() -> str:
    """How the plugin was loaded into this process: ``hook``, ``launch``, ``patch``, ``call``, or empty."""
    return _way


def _before_llava() -> None:
    _mend("before_llava")


def _on_llava() -> None:
    host = _host()
    if host is None:
        return
    if os.environ.get(CPU_SWITCH) == "1":
        from .compat.cpu import mend_on_cpu

        mend_on_cpu("llava")  # waiting for llava is too late when llava itself calls (the patch)
    _mend("models")
    host.install_gate()


def _before_trainer() -> None:
    _mend("before_trainer")


def _on_trainer() -> None:
    _mend("trainer")


def _mend(moment: Moment) -> None:
    host = _host()
    if host is not None:
        host.mend(moment)


def _host() -> Any | None:
    """The seam to the package called ``llava`` that is here; None if it is some other package."""
    from .llava import which

    kind = which.kind()
    return importlib.import_module(f".{kind}", __package__) if kind else None
