"""``text-query``: the three prompt-query levels of FaVChat's versions 3 to 6.

After the figure (framework.png), README and code of heavenhellchen/FaVChat, at a width of ours (``fusion.width``) where
the released code has the LLM's, which costs 1.34 G parameters:

    low     W_j = MLP_j(tap j); a chain of CA2 modules from the first tap to the last: prev, first the prompt itself,
            asks W_j; a linear layer; the prompt asks the result. (figure)
    middle  two Q-Formers, general and facial: learned queries + MLP(mean prompt), layers of cross-attention and MLP
            (code), and an MLP behind each (figure).
    high    W_g, W_f = softmax of two text-conditioned scores; fused = norm(W_g G + W_f F). (figure, code)

The authors' decoder is given the fused query tokens in place of the image's. Here the image's tokens stay, and each
patch reads the fused queries by one more cross-attention, behind a zero gate: no LLM token is added or lost, and step 0
equals the base model. That is ours, as are residuals, norms, widths, and the neutral prompt.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import FusionConfig
from .attention import CrossAttention
from .base import FUSIONS, Layers
from .experts import Expert
from .gated_add import GatedAdd
from .inputs import FaceInputs, Sources
from .prompt import PromptReader, mean_of
from .soft_gate import WeightAdapter


@FUSIONS.register("text-query")
class TextQuery(GatedAdd):
    """Low, middle and high prompt-query levels; segmentation's tokens, if any, are one more level behind the taps.

    With an ``Auxiliary``: the statistics ``weight_general`` and ``weight_facial``.
    """

    reads_taps = reads_prompt = True

    def __init__(self, config: FusionConfig, vision_width: int, llm_width: int, sources: Sources) -> None:
        super().__init__(config, vision_width, llm_width, sources)
        width, heads = config.width, config.heads
        self.face_width = width
        levels = [sources.tap_width] * sources.taps + [self.face_width] * sources.tokens
        self.prompt = PromptReader(llm_width, width, neutral=config.queries)
        self.levels = nn.ModuleList(Expert(w, width, width) for w in levels)
        self.chain = nn.ModuleList(PromptedLevel(width, heads) for _ in levels)
        self.general = nn.Linear(vision_width, width)
        self.readers = nn.ModuleDict({name: QFormer(config) for name in ("general", "facial")})
        self.weight = WeightAdapter({"general": width, "facial": width}, width)
        self.norm = nn.LayerNorm(width)
        self.back = CrossAttention(width, heads)
        self.project = nn.Linear(width, llm_width)

    def forward(self, layers: Layers, features: Tensor, face: FaceInputs) -> Tensor:
        like = self.gate.dtype
        general = self.general(F.layer_norm(features, features.shape[-1:]).to(like))  # (B, P, width)
        text, mask = self.prompt(face.prompt, len(features))
        facial = self.low(face, text, mask)
        asked = mean_of(text, mask)
        queries = {
            "general": self.readers["general"](asked, general, None),
            "facial": self.readers["facial"](asked, facial, mask),
        }
        weights = self.weight(queries, asked)  # (B, 2)
        if face.auxiliary is not None:
            for name, weight in zip(queries, weights.mean(dim=0), strict=True):
                face.auxiliary.add_statistic(f"weight_{name}", weight)
        fused = sum(weights[:, m, None, None] * tokens for m, tokens in enumerate(queries.values()))
        return self.add(layers(features), self.project(self.back(general, self.norm(fused))))

    def low(self, face: FaceInputs, text: Tensor, mask: Tensor) -> Tensor:
        """The taps, aggregated from the first to the last: (B, N + T, width), a vector for each token of the prompt."""
        seen = [*face.taps.unbind(dim=2)] + ([face.tokens] if face.tokens.shape[-1] else [])
        previous = text
        for level, module, tokens in zip(self.levels, self.chain, seen, strict=True):
            previous = module(previous, level(tokens.to(text.dtype)), text, mask)
        return previous

    def reset_parameters(self) -> None:
        """Fresh weights, the gate closed."""
        super().reset_parameters()
        lists = (self.levels, self.chain, self.readers.values())
        own = (self.prompt, self.general, self.weight, self.norm, self.back, self.project)
        for module in (*own, *(module for each in lists for module in each)):
            module.reset_parameters()  # type: ignore[operator]


class PromptedLevel(nn.Module):
    """CA2(prev, W, text): h = Linear(CrossAttn(Q = prev, K = V = W)); CrossAttn(Q = text, K = V = h)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.read = CrossAttention(width, heads)
        self.between = nn.Linear(width, width)
        self.ask = CrossAttention(width, heads)

    def forward(self, previous: Tensor, level: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """``previous`` and ``text`` (B, N, width), ``mask`` (B, N), ``level`` (B, P, width) -> (B, N, width)."""
        return self.ask(text, self.between(self.read(previous, level)), mask)

    def reset_parameters(self) -> None:
        """Fresh weights."""
        for module in (self.read, self.between, self.ask):
            module.reset_parameters()


class QFormer(nn.Module):
    """Learned queries + MLP(text) -> layers of cross-attention and MLP -> MLP: (B, queries, width)."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        width = config.width
        self.queries = nn.Parameter(torch.empty(config.queries, width))
        self.adapt = Expert(width, width, width)
        self.attend = nn.ModuleList(CrossAttention(width, config.heads) for _ in range(config.layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.layers))
        self.think = nn.ModuleList(Expert(width, 4 * width, width) for _ in range(config.layers))
        self.last = Expert(width, width, width)
        self._draw()

    def forward(self, text: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """``text`` (B, width), ``context`` (B, M, width), ``mask`` (B, M) bool or None."""
        x = self.queries + self.adapt(text)[:, None]
        for attend, norm, think in zip(self.attend, self.norms, self.think, strict=True):
            x = attend(x, context, mask)
            x = x + think(norm(x))
        return self.last(x)

    def reset_parameters(self) -> None:
        """Fresh weights."""
        for module in (self.adapt, *self.attend, *self.norms, *self.think, self.last):
            module.reset_parameters()  # type: ignore[operator]
        self._draw()

    def _draw(self) -> None:
        nn.init.normal_(self.queries, std=0.02)
