"""A directory with ``auto_map`` (``llava-face enable --auto-map``) keeps it through ``save_pretrained``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...model_files import AUTO_MAP, is_ours, mark_auto_map


def brings_code(config: Any) -> bool:
    """Whether a configuration, object or dict, names our classes in ``auto_map``."""
    found = config.get(AUTO_MAP) if isinstance(config, dict) else getattr(config, AUTO_MAP, None)
    return any(map(is_ours, (found or {}).values()))


class NotCopied:
    """Mixin: transformers marks classes that it found by ``auto_map``, and when they are saved copies the sources that
    they are defined in. Ours stay in the installed plugin."""

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Nothing, on purpose."""


class CarriedConfig(NotCopied):
    """Mixin over a configuration."""

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        """As upstream's, with what ``auto_map`` needs beside it."""
        saved = super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]
        if brings_code(self):
            mark_auto_map(Path(save_directory), on=True)
        return saved
