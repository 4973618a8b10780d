"""``soft-gate``: one expert per encoder, weighed by the prompt. The form that FaVChat's later versions took.

From v3 on, text-conditioned weight adapters give W_g and W_f, and the visual tokens are W_g G + W_f F (the figure of
the authors' repository). Their code scores an encoder by w . GELU(W_v mean(V) + W_t mean(T)) and takes a softmax; that
is done here. That an expert is a two-layer MLP on the patches, and the zero gate, are ours.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import FusionConfig
from .base import FUSIONS, Layers
from .experts import Expert
from .gated_add import GatedAdd
from .inputs import FaceInputs, Sources
from .prompt import PromptReader, mean_of


@FUSIONS.register("soft-gate")
class SoftGate(GatedAdd):
    """tokens = projector(g) + gate * sum_m w_m E_m(x_m), w a softmax over the encoders, one for each image.

    The encoders: ``general``, ``tokens`` (segmentation) and ``taps`` (facial), as far as they are there. With an
    ``Auxiliary``: the statistics ``weight_general``, ``weight_tokens``, ``weight_taps``.
    """

    reads_taps = reads_prompt = True

    def __init__(self, config: FusionConfig, vision_width: int, llm_width: int, sources: Sources) -> None:
        super().__init__(config, vision_width, llm_width, sources)
        self.face_width = vision_width
        widths = {"general": vision_width}
        if sources.tokens:
            widths["tokens"] = self.face_width
        if sources.taps:
            widths["taps"] = sources.taps * sources.tap_width
        self.experts = nn.ModuleDict({k: Expert(w, config.hidden, llm_width) for k, w in widths.items()})
        self.prompt = PromptReader(llm_width, config.width, neutral=1)
        self.weight = WeightAdapter(widths, config.width)

    def forward(self, layers: Layers, features: Tensor, face: FaceInputs) -> Tensor:
        like = self.gate.dtype
        found = {"tokens": face.tokens, "taps": face.taps.flatten(2)}
        found["general"] = F.layer_norm(features, features.shape[-1:])
        seen = {name: found[name].to(like) for name in self.experts}
        text, mask = self.prompt(face.prompt, len(features))
        weights = self.weight(seen, mean_of(text, mask))  # (B, M)
        parts = [weights[:, m, None, None] * self.experts[name](x) for m, (name, x) in enumerate(seen.items())]
        if face.auxiliary is not None:
            for name, weight in zip(seen, weights.mean(dim=0), strict=True):
                face.auxiliary.add_statistic(f"weight_{name}", weight)
        return self.add(layers(features), sum(parts[1:], parts[0]))

    def reset_parameters(self) -> None:
        """Fresh weights, the gate closed."""
        super().reset_parameters()
        for module in (*self.experts.values(), self.prompt, self.weight):
            module.reset_parameters()  # type: ignore[operator]


class WeightAdapter(nn.Module):
    """Named features {name: (B, P, W)} and a text vector (B, width) -> weights (B, M) that sum to 1.

    The score of one is w . GELU(W_v mean(V) + W_t text), with w and W_v its own and W_t shared (shared: ours).
    """

    def __init__(self, widths: dict[str, int], width: int) -> None:
        super().__init__()
        self.look = nn.ModuleDict({name: nn.Linear(w, width) for name, w in widths.items()})
        self.ask = nn.Linear(width, width, bias=False)
        self.score = nn.Parameter(torch.empty(len(widths), width))
        self._draw()

    def forward(self, seen: dict[str, Tensor], text: Tensor) -> Tensor:
        looked = [self.look[name](x.mean(dim=1)) for name, x in seen.items()]
        hidden = F.gelu(torch.stack(looked, dim=1) + self.ask(text)[:, None])  # (B, M, width)
        # A product and a sum: a matrix-vector product rounds by where its weight lies in memory, so that a reloaded
        # model would not be the same bit for bit.
        scores = (hidden.float() * self.score.float()).sum(dim=-1)
        return scores.softmax(dim=-1).to(text.dtype)

    def reset_parameters(self) -> None:
        """Fresh weights."""
        for module in (*self.look.values(), self.ask):
            module.reset_parameters()  # type: ignore[operator]
        self._draw()

    def _draw(self) -> None:
        bound = 1 / math.sqrt(self.score.shape[1])  # as a linear layer's
        nn.init.uniform_(self.score, -bound, bound)
