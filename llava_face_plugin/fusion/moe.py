"""``moe``: FaVChat's mixture-of-experts adapter.

FaVChat (arXiv 2503.09158 v2): an MoE-enhanced adapter adaptively fuses general and facial features, of which the
latter are of several granularities. That is all that is readable. Experts, gating, top-k, the losses, and how the
result joins the LLM's tokens are our defaults:

    z_i = [g_i ; f_i^(taps)]      h_i = sum over the top k of softmax(W_r z_i)_k / (their sum) * E_k(z_i)
    tokens_i = projector(g_i) + gate * h_i
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import FusionConfig
from .base import FUSIONS, Layers
from .experts import DISPATCH, Expert, Router, Routing, balance_loss, entropy, load, route, z_loss
from .gated_add import GatedAdd
from .inputs import Auxiliary, FaceInputs, Sources


@FUSIONS.register("moe")
class MixtureOfExperts(GatedAdd):
    """Top-k routed experts over general features, face tokens (if any) and taps (if any), behind a zero gate.

    With an ``Auxiliary``: losses ``balance`` and ``router_z``, statistics ``expert_load`` (K,), ``expert_probability``
    (K,), ``expert_gates`` (P, K) by place in the image, and ``router_entropy``.
    """

    reads_taps = True

    def __init__(self, config: FusionConfig, vision_width: int, llm_width: int, sources: Sources) -> None:
        super().__init__(config, vision_width, llm_width, sources)
        self.config = config
        self.face_width = vision_width
        width = config.general * vision_width + sources.tokens * self.face_width + sources.taps * sources.tap_width
        self.router = Router(width, config.experts)
        self.experts = nn.ModuleList(Expert(width, config.hidden, llm_width) for _ in range(config.experts))

    def forward(self, layers: Layers, features: Tensor, face: FaceInputs) -> Tensor:
        z = self.joined(features, face)
        logits = self.router(z)
        routing = route(logits, self.config.top_k)
        mixed = DISPATCH[self.config.dispatch](self.experts, z, routing)  # type: ignore[arg-type]
        if face.auxiliary is not None:
            self._report(face.auxiliary, logits, routing)
        return self.add(layers(features), mixed)

    def joined(self, features: Tensor, face: FaceInputs) -> Tensor:
        """z (B, P, Z). The tower's features are normalised for it, as the taps are: ours."""
        parts = [face.tokens, face.taps.flatten(2)]
        if self.config.general:
            parts.insert(0, F.layer_norm(features, features.shape[-1:]))
        return torch.cat([part.to(self.gate.dtype) for part in parts], dim=-1)

    def _report(self, auxiliary: Auxiliary, logits: Tensor, routing: Routing) -> None:
        per_image = self.config.balance_over == "image"
        auxiliary.add_loss("balance", balance_loss(routing, per_image), self.config.balance_weight)
        auxiliary.add_loss("router_z", z_loss(logits), self.config.z_weight)
        auxiliary.add_statistic("expert_load", load(routing))
        auxiliary.add_statistic("expert_probability", routing.probabilities.mean(dim=(0, 1)))
        auxiliary.add_statistic("expert_gates", routing.gates.mean(dim=0))
        auxiliary.add_statistic("router_entropy", entropy(routing.probabilities))

    def reset_parameters(self) -> None:
        """Fresh experts and router, the gate closed."""
        super().reset_parameters()
        self.router.reset_parameters()
        for expert in self.experts:
            expert.reset_parameters()  # type: ignore[operator]
