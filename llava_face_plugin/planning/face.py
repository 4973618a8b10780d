"""The face block of a plan: a preset's, or a file's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..config import KEY, PRESETS, FaceConfig, merged
from ..data.made_attributes import MADE_ATTRIBUTES
from ..errors import FaceConfigError
from ..knowledge.rules import load_rules
from ..labels import CELEBA_ATTRIBUTES, prompt_of

KNOWLEDGE = {20: (MADE_ATTRIBUTES, "made"), 40: (CELEBA_ATTRIBUTES, "celeba")}
"""Attributes of a stand-in knowledge block -> their names and their rules."""

WEIGHTS = "weights of this shape"
"""Stands in for ``facial.path``, which a plan does not read: ViT-B/16 as FaRL has it, unless ``facial.vit`` is set."""


def knowledge_block(attributes: int) -> dict[str, Any]:
    """Prompts of three tokens and two neighbours an attribute: shapes count here, not contents."""
    names, rules = KNOWLEDGE[attributes]
    return {
        "file": rules,
        "attributes": [{"name": n, "prompt": prompt_of(n), "tokens": [1, 2, 3]} for n in names],
        "graph": {n: {names[i - 1]: 0.5, names[i - 2]: 0.5} for i, n in enumerate(names)},
        "rules": [rule.to_dict() for rule in load_rules(rules)],
    }


def of_preset(preset: str, attributes: int | None = None, settings: dict[str, Any] | None = None) -> FaceConfig:
    """The preset with stand-in knowledge of 0, 20 or 40 attributes (default: 40 for ``faceinsight``, else 0).

    A facial encoder needs no path. Raises ``FaceConfigError`` for settings that are none.
    """
    if attributes is None:
        attributes = 40 if preset == "faceinsight" else 0
    if attributes not in (0, *KNOWLEDGE):
        raise FaceConfigError(f"--attributes {attributes}: expected 0, {' or '.join(map(str, KNOWLEDGE))}")
    block = merged({"enabled": True, "preset": preset}, settings or {})
    facial = merged(PRESETS.get(preset, {}), block).get("facial")
    if isinstance(facial, dict):
        block["facial"] = {"path": WEIGHTS, **facial}
    if attributes:
        block["knowledge"] = knowledge_block(attributes)
    return FaceConfig.parse(block, f"preset {preset}")


def of_file(path: Path) -> FaceConfig:
    """The block in a JSON file: a model's ``config.json``, or the block alone. Raises ``FaceConfigError``."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FaceConfigError(f"{path}: {error}") from None
    block = found.get(KEY, found) if isinstance(found, dict) else found
    return FaceConfig.parse(block, str(path))
