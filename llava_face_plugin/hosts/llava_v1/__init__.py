"""The seam to llava 1.2.2 (haotian-liu/LLaVA, LLaVA 1.5)."""

from __future__ import annotations

from typing import Any

from ...errors import FaceHostError
from .. import compat
from ..llava import gate
from ..patching import Patches

_PATCHES = Patches()
_SUPPORTED = ("LlavaLlamaForCausalLM",)
_OTHERS = ("LlavaMptForCausalLM", "LlavaMistralForCausalLM")

# What is hooked, as it stands in llava 1.2.2: another signature is another program.
_SIGNATURES = {
    "prepare_inputs_labels_for_multimodal": [
        "self", "input_ids", "position_ids", "attention_mask", "past_key_values", "labels", "images",
        "image_sizes",
    ],
    "encode_images": ["self", "images"],
}  # fmt: skip


def install_gate() -> None:
    """Puts the gate on upstream's model classes. ``llava`` must be imported. Harmless to repeat."""
    if len(_PATCHES):
        return
    import llava.model as models

    host = gate.Host(lambda upstream: face_class(), _SUPPORTED, check_host, activate)
    for name in (*_SUPPORTED, *_OTHERS):
        if hasattr(models, name):  # upstream skips those it cannot import
            gate.put_gate(getattr(models, name), host, _PATCHES)


def mend(moment: compat.Moment) -> None:
    """The compatibility shims of that moment, on a transformers they were written for."""
    if moment != "before_llava" and compat.is_supported() and foreign_llava() is None:
        compat.apply(moment)


def remove_gate() -> None:
    """Leaves upstream as it was before ``install_gate``."""
    _PATCHES.undo()


def check_host() -> None:
    """Raises ``FaceHostError`` unless this is llava 1.2.2 on a transformers version that was tried."""
    if not compat.is_supported():
        import transformers

        series = ", ".join(f"{s}.x" for s in compat.SUPPORTED_SERIES)
        raise FaceHostError(f"face mode supports transformers {series}; this is {transformers.__version__}")
    problem = foreign_llava()
    if problem:
        raise FaceHostError(f"face mode supports llava 1.2.2 (PyPI llava-torch==1.2.2.post1); {problem}")


def foreign_llava() -> str | None:
    """Why the imported ``llava`` is not the 1.2.2 that is hooked here; None if it is."""
    from llava.model.llava_arch import LlavaMetaForCausalLM

    return gate.differing_signature(LlavaMetaForCausalLM, _SIGNATURES)


def activate() -> None:
    """Wraps the projector's builder and, once it is imported, the trainer. Harmless to repeat."""
    import llava.mm_utils
    import llava.model.llava_arch as arch

    if not gate.wrap_projector_builder(arch, _PATCHES):
        return
    from ..imports import when_imported
    from ..llava.anyres import patch_anyres

    patch_anyres(llava.mm_utils, llava.mm_utils, _PATCHES)
    when_imported("llava.train.llava_trainer", after=_on_trainer)


def _on_trainer(module: Any) -> None:
    from ..llava.trainer import patch_trainer
    from .data import FaceDataset

    patch_trainer(module, _PATCHES, FaceDataset)


def face_class() -> type:
    """``LlavaFaceLlamaForCausalLM``; imports it, and with it upstream's class."""
    from .model import LlavaFaceLlamaForCausalLM

    return LlavaFaceLlamaForCausalLM
