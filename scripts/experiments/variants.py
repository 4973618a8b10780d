"""FaVChat's parts, one left out at a time: the rows of the ablation. What each row is, is our definition.

FaVChat (arXiv 2503.09158 v2) names the parts; how its own ablation is made is not in the readable part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from llava_face_plugin.config import merged

EXPERTS, TOP_K = 4, 2


@dataclass(frozen=True)
class Variant:
    """A row of the table, and how it differs from the full one."""

    name: str
    what: str
    face: bool = True
    """Whether face mode is on."""
    general: bool = True
    """Whether the tower's features reach projector and experts; else they are zeros there."""
    facial: bool = True
    """Whether there is a facial encoder."""
    routed: bool = True
    """Whether there are ``EXPERTS`` experts and a router; else one expert as wide as the ``TOP_K`` that are active."""
    every_tap: bool = True
    """Whether all taps are read; else the last one."""


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("full", "general features and all taps, mixture of experts"),
        Variant("general only", "no facial encoder", facial=False),
        Variant("facial only", "zeros for the tower's features", general=False),
        Variant("no MoE", "one expert of twice the width", routed=False),
        Variant("no multi-granularity", "the last tap alone", every_tap=False),
        Variant("off", "plain model, face mode off", face=False),
    )
}


def face_block(variant: Variant, facial: Mapping[str, Any], hidden: int) -> dict[str, Any] | None:
    """The ``face`` block over preset ``favchat``; None for ``off``.

    Args:
        facial: what the encoder is: ``path``, ``taps``, ``size``, ``vit``, as in ``face.facial``.
        hidden: width of one of ``EXPERTS`` experts.
    """
    if not variant.face:
        return None
    experts, top_k, wide = (EXPERTS, TOP_K, hidden) if variant.routed else (1, 1, TOP_K * hidden)
    encoder = merged(facial, {} if variant.every_tap else {"taps": list(facial["taps"])[-1:]})
    return {
        "preset": "favchat",
        "facial": encoder if variant.facial else None,
        "fusion": {
            "experts": experts,
            "top_k": top_k,
            "hidden": wide,
            "general": variant.general,
            "balance_over": "batch",
        },
    }


def without_general(projector: nn.Module) -> None:
    """Replaces the tower's features by zeros on their way into ``projector``: nothing of them reaches any layer.

    The facial encoder is not touched: it is shown the pixels. Call it for a variant without ``general``.
    """

    def blank(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (torch.zeros_like(args[0]), *args[1:])

    projector.register_forward_pre_hook(blank)
