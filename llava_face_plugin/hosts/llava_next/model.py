"""LLaVA-NeXT's language model classes with the face branch: ``LlavaFaceQwenForCausalLM`` and its kin."""

from __future__ import annotations

import functools

from ..llava.causal_lm import FaceCausalLM, signed_forward


@functools.cache
def face_class(upstream: type) -> type:
    """The face class of upstream's ``LlavaQwenForCausalLM`` or ``LlavaLlamaForCausalLM``.

    Made when asked for, and not written down: upstream imports of its language models those that it can.
    """
    name = "LlavaFace" + upstream.__name__.removeprefix("Llava")
    body = {
        "__module__": __name__,
        "__doc__": f"``{upstream.__name__}`` with the face branch.",
        "forward": signed_forward(upstream),
    }
    return type(name, (FaceCausalLM, upstream), body)
