"""Shims for llava/model/language_model/llava_llama.py. Moment: package ``llava`` has been imported."""

from __future__ import annotations

import functools
from typing import Any

from .shim import Shim, parameters_of, patch, release_of


def _dtype_default_is_auto() -> bool:
    # No signature tells: torch_dtype is popped from **kwargs. The default changed with 5.0.
    return release_of("transformers") >= (5,)


def _mend_dtype_default() -> None:
    """``torch_dtype=None`` means float32 again, as it did when train.py was written."""
    import torch
    from llava.model.language_model.llava_llama import LlavaLlamaForCausalLM

    original = LlavaLlamaForCausalLM.from_pretrained.__func__

    def from_pretrained(cls: type, *args: Any, **kwargs: Any) -> Any:
        # Only an explicit None: train.py:831 passes one. A call that leaves it out keeps the new default.
        if "torch_dtype" in kwargs and kwargs["torch_dtype"] is None:
            kwargs["torch_dtype"] = torch.float32
        return original(cls, *args, **kwargs)

    patch(LlavaLlamaForCausalLM, "from_pretrained", classmethod(from_pretrained))


def _generate_sends_cache_position() -> bool:
    from llava.model.language_model.llava_llama import LlavaLlamaForCausalLM
    from transformers import LlamaForCausalLM

    sent = "cache_position" in parameters_of(LlamaForCausalLM.prepare_inputs_for_generation)
    return sent and "cache_position" not in parameters_of(LlavaLlamaForCausalLM.forward)


def _mend_generate_inputs() -> None:
    """Takes ``cache_position`` out of what ``generate`` hands to ``forward``, which works it out by itself.

    Done here and not in ``forward``: Trainer reads the signature of ``forward``, and subclasses override it.
    """
    from llava.model.language_model.llava_llama import LlavaLlamaForCausalLM

    original = LlavaLlamaForCausalLM.prepare_inputs_for_generation

    # wraps: generate looks for `inputs_embeds` in this method's signature.
    @functools.wraps(original)
    def prepare_inputs_for_generation(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        inputs = original(self, *args, **kwargs)
        inputs.pop("cache_position", None)
        return inputs

    patch(LlavaLlamaForCausalLM, "prepare_inputs_for_generation", prepare_inputs_for_generation)


MODEL_SHIMS: tuple[Shim, ...] = (
    Shim(
        key="v5dtype",
        where="llava/train/train.py:831",
        breaks_on="transformers >= 5.0",
        symptom="RuntimeError: expected m1 and m2 to have the same dtype, but got: float != c10::Half",
        moment="models",
        needed=_dtype_default_is_auto,
        mend=_mend_dtype_default,
    ),
    Shim(
        key="fwdkw",
        where="llava/model/language_model/llava_llama.py:57",
        breaks_on="transformers 4.38 to 4.57",
        symptom="generate: TypeError: forward() got an unexpected keyword argument 'cache_position'",
        moment="models",
        needed=_generate_sends_cache_position,
        mend=_mend_generate_inputs,
    ),
)
