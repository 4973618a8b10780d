"""Whether a model directory is one that a host trains, by its ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import guard
from ..errors import FaceConfigError

_LANGUAGE_MODELS = {"llava": ("llama", "llava"), "llava-next": ("llama", "llava", "mistral", "qwen")}
"""Host -> what is in the ``model_type`` of what its training starts from (``llava_qwen`` is a Qwen)."""


def refuse_unfit(host: str, config: Mapping[str, Any], model_dir: Path) -> None:
    """Raises ``FaceConfigError`` where the host's training does not take such a model; not for an unknown host."""
    kind = str(config.get("model_type"))
    where = f"{model_dir}: its model_type is {kind!r}"
    if host == "transformers":
        if guard.transformers_family(config) is None:
            raise FaceConfigError(
                f"{where}: no Llava of transformers' own classes ({', '.join(guard.FAMILIES)}); "
                "an LLM or an output of LLaVA's training is for --print-command llava or llava-next"
            )
        return
    if host not in _LANGUAGE_MODELS:
        return
    if "text_config" in config or "vision_config" in config:
        raise FaceConfigError(f"{where}: a model of transformers' own classes, which {host} does not train")
    others = {mark for marks in _LANGUAGE_MODELS.values() for mark in marks} - set(_LANGUAGE_MODELS[host])
    if any(mark in kind for mark in others) or not any(mark in kind for mark in _LANGUAGE_MODELS[host]):
        raise FaceConfigError(f"{where}: {host} trains {', '.join(_LANGUAGE_MODELS[host])} only")
