"""The vision tower's image processor, wrapped with the label channel now or whenever the tower loads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...parsing.base import Parser
from .. import label_channel

BuildParser = Callable[[], Parser | None]


def wrap_image_processor(tower: Any, build: BuildParser) -> None:
    """Makes ``tower.image_processor`` a ``FaceImageProcessor``. Harmless to repeat."""
    if getattr(tower, "_face_wrapped", False):
        return
    tower._face_wrapped = True
    if tower.is_loaded:
        _wrap_now(tower, build)
    else:
        tower.load_model = _LoadAndWrap(tower, build)


def _wrap_now(tower: Any, build: BuildParser) -> None:
    if not isinstance(tower.image_processor, label_channel.FaceImageProcessor):
        tower.image_processor = label_channel.FaceImageProcessor(tower.image_processor, build)


class _LoadAndWrap:
    """The tower's ``load_model`` and the wrapping after it; an object, for a closure could not be pickled."""

    def __init__(self, tower: Any, build: BuildParser) -> None:
        self.tower, self.build = tower, build

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        type(self.tower).load_model(self.tower, *args, **kwargs)
        _wrap_now(self.tower, self.build)
