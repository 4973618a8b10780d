"""A SegFormer checkpoint (Xie et al., 2021) in a local directory, through transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import FaceDataError
from ...maps.vocabularies import from_names
from ..extras import import_extra
from ..weights import checked, sha256_of
from .base import Network

# transformers' own defaults for a SegFormer without a preprocessor_config.json: ImageNet statistics, 512 x 512
DEFAULT_SIZE = 512
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SegformerNetwork:
    """Normalises as the checkpoint's own preprocessor does; its logits are a quarter of the input's side."""

    def __init__(
        self, model: torch.nn.Module, size: int, mean: Tensor, std: Tensor, to_canonical: tuple[int, ...], digest: str
    ) -> None:
        self.model, self.size, self.to_canonical, self.digest = model, size, to_canonical, digest
        self.mean, self.std = mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)

    def __call__(self, crops: Tensor) -> Tensor:
        """See ``base.Network``."""
        return self.model(pixel_values=(crops - self.mean) / self.std).logits


def load_segformer(path: str, device: torch.device, size: int | None = None, sha256: str | None = None) -> Network:
    """Loads ``config.json``, ``model.safetensors`` and, if it is there, ``preprocessor_config.json``.

    ``sha256`` is that of ``model.safetensors``. Raises ``FaceDataError`` if a file is missing, damaged or not as
    expected, the checkpoint lacks weights, or ``id2label`` has names that are no face parts; ``FaceHostError`` without
    a working transformers.
    """
    folder = Path(path)
    config = _json(folder / "config.json")
    if config.get("model_type") != "segformer":
        raise FaceDataError(f"{folder}/config.json: model_type is {config.get('model_type')!r}, expected 'segformer'")
    to_canonical = from_names(_id2label(config, folder), f"{folder}/config.json")
    digests = [sha256_of(folder / "config.json"), checked(folder / "model.safetensors", sha256, needs_hash=False)]
    preprocessor = folder / "preprocessor_config.json"
    settings: dict[str, Any] = {}
    if preprocessor.is_file():
        digests.append(sha256_of(preprocessor))
        settings = _json(preprocessor)
    side, mean, std = _preprocessing(settings, preprocessor)
    model = _model(folder).to(device).eval()
    mean_, std_ = (torch.tensor(value, dtype=torch.float32, device=device) for value in (mean, std))
    return SegformerNetwork(model, size or side, mean_, std_, to_canonical, ":".join(digests))


def _model(folder: Path) -> torch.nn.Module:
    segformer = import_extra("transformers.models.segformer.modeling_segformer", "llava")
    try:
        model, loading = segformer.SegformerForSemanticSegmentation.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # safetensors and transformers raise several kinds, most of them bare
        raise FaceDataError(f"{folder}: transformers cannot load it as SegFormer ({error})", "damaged") from error
    lacking = sorted(loading["missing_keys"])
    if lacking:  # transformers would go on with random weights, for example with a backbone without its head
        raise FaceDataError(f"{folder}/model.safetensors: it lacks {len(lacking)} weights, such as {lacking[0]}")
    return model


def _id2label(config: dict[str, Any], folder: Path) -> dict[int, str]:
    given = config.get("id2label")
    if not isinstance(given, dict):
        raise FaceDataError(f"{folder}/config.json: it has no id2label, the names of the classes")
    try:
        return {int(key): str(name) for key, name in given.items()}
    except ValueError as error:
        raise FaceDataError(f"{folder}/config.json: id2label has a key that is no number ({error})") from error


def _preprocessing(content: dict[str, Any], path: Path) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """Side, mean and standard deviation, of pixels in [0, 1]."""
    size = content.get("size", DEFAULT_SIZE)
    sides = set(size.values()) if isinstance(size, dict) else {size}
    side = sides.pop()
    if sides or not isinstance(side, int) or side < 1:
        raise FaceDataError(f"{path}: size {size!r}: only square inputs are supported")
    mean = tuple(content.get("image_mean", IMAGENET_MEAN)) if content.get("do_normalize", True) else (0.0,) * 3
    std = tuple(content.get("image_std", IMAGENET_STD)) if content.get("do_normalize", True) else (1.0,) * 3
    if len(mean) != 3 or len(std) != 3 or not all(std):
        raise FaceDataError(f"{path}: image_mean and image_std must be three numbers, not {mean} and {std}")
    if not content.get("do_rescale", True):
        raise FaceDataError(f"{path}: do_rescale is false: networks fed with 0..255 are not supported")
    return side, mean, std


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FaceDataError(f"{path}: no such file", "missing")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FaceDataError(f"{path}: no JSON ({error})", "format") from error
    if not isinstance(content, dict):
        raise FaceDataError(f"{path}: expected a JSON object", "format")
    return content
