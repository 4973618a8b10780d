"""Model directories as far as the switch looks at those without knowledge: a configuration and a file of weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

LLM: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "note": "ünïcode"}
LLAVA: dict[str, Any] = {
    "architectures": ["LlavaLlamaForCausalLM"],
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "mm_projector_type": "mlp2x_gelu",
    "mm_hidden_size": 1024,
}


def model(folder: Path, config: dict[str, Any]) -> Path:
    """A model directory as far as the switch looks at one without knowledge."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def read(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "config.json").read_text()))


def files(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))
