"""What pydantic finds wrong with a block, in this package's words: one line a key, with its path and a suggestion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from .registry import unknown_name

Blocks = Mapping[str, type[BaseModel]]
"""Path of a block within the whole (``""``: the whole itself) -> its model, for suggestions of keys."""


def explain(error: ValidationError, where: str, root: str, blocks: Blocks) -> str:
    """One line for each wrong key: ``where: root.path.of.key: what is wrong``."""
    lines = []
    for item in error.errors():
        path = ".".join(part for part in (root, *map(str, item["loc"])) if part)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = _unknown_key(item["loc"], blocks)
        elif item["type"] == "string_pattern_mismatch":
            message = f"expected text of the form {item['ctx']['pattern']}, not {item['input']!r}"
        elif isinstance(item["input"], str | int | float | None) and item["type"] != "value_error":
            message += f", not {item['input']!r}"
        lines.append(": ".join(part for part in (where, path, message) if part))
    return "\n".join(lines)


def _unknown_key(loc: tuple[Any, ...], blocks: Blocks) -> str:
    """What a misspelt key was probably meant to be."""
    block = blocks.get(".".join(str(part) for part in loc[:-1] if isinstance(part, str)))
    if block is None:
        return "unknown key"
    return unknown_name("key", str(loc[-1]), (f.alias or name for name, f in block.model_fields.items()))
