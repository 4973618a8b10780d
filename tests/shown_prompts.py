"""What LLaVA's own packages, 1.5 and NeXT, hand to their projector: shared by the tests of both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from llava_face_plugin.fusion import Prompt


@contextmanager
def watched(model: Any) -> Iterator[list[tuple[Prompt | None, Tensor]]]:
    """What goes into the projector, and what comes out."""
    seen: list[tuple[Prompt | None, Tensor]] = []

    def note(module: Any, args: Any, kwargs: dict[str, Any], tokens: Tensor) -> None:
        seen.append((kwargs["prompt"], tokens.detach()))

    handle = model.get_model().mm_projector.register_forward_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def tokens_of(model: Any, inputs: dict[str, Any]) -> Tensor:
    """The visual tokens of a forward that encodes images once."""
    with watched(model) as seen, torch.no_grad():
        model(**inputs)
    ((_, tokens),) = seen
    return tokens
