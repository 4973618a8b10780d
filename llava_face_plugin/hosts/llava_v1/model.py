"""``LlavaFaceLlamaForCausalLM``: LLaVA 1.5 with the face branch, as upstream's scripts see it.

Imported only once face mode is asked for, when ``llava`` itself has been imported.
"""

from __future__ import annotations

from llava.model.language_model.llava_llama import LlavaLlamaForCausalLM

from ..llava.causal_lm import FaceCausalLM, signed_forward


class LlavaFaceLlamaForCausalLM(FaceCausalLM, LlavaLlamaForCausalLM):  # type: ignore[misc]
    """Reads the 4th image channel as a label map, and adds the knowledge losses in training."""

    forward = signed_forward(LlavaLlamaForCausalLM)
