"""Optional packages, imported where they are first needed: what is missing or broken is said in one message."""

from __future__ import annotations

import importlib
from types import ModuleType

from ..errors import FaceHostError
from ..maps.extras import install_hint

BROKEN_TORCHVISION = (
    "torchvision is installed but does not fit this torch ({error}). Both must come from the same index: for CPU "
    "`pip install --index-url https://download.pytorch.org/whl/cpu torch torchvision`, for CUDA the index of your "
    "CUDA version; PyPI's torchvision beside a CPU torch does not work"
)


def import_extra(module: str, extra: str) -> ModuleType:
    """The module of an optional package.

    Raises ``FaceHostError`` that names the pip extra where the package is missing, and the cause where it is there and
    does not import; a torchvision built for another torch is named as such (it fails with a RuntimeError).
    """
    try:
        return importlib.import_module(module)
    except Exception as error:  # a broken torchvision raises RuntimeError, AttributeError or ImportError by turns
        hint = install_hint(extra)
        if isinstance(error, ModuleNotFoundError) and error.name == module.split(".")[0]:
            raise FaceHostError(f"{error.name} is not installed: {hint}") from error
        if "torchvision" in str(error):
            raise FaceHostError(f"{module} cannot be imported: " + BROKEN_TORCHVISION.format(error=error)) from error
        raise FaceHostError(f"{module} is installed but cannot be imported ({error}): {hint}") from error
