"""Vision towers of transformers: the one room of the core that may build transformers' models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor

from ..errors import FaceConfigError, FaceDataError
from ..facial_config import Activation, VitConfig
from .vit_weights import READERS, UNREAD, VitCheckpoint, translated


class FrozenVit:
    """A pre-trained CLIP or SigLIP vision tower, never trained and never saved.

    Not an ``nn.Module`` on purpose: registered under the projector it would be unfrozen by upstream's first
    stage, written into every adapter, and partitioned by ZeRO-3. Like LLaVA's own tower it always loads from
    its path.

    Args:
        name: directory or hub name; its image processor's mean, std and size are used.
        select_layer: which hidden layer is read, as LLaVA's ``mm_vision_select_layer``.
    """

    def __init__(self, name: str, select_layer: int) -> None:
        self.name = name
        self.select_layer = select_layer
        self._model: Any = None

    @torch.no_grad()
    def __call__(self, rgb: Tensor) -> Tensor:
        """RGB (B, 3, H, W) in [0, 1] -> patch features (B, P, C) in the weights' dtype."""
        model = self._load(rgb.device)
        size = model.config.image_size
        rgb = F.interpolate(rgb, size=(size, size), mode="nearest") if rgb.shape[-1] != size else rgb
        out = model(normalise(rgb, self._mean, self._std).to(model.dtype), output_hidden_states=True)
        features = out.hidden_states[self.select_layer]
        patches = (size // model.config.patch_size) ** 2
        return features[:, -patches:]  # CLIP's class token stands in front

    def _load(self, device: torch.device) -> Any:
        if self._model is None:
            from transformers import AutoImageProcessor

            model = _whole(vision_class(self.name), self.name)
            processor = AutoImageProcessor.from_pretrained(self.name, trust_remote_code=False)
            self._mean, self._std = processor.image_mean, processor.image_std
            dtype = torch.float32 if device.type == "cpu" else torch.float16
            self._model = model.to(dtype).eval().requires_grad_(False)
        self._model.to(device)
        return self._model

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenVit:
        return FrozenVit(self.name, self.select_layer)


def vision_class(name: str) -> Any:
    """The transformers class that loads the vision half of that checkpoint."""
    from transformers import CLIPVisionModel, SiglipVisionModel

    kind = vision_config(name).model_type
    if kind == "clip_vision_model":
        return CLIPVisionModel
    if kind == "siglip_vision_model":
        return SiglipVisionModel
    raise FaceConfigError(f"face.segmentation.vision_tower {name!r} is a {kind!r}: use a CLIP or SigLIP checkpoint")


def vision_config(name: str, key: str = "segmentation.vision_tower") -> Any:
    """The configuration of a checkpoint's vision half. Raises ``FaceConfigError``, naming ``key``, if it has none."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise FaceConfigError(f"face.{key} {name!r} cannot be read: {error}") from None
    return getattr(config, "vision_config", config)


# What a facial encoder can be: model type -> its class, and what VitConfig cannot read off the configuration.
_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "clip_vision_model": ("CLIPVisionModel", {}),
    "siglip_vision_model": ("SiglipVisionModel", {"class_token": False, "patch_bias": True, "first_norm": False}),
    "dinov2": ("Dinov2Model", {"patch_bias": True, "first_norm": False, "layer_scale": True}),
    "dinov2_with_registers": (
        "Dinov2WithRegistersModel", {"patch_bias": True, "first_norm": False, "layer_scale": True},
    ),
}  # fmt: skip
_ACTIVATIONS: dict[str, Activation] = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh"}


@READERS.register("transformers")
def read_directory(path: str) -> VitCheckpoint:
    """A directory (or hub name) of a CLIP, SigLIP or DINOv2 that transformers can load.

    Raises ``FaceConfigError`` for another kind, ``FaceDataError`` for weights that are missing or have unknown names.
    """
    import transformers

    config = vision_config(path, "facial.path")
    known = config.model_type in _FAMILIES and config.hidden_act in _ACTIVATIONS
    if not known or getattr(config, "use_swiglu_ffn", False):
        raise FaceConfigError(
            f"face.facial.path {path!r} is a {config.model_type!r}, or has an unusual activation: use CLIP, SigLIP or "
            "DINOv2 without SwiGLU"
        )
    name, shape = _FAMILIES[config.model_type]
    try:
        model = _whole(getattr(transformers, name), path)
        processor = transformers.AutoImageProcessor.from_pretrained(path, trust_remote_code=False)
    except FaceDataError:
        raise
    except (OSError, ValueError) as error:
        raise FaceConfigError(f"face.facial.path {path!r} cannot be read: {error}") from None
    state = {name.removeprefix("vision_model."): value for name, value in model.state_dict().items()}
    hidden = getattr(config, "intermediate_size", None) or int(config.hidden_size * config.mlp_ratio)
    vit = VitConfig(
        width=config.hidden_size, depth=config.num_hidden_layers, heads=config.num_attention_heads, hidden=hidden,
        patch=config.patch_size, activation=_ACTIVATIONS[config.hidden_act], eps=config.layer_norm_eps,
        registers=getattr(config, "num_register_tokens", 0), **shape,
    )  # fmt: skip
    mean, std = list(processor.image_mean), list(processor.image_std)
    return VitCheckpoint(vit, config.image_size, mean, std, translated(state, path))


def normalise(rgb: Tensor, mean: Any, std: Any) -> Tensor:
    """RGB (B, 3, H, W) in [0, 1] -> the tower's input, (rgb - mean) / std per channel."""
    shape = (1, 3, 1, 1)
    return (rgb - rgb.new_tensor(list(mean)).view(shape)) / rgb.new_tensor(list(std)).view(shape)


def denormalise(pixels: Tensor, mean: Any, std: Any) -> Tensor:
    """A tower's input (B, 3, H, W), with its mean and std -> RGB, float32 in [0, 1]: what a facial encoder is given."""
    shape = (1, 3, 1, 1)
    pixels = pixels.float()
    rgb = pixels * pixels.new_tensor(list(std)).view(shape) + pixels.new_tensor(list(mean)).view(shape)
    return rgb.clamp(0.0, 1.0)


def _whole(cls: Any, path: str) -> Any:
    """``cls.from_pretrained``. Raises ``FaceDataError`` for damaged weights and missing ones, which it makes up."""
    try:
        with _without_zero3():
            model, info = cls.from_pretrained(path, output_loading_info=True)
    except (SafetensorError, RuntimeError) as error:  # cut off; or of other shapes than its configuration says
        raise FaceDataError(f"weights {path}: damaged, or not of its config.json ({error})", "damaged") from None
    names = (name.removeprefix("vision_model.") for name in info["missing_keys"])
    missing = sorted(name for name in names if not name.startswith(UNREAD))
    if missing:
        raise FaceDataError(f"weights {path}: {len(missing)} weights are missing: {', '.join(missing[:3])}, ...")
    return model


@contextmanager
def _without_zero3() -> Iterator[None]:
    """Keeps transformers from partitioning a model that no ZeRO-3 engine will gather."""
    from transformers.integrations import deepspeed as integration

    held = integration._hf_deepspeed_config_weak_ref
    config = held() if held is not None else None
    if config is None:
        yield
        return
    integration.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        integration.set_hf_deepspeed_config(config)
