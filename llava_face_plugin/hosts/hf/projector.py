"""``FaceMultiModalProjector``: the branch under transformers' projector, and how it gets its weights.

Being named ``multi_modal_projector`` is what PEFT's ``modules_to_save``, freezing by name and every checkpoint go by.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from ...branch import FaceBranch
from ...config import FaceConfig
from ...encoders import Vit
from ...errors import FaceHostError
from ...fusion import Auxiliary, Layers, Prompt

PLACE = "multi_modal_projector.face."
_HUB = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
_QUANTISED = (
    "face mode is not supported in a 4- or 8-bit projector: load in 16 bits, or pass a quantization_config with "
    "llm_int8_skip_modules=['model.multi_modal_projector', 'lm_head']"
)


class FaceMultiModalProjector(nn.Module):
    """Keeps upstream's keys (``linear_1.*``, ``linear_2.*``) and adds ``face.*``."""

    linear_1: nn.Module
    act: nn.Module
    linear_2: nn.Module

    def __init__(self, plain: Any, config: FaceConfig) -> None:
        """``plain``: upstream's projector, whose layers become this one's."""
        super().__init__()
        self.linear_1, self.act, self.linear_2 = plain.linear_1, plain.act, plain.linear_2
        self.face = FaceBranch(config, plain.linear_1.in_features, plain.linear_2.out_features)
        for module in self.face.modules():  # transformers would draw them anew, gates not closed
            module._is_hf_initialized = True  # type: ignore[assignment]

    def forward(
        self,
        image_features: Tensor,
        label_map: Tensor | None = None,
        vit: Vit | None = None,
        rgb: Tensor | None = None,
        prompt: Prompt | None = None,
        auxiliary: Auxiliary | None = None,
    ) -> Tensor:
        """Features (B, P, C) and what goes with them -> LLM tokens; see ``FaceBranch.forward``."""
        if label_map is not None:
            label_map = label_map.to(image_features.device)
        if rgb is not None:
            rgb = rgb.to(image_features.device)
        layers = Layers([self.linear_1, self.act, self.linear_2])
        return self.face(layers, image_features, label_map, vit, rgb=rgb, prompt=prompt, auxiliary=auxiliary)


def refuse_quantised(cls: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raises ``FaceHostError`` if ``from_pretrained`` with these arguments asks for a face projector in 4 or 8 bits.

    Its layers could not be trained, and upstream cannot start a fresh branch in them.
    """
    quantisation = kwargs.get("quantization_config")
    if quantisation is None and not kwargs.get("load_in_4bit") and not kwargs.get("load_in_8bit"):
        return
    config = kwargs.get("config")
    if not isinstance(config, PretrainedConfig):
        hub = {key: kwargs[key] for key in _HUB if key in kwargs}
        config = cls.config_class.from_pretrained(config or args[0], **hub)
    skipped = getattr(quantisation, "llm_int8_skip_modules", None) or ()
    if FaceConfig.of(config) is not None and not any(name.endswith("multi_modal_projector") for name in skipped):
        raise FaceHostError(_QUANTISED)


def check_whole(model: Any) -> None:
    """Raises ``FaceHostError`` for a face projector that was quantised all the same: 5.x wants its full name."""
    for module in model.modules():
        if isinstance(module, FaceMultiModalProjector) and any(p.dtype.itemsize < 2 for p in module.parameters()):
            raise FaceHostError(_QUANTISED)


def start_fresh(model: Any, missing_keys: Collection[str]) -> None:
    """Fresh values for the face parameters that a checkpoint does not hold; the others stay.

    Raises ``FaceHostError`` if anything else is missing, or if the parameters are not there to be filled.
    """
    face = next((m for m in model.modules() if isinstance(m, FaceBranch)), None)
    if face is None:
        return
    others = sorted(key for key in missing_keys if PLACE not in key)
    if others:
        raise FaceHostError(
            f"{model.name_or_path}: {len(others)} weights that are not face mode's are missing, and would be random: "
            f"{', '.join(others[:3])}, ..."
        )
    missing = {key.partition(PLACE)[2] for key in missing_keys}
    if not missing:
        return
    with _at_hand(face):
        named = dict(face.named_parameters())
        if any(parameter.is_meta for parameter in named.values()):
            raise FaceHostError("a face branch without weights cannot start offloaded: load it without offloading once")
        kept = {name: p.detach().clone() for name, p in named.items() if name not in missing}
        face.reset_parameters()
        with torch.no_grad():
            for name, value in kept.items():
                named[name].copy_(value)


@contextmanager
def _at_hand(face: FaceBranch) -> Iterator[None]:
    """Gathers what ZeRO-3 has partitioned, for the length of the context."""
    from transformers.integrations import is_deepspeed_zero3_enabled

    if not is_deepspeed_zero3_enabled():
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(face.parameters()), modifier_rank=0):
        yield
