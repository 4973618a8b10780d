"""Shims for what LLaVA-NeXT's models import. Moment: before package ``llava`` runs, which swallows the error."""

from __future__ import annotations

from .next_shim import NextShim, imports_gone
from .shim import patch

_QFORMER = "model/multimodal_resampler/qformer.py"


def _qformer_names_moved() -> bool:
    return bool(imports_gone(_QFORMER, "transformers.modeling_utils"))


def _mend_qformer_names() -> None:
    """Gives ``transformers.modeling_utils`` back what moved to ``transformers.pytorch_utils``."""
    from transformers import modeling_utils, pytorch_utils

    for name in imports_gone(_QFORMER, "transformers.modeling_utils"):
        if hasattr(pytorch_utils, name):
            patch(modeling_utils, name, getattr(pytorch_utils, name))


NEXT_MODEL_SHIMS: tuple[NextShim, ...] = (
    NextShim(
        key="names",
        where="llava/model/multimodal_resampler/qformer.py:39",
        breaks_on="transformers 4.57",
        symptom="ImportError: cannot import name 'LlavaLlamaForCausalLM' from 'llava.model'",
        moment="before_llava",
        needed=_qformer_names_moved,
        mend=_mend_qformer_names,
        opt_in=True,
    ),
)
