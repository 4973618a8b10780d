"""Constant tensors that follow the device, without being state.

A buffer would be lost by hosts that build on the meta device, save ``named_parameters`` only, or skip buffers
that no checkpoint holds. What can be rebuilt from the configuration is therefore kept as numpy and moved on
demand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


class Constants:
    """A small cache of constant tensors, by name, device and dtype. Copies and pickles as an empty cache."""

    def __init__(self) -> None:
        self._tensors: dict[tuple[str, torch.device, torch.dtype], Tensor] = {}

    def get(self, name: str, array: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
        """``array`` as a tensor there. One name must always come with the same array."""
        key = (name, device, dtype)
        if key not in self._tensors:
            # A tensor made in inference mode could not be used by a later training step.
            with torch.inference_mode(False):
                self._tensors[key] = torch.tensor(np.asarray(array)).to(device=device, dtype=dtype)
        return self._tensors[key]

    def __reduce__(self) -> tuple[type[Constants], tuple[()]]:
        return Constants, ()
