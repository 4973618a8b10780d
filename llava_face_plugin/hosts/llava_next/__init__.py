"""The seam to LLaVA-NeXT's own package (LLaVA-VL/LLaVA-NeXT, llava 1.7.0.dev0): images, anyres tiles and video."""

from __future__ import annotations

from typing import Any

from ...config import FaceConfig
from ...errors import FaceHostError
from ...fusion import FUSIONS
from ..compat import Moment, next_compat
from ..llava import gate
from ..patching import Patches

_PATCHES = Patches()
_SUPPORTED = ("LlavaQwenForCausalLM", "LlavaLlamaForCausalLM")
# Upstream's own collator breaks its Mistral and Mixtral: their forward takes no `modalities`.
_OTHERS = (
    "LlavaMistralForCausalLM", "LlavaMixtralForCausalLM", "LlavaQwenMoeForCausalLM", "LlavaGemmaForCausalLM",
    "LlavaMptForCausalLM",
)  # fmt: skip

# Upstream's scripts and loader pick the class by the directory's name, and load a Qwen2 of another name, or any LoRA of
# one (builder.py:85), as a Llama: without its biases, and without an error.
_MEANT = {
    "qwen2": "LlavaQwenForCausalLM",
    "llava_qwen": "LlavaQwenForCausalLM",
    "llama": "LlavaLlamaForCausalLM",
    "llava_llama": "LlavaLlamaForCausalLM",
}
"""``model_type`` -> upstream's class. Hub checkpoints say ``llava`` whatever they are: there the name decides."""

# What is hooked, as it stands in df17966 (2026-04): another signature is another program.
_SIGNATURES = {
    "prepare_inputs_labels_for_multimodal": [
        "self", "input_ids", "position_ids", "attention_mask", "past_key_values", "labels", "images",
        "modalities", "image_sizes",
    ],
    "encode_images": ["self", "images"],
}  # fmt: skip


def install_gate() -> None:
    """Puts the gate on upstream's model classes. ``llava`` must be imported. Harmless to repeat."""
    if len(_PATCHES):
        return
    import llava.model as models

    host = gate.Host(face_class, _SUPPORTED, check_host, activate, meant)
    for name in (*_SUPPORTED, *_OTHERS):
        if hasattr(models, name):  # upstream skips those it cannot import
            gate.put_gate(getattr(models, name), host, _PATCHES)


def mend(moment: Moment) -> None:
    """The compatibility shims of that moment, on a transformers they were written for."""
    next_compat.apply(moment)


def mended() -> tuple[str, ...]:
    """The names of the shims in force."""
    return next_compat.applied()


def remove_gate() -> None:
    """Leaves upstream as it was found."""
    _PATCHES.undo()
    next_compat.undo()


def check_host() -> None:
    """Raises ``FaceHostError`` unless this is the LLaVA-NeXT that is hooked, on a transformers that was tried."""
    next_compat.check()
    from llava.model.llava_arch import LlavaMetaForCausalLM

    problem = gate.differing_signature(LlavaMetaForCausalLM, _SIGNATURES)
    if problem:
        raise FaceHostError(f"face mode supports LLaVA-NeXT as of df17966 (2026-04); {problem}")


def activate() -> None:
    """Wraps the projector's builder, the anyres tiling and, once it is imported, the trainer. Harmless to repeat."""
    import llava.mm_utils
    import llava.model.llava_arch as arch

    if not gate.wrap_projector_builder(arch, _PATCHES):
        return
    from ..imports import when_imported
    from ..llava.anyres import patch_anyres

    patch_anyres(llava.mm_utils, llava.mm_utils, _PATCHES)
    # It took the function's name over with `from ... import`.
    when_imported("llava.train.train", after=lambda module: patch_anyres(module, llava.mm_utils, _PATCHES))
    when_imported("llava.train.llava_trainer", after=_on_trainer)


def _on_trainer(module: Any) -> None:
    from ..llava.trainer import patch_trainer
    from .data import FaceNextDataset
    from .templates import markup_of

    patch_trainer(module, _PATCHES, FaceNextDataset, markup_of)


def meant(upstream: type, config: Any) -> type:
    """Upstream's class for a config's ``model_type``; the one that upstream picked if it does not say.

    Raises ``FaceHostError`` for another language model, or a face block that does not go with tiles and frames.
    """
    import llava.model as models

    face = FaceConfig.of(config)
    if face is not None and FUSIONS[face.fusion.type].adds_tokens:  # type: ignore[attr-defined]
        raise FaceHostError(
            f"fusion {face.fusion.type!r} adds tokens, but LLaVA-NeXT lays tiles and frames out by their number of "
            "tokens: enable face mode with gated_add or channel"
        )
    if config.model_type == "llava":
        if not isinstance(config, upstream.config_class):  # type: ignore[attr-defined]
            raise FaceHostError(
                "model_type 'llava' in config.json means transformers' own Llava to upstream's training: write 'qwen2' "
                "(or what the language model is) there, as its maintainers advise for their published checkpoints"
            )
        return upstream
    if config.model_type not in _MEANT:
        raise FaceHostError(f"face mode supports {' and '.join(_SUPPORTED)} here, not {config.model_type!r}")
    found: type = getattr(models, _MEANT[config.model_type])
    return found


def face_class(upstream: type) -> type:
    """``LlavaFaceQwenForCausalLM`` and its kin; imports it, and with it upstream's class."""
    from . import model

    return model.face_class(upstream)
