"""Names of tensors: what each is, and what each host calls it.

Read off the classes of llava 1.2.2, LLaVA-NeXT and transformers 4.57 and 5.23; transformers' own conversion scripts
have the same pairs. Written for transformers is the layout of llava-hf's checkpoints, which both generations read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..errors import FaceConfigError
from .folder import Host, canonical, on_host

Kind = Literal["llm", "head", "projector", "tower", "newline"]

_BUFFERS = re.compile(r".*(\.rotary_emb\.inv_freq|\.position_ids)")
_TOWER = r"(?:vision_model\.)?((?:embeddings|encoder|pre_layrnorm|post_layernorm|head)\..+)"
_LLM = r"((?:embed_tokens|layers|norm)\..+)"
_PATTERNS: dict[Host, tuple[tuple[Kind, str], ...]] = {
    "llava": (
        ("tower", rf"model\.vision_tower\.vision_tower\.{_TOWER}"),
        ("projector", r"(model\.mm_projector\..+)"),
        ("newline", r"model\.(image_newline)"),
        ("head", r"lm_head\.(weight)"),
        ("llm", rf"model\.{_LLM}"),
    ),
    "transformers": (
        ("tower", rf"(?:model\.)?vision_tower\.{_TOWER}"),
        ("projector", r"(?:model\.)?(multi_modal_projector\..+)"),
        ("newline", r"(?:model\.)?(image_newline)"),
        ("head", r"(?:language_model\.)?lm_head\.(weight)"),
        ("llm", rf"(?:language_model\.model|model\.language_model)\.{_LLM}"),
    ),
}


@dataclass(frozen=True)
class Part:
    """What a tensor is, and its name within that."""

    kind: Kind
    name: str


def part_of(name: str, host: Host) -> Part | None:
    """None for a buffer that is not state. Raises ``FaceConfigError`` for a name that such a model does not have."""
    if _BUFFERS.fullmatch(name):
        return None
    for kind, pattern in _PATTERNS[host]:
        found = re.fullmatch(pattern, name)
        if found is not None:
            rest = found[1]
            return Part(kind, (canonical(rest) or rest) if kind == "projector" else rest)
    raise FaceConfigError(f"a tensor {name!r} has no place in the other host's model")


def name_of(part: Part, host: Host) -> str:
    """The name on that host."""
    if part.kind == "projector":
        return ("model." if host == "llava" else "") + on_host(part.name, host)
    prefix = {
        "llava": {"tower": "model.vision_tower.vision_tower.vision_model.", "newline": "model.", "head": "lm_head.",
                  "llm": "model."},
        "transformers": {"tower": "vision_tower.vision_model.", "newline": "", "head": "language_model.lm_head.",
                         "llm": "language_model.model."},
    }[host][part.kind]  # fmt: skip
    return prefix + part.name


def tower_part(name: str) -> Part | None:
    """A tensor of a tower's own directory; None for what belongs to its text half, or is no state."""
    found = re.fullmatch(_TOWER, name)
    return Part("tower", found[1]) if found is not None and not _BUFFERS.fullmatch(name) else None
