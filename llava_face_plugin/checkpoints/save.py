"""``llava-face adapter save``: the branch out of a checkpoint of any host, or out of a model in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import FaceConfigError, FaceDataError
from .adapter import FaceAdapter, projector_checksum
from .facial import known_checksum
from .folder import ModelFolder
from .live import from_model
from .weights import parts


def save_adapter(
    model: str | Path | nn.Module,
    path: str | Path,
    *,
    base: str | Path | None = None,
    with_projector: bool = False,
) -> FaceAdapter:
    """Writes the face branch of ``model`` into one safetensors file.

    Args:
        model: a checkpoint directory of any host, whole or a part (mm_projector.bin, LoRA, PEFT's modules_to_save), or
            a model in memory, however it is wrapped.
        path: the file to write.
        base: a directory alone: the model that a partial checkpoint was trained on, where it does not say itself.
        with_projector: put the projector in too. The branch was trained with it: leave it out only if it was frozen,
            or if the model that the adapter is for has the same one.

    Returns:
        The adapter as written. Raises ``FaceConfigError`` if face mode is off in the model, ``FaceDataError`` for
        weights that are missing, damaged or not those of the block, ``FaceHostError`` for a model in memory without
        a branch.
    """
    if isinstance(model, nn.Module):
        adapter = from_model(model, with_projector)
    else:
        adapter = from_folder(Path(model), Path(base) if base is not None else None, with_projector)
    adapter.write(path)
    return adapter


def from_folder(directory: Path, base: Path | None = None, with_projector: bool = False) -> FaceAdapter:
    """The adapter of a checkpoint directory. Reads the branch's and the projector's tensors, and no others."""
    folder = _with_branch(ModelFolder.open(directory, base))
    face = folder.face
    if face is None:
        raise FaceConfigError(f"{directory}: face mode is off (no face block in its config.json)")
    if not folder.branch:
        raise FaceDataError(f"{directory}: holds no face weights: it was not trained yet, or without face mode")
    vision_width, llm_width = folder.widths()
    layers = _layers(folder)
    if any("lora_" in name or "base_layer" in name for name in layers):
        raise FaceDataError(f"{directory}: LoRA was put into the projector itself: merge it first (merge_and_unload)")
    try:
        return FaceAdapter(
            face=face, vision_width=vision_width, llm_width=llm_width,
            tensors={name: folder.weights.read(held) for name, held in folder.branch.items()},
            projector=layers if with_projector else {}, host=folder.host, vision=folder.vision(),
            projector_sha256=projector_checksum(layers), facial_sha256=known_checksum(face.facial),
        )  # fmt: skip
    except FaceDataError as error:
        raise FaceDataError(f"{directory}: {error}") from None


def _with_branch(folder: ModelFolder) -> ModelFolder:
    """A whole model that was copied together with a projector's file: the file that has the branch."""
    if folder.branch or not folder.whole:
        return folder
    beside = parts(folder.path)
    if beside is None or not any("projector.face." in name for name in beside):
        return folder
    raise FaceDataError(
        f"{folder.path}: its whole model has no face weights, a file of parts beside it has: keep the one that counts"
    )


def _layers(folder: ModelFolder) -> dict[str, Any]:
    """The projector's own tensors; of an adapter that did not train them, its base's."""
    held = folder.base if not folder.layers and folder.base is not None else folder
    layers: dict[str, torch.Tensor] = {short: held.weights.read(name) for short, name in held.layers.items()}
    return layers
