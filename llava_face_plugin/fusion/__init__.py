"""Fusions: projected image tokens and face features become LLM tokens.

A fusion is a module built as ``Fusion(config, vision_width, llm_width, sources)``, with ``face_width`` (the width it
wants the face tokens in) and called as ``fusion(layers, features, face)``; see ``Fusion``.
"""

from .append import Append
from .base import FUSIONS, Fusion, Layers
from .channel import Channel
from .gated_add import GatedAdd
from .inputs import Auxiliary, FaceInputs, Prompt, Sources
from .moe import MixtureOfExperts
from .soft_gate import SoftGate
from .text_query import TextQuery

__all__ = [
    "FUSIONS",
    "Append",
    "Auxiliary",
    "Channel",
    "FaceInputs",
    "Fusion",
    "GatedAdd",
    "Layers",
    "MixtureOfExperts",
    "Prompt",
    "SoftGate",
    "Sources",
    "TextQuery",
]  # fmt: skip
