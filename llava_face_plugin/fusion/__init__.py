"""Fusions: projected image tokens and face tokens become LLM tokens.

A fusion is a module built as ``Fusion(config, vision_width, llm_width)``, with ``face_width`` (the width it
wants the face tokens in) and called as ``fusion(layers, features, face)``; see ``Fusion``.
"""

from .append import Append
from .base import FUSIONS, Fusion, Layers
from .channel import Channel
from .gated_add import GatedAdd

__all__ = ["FUSIONS", "Append", "Channel", "Fusion", "GatedAdd", "Layers"]
