"""The parts of a face model by the names of its parameters, on every host."""

from __future__ import annotations

import re
from collections.abc import Iterable

PARTS: dict[str, str] = {
    "tower": "the host's vision tower",
    "facial": "the facial encoder",
    "fusion": "the face branch's fusion: MoE adapter, gates, Q-Formers",
    "projector": "the host's own projector",
    "llm": "the language model",
    "lora": "LoRA adapters in the language model",
}
"""What a stage file can name."""

WITH_FUSION = ("segmentation", "knowledge")
"""Other parts of the branch: they are trained where ``fusion`` is."""

ROWS = ("tower", "facial", "fusion", *WITH_FUSION, "projector", "llm", "lora")
"""All parts, as tables list them."""

_PROJECTORS = ("mm_projector.", "multi_modal_projector.")
_TOWERS = ("vision_tower.", "image_tower.")
_COPY = re.compile(r"modules_to_save\.[^.]+\.")
"""PEFT's copy, under the adapter's name, of a module that is trained in full."""
_ORIGINAL = "original_module."
"""The module that such a copy stands in for: PEFT keeps it as it was."""
_ADAPTER = "adapter."
"""``FaceBranch.adapter``: it makes face tokens of the facial encoder's taps, for fusions that do not read them."""


def part_of(name: str) -> str:
    """Which of ``ROWS`` the parameter of that name belongs to: ``model.mm_projector.face.fusion.gate`` -> fusion.

    ``original`` for what PEFT has put a copy of in place: no stage trains it.
    """
    if _ORIGINAL in name:
        return "original"
    name = _COPY.sub("", name)
    if "lora_" in name:
        return "lora"
    if any(mark in name for mark in _TOWERS):
        return "tower"
    for mark in _PROJECTORS:
        if mark in name:
            return _in_projector(name.partition(mark)[2])
    return "llm"


def in_stage(part: str, trainable: Iterable[str]) -> bool:
    """Whether a stage that trains ``trainable`` trains the part, one of ``ROWS``."""
    return ("fusion" if part in WITH_FUSION else part) in trainable


def _in_projector(rest: str) -> str:
    if not rest.startswith("face."):
        return "projector"
    inside = rest.removeprefix("face.")
    if inside.startswith(_ADAPTER):
        return "fusion"
    return inside.partition(".")[0]
