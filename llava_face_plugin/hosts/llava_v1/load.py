"""LLaVA 1.5's own loader, whatever a model directory is called and whatever it prints."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ...errors import FaceError, FaceHostError
from .. import loader


def load_llava(model_dir: Path, base: str | None, device: str, **options: Any) -> tuple[Any, Any, Any]:
    """Tokenizer, model in evaluation mode, and image processor, by ``llava.model.builder.load_pretrained_model``.

    ``options`` go to the model's ``from_pretrained``. Raises ``FaceHostError`` if llava is not installed or cannot
    load the directory.
    """
    loader.activate()
    try:
        from llava.model.builder import load_pretrained_model
    except ImportError as error:
        raise FaceHostError(f"llava cannot be imported ({error}); install llava-torch==1.2.2.post1") from error
    # LLaVA's loader decides by a name, which we choose: directories may be called anything.
    name = "llava-lora" if (model_dir / "adapter_config.json").exists() else "llava"
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it prints while it loads; stdout is for answers
            tokenizer, model, processor, _ = load_pretrained_model(
                str(model_dir), base, name, device=device, device_map=device, **options
            )
    except FaceError:
        raise
    except (OSError, ValueError, SafetensorError) as error:
        raise FaceHostError(f"{model_dir}: LLaVA cannot load it: {error}") from error
    return tokenizer, model.eval(), processor
