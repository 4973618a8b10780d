"""The facial encoder: pixels -> features of several granularities, on the grid of the general features.

FaVChat (arXiv 2503.09158 v2): multi-granularity representations are taken from a facial encoder of its own. Which
blocks, and the resampling, are our defaults (facial_config.py).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import FaceHostError
from ..facial_config import FacialConfig
from .backbones import normalise
from .base import resample
from .vit import VisionTransformer
from .vit_weights import load_weights


class FacialEncoder(nn.Module):
    """RGB (B, 3, H, W) in [0, 1] -> (B, grid^2, taps, width), each tap normalised to mean 0 and variance 1 a token.

    The normalisation is ours: the taps are the raw residual stream, whose scale grows from block to block.

    A frozen encoder has no parameters in the tree and reads its path at its first use. A trained one is a module of
    the tree, so that it is trained and saved as the rest of the branch; ``reset_parameters``, which hosts call only
    where a checkpoint has no branch yet, reads the path.
    """

    def __init__(self, config: FacialConfig) -> None:
        super().__init__()
        self.config = config
        trained = config.trained
        self.vit = VisionTransformer(config.vit, config.grid, config.taps[-1] + 1) if trained else None
        self._frozen = None if trained else FrozenVisionTransformer(config)

    @property
    def shape(self) -> tuple[int, int]:
        """(taps, width)."""
        return len(self.config.taps), self.config.vit.width

    def forward(self, rgb: Tensor | None, grid: int, like: Tensor) -> Tensor:
        """``rgb`` as above; ``like``: a tensor whose dtype and device the result takes.

        Raises ``FaceHostError`` if the host has handed in no pixels.
        """
        if rgb is None:
            raise FaceHostError("face.facial needs the image's pixels, which this host does not hand to the branch")
        pixels = normalise(fitted(rgb.float(), self.config.size), self.config.mean, self.config.std)
        if self.vit is not None:
            found = self.vit(pixels.to(self.vit.positions.dtype), self.config.taps)
        else:
            found = self._frozen(pixels)  # type: ignore[misc]
        width = (self.config.vit.width,)
        taps = [resample(F.layer_norm(tap, width), grid) for tap in found]
        return torch.stack(taps, dim=2).to(dtype=like.dtype, device=like.device)

    def reset_parameters(self) -> None:
        """A trained encoder: the weights at ``path``, or fresh ones without a path."""
        if self.vit is None:
            return
        if self.config.path is None:
            self.vit.reset_parameters()
            return
        weights = load_weights(self.config)
        with torch.no_grad():
            for name, parameter in self.vit.named_parameters():
                parameter.copy_(weights[name])


class FrozenVisionTransformer:
    """A ``VisionTransformer`` that is never trained and never saved; not a module, as ``FrozenVit`` is none.

    Copies and pickles without its weights.
    """

    def __init__(self, config: FacialConfig) -> None:
        self.config = config
        self._model: VisionTransformer | None = None

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> list[Tensor]:
        """Normalised pixels (B, 3, size, size) -> the taps, each (B, P, width), in the weights' dtype."""
        if self._model is None:
            self._model = self._load(pixels.device)
        self._model.to(pixels.device)
        return self._model(pixels.to(self._model.positions.dtype), self.config.taps)

    def _load(self, device: torch.device) -> VisionTransformer:
        with torch.device("meta"):
            model = VisionTransformer(self.config.vit, self.config.grid, self.config.taps[-1] + 1)
        # Weights made in inference mode could not be moved by a later training step.
        with torch.inference_mode(False), torch.device("cpu"):
            model.load_state_dict(load_weights(self.config), assign=True)
        # Half precision on a GPU, as LLaVA's own tower and FrozenVit have it.
        return model.to(torch.float32 if device.type == "cpu" else torch.float16).eval().requires_grad_(False)

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenVisionTransformer:
        return FrozenVisionTransformer(self.config)

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenVisionTransformer, (self.config,)


class TapAdapter(nn.Module):
    """Taps (B, P, taps, width) -> face tokens (B, P, out_width), for fusions that do not read the taps themselves.

    A two-layer MLP over the concatenated taps (our default).
    """

    def __init__(self, config: FacialConfig, out_width: int) -> None:
        super().__init__()
        self.widen = nn.Linear(len(config.taps) * config.vit.width, config.width)
        self.project = nn.Linear(config.width, out_width)

    def forward(self, taps: Tensor) -> Tensor:
        return self.project(F.gelu(self.widen(taps.flatten(2))))

    def reset_parameters(self) -> None:
        """Fresh weights."""
        self.widen.reset_parameters()
        self.project.reset_parameters()


def fitted(rgb: Tensor, size: int) -> Tensor:
    """RGB (B, 3, H, W) -> (B, 3, size, size), bilinear and without aliasing (our default); as it is where it fits."""
    if rgb.shape[-2:] == (size, size):
        return rgb
    return F.interpolate(rgb, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
