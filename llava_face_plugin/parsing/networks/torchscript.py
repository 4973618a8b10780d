"""A parsing network of the user's, traced or scripted to one TorchScript file."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import FaceConfigError, FaceDataError
from ...maps.vocabularies import TO_CANONICAL
from ..weights import checked
from .base import Network


class TorchScriptNetwork:
    """Calls a scripted module that takes (n, 3, size, size) RGB in [0, 1]; any normalisation is inside of it."""

    def __init__(self, module: torch.nn.Module, size: int, to_canonical: tuple[int, ...], digest: str) -> None:
        self.module, self.size, self.to_canonical, self.digest = module, size, to_canonical, digest

    def __call__(self, crops: Tensor) -> Tensor:
        """See ``base.Network``. Of (logits, auxiliary ...) the logits are taken."""
        out = self.module(crops)
        return out[0] if isinstance(out, tuple | list) else out


def load_torchscript(
    path: str, device: torch.device, vocabulary: str = "celebamask-hq", size: int = 512,
    sha256: str | None = None,
) -> Network:  # fmt: skip
    """Loads the file, once its hash is known, and tries it on one black image.

    Raises ``FaceDataError`` if the file is missing, not allowed by its hash or no TorchScript, and
    ``FaceConfigError`` if it cannot take the size or has not as many classes as the vocabulary.
    """
    digest = checked(path, sha256, needs_hash=True)
    try:
        module = torch.jit.load(path, map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise FaceDataError(f"weights {path}: no TorchScript file ({error})", "format") from error
    network = TorchScriptNetwork(module, size, TO_CANONICAL[vocabulary], digest)
    try:
        with torch.inference_mode():
            logits = network(torch.zeros(1, 3, size, size, device=device))
    except RuntimeError as error:
        last = str(error).strip().splitlines()[-1]
        raise FaceConfigError(f"parser {path}: it does not run on 1x3x{size}x{size} ({last}); set size") from error
    check_classes(logits, vocabulary, path)
    return network


def check_classes(logits: Tensor, vocabulary: str, path: str) -> None:
    """Raises ``FaceConfigError`` unless the logits are (n, C, h, w) with as many classes as the vocabulary."""
    expected = len(TO_CANONICAL[vocabulary])
    if logits.ndim != 4:
        raise FaceConfigError(f"parser {path}: its output has shape {tuple(logits.shape)}, expected (n, C, h, w)")
    if logits.shape[1] != expected:
        raise FaceConfigError(
            f"parser {path}: it has {logits.shape[1]} classes, vocabulary {vocabulary!r} has {expected}; known: "
            + ", ".join(f"{name} ({len(ids)})" for name, ids in TO_CANONICAL.items())
        )
