"""Constant arrays of a module that are neither parameters nor buffers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class Constants:
    """A small cache of numpy arrays as tensors, one per (name, device, dtype), filled on first use.

    Hosts build modules on the meta device and save only ``named_parameters()``, so a buffer would come back
    empty or not at all. A module keeps its array as numpy and an instance of this class as a plain attribute;
    the cache is in no state dict, and a copy or a pickle of it starts empty.
    """

    def __init__(self) -> None:
        self._cache: dict[tuple[str, torch.device, torch.dtype], Tensor] = {}

    def get(self, name: str, array: np.ndarray, device: torch.device | str, dtype: torch.dtype) -> Tensor:
        """``array`` as a tensor of its shape. ``name`` must stand for one and the same array throughout."""
        key = (name, torch.device(device), dtype)
        if key not in self._cache:
            # A tensor made under inference_mode could not take part in a later training step.
            with torch.inference_mode(False):
                self._cache[key] = torch.from_numpy(np.array(array, order="C")).to(device=device, dtype=dtype)
        return self._cache[key]

    def __reduce__(self) -> tuple[type[Constants], tuple[()]]:
        return Constants, ()
