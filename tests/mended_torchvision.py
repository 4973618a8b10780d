"""torchvision for tests, also where PyPI's lies beside a CPU torch. Import this before transformers.

PyPI's lacks operators of its CUDA half that no image or video processor calls, and a torchvision that cannot be
imported breaks transformers: here they are declared.
"""

from __future__ import annotations

import importlib.util

_kept: list[object] = []  # the operators vanish with the object that declared them


def _mended() -> bool:
    if importlib.util.find_spec("torchvision") is None:
        return False
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        import torch

        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
    return True


AVAILABLE = _mended()
"""Whether there is a torchvision."""
