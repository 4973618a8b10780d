"""Face mode on transformers' own Llava classes. Importing this package registers them with the Auto classes.

import llava_face_plugin.hosts.hf
model = AutoModelForImageTextToText.from_pretrained(directory)  # one that `llava-face enable` has switched on
"""

from __future__ import annotations

import importlib
from typing import Any

from .versions import check

check()

_WHERE = {
    "FaceLlavaConfig": "config",
    "FaceLlavaNextConfig": "config",
    "FaceLlavaOnevisionConfig": "config",
    "FaceLlavaNextVideoConfig": "config",
    "FaceLlavaModel": "model",
    "FaceLlavaNextModel": "model",
    "FaceLlavaOnevisionModel": "model",
    "FaceLlavaNextVideoModel": "model",
    "FaceLlavaForConditionalGeneration": "model",
    "FaceLlavaNextForConditionalGeneration": "model",
    "FaceLlavaOnevisionForConditionalGeneration": "model",
    "FaceLlavaNextVideoForConditionalGeneration": "model",
    "FaceLlavaProcessor": "processing",
    "FaceLlavaNextProcessor": "processing",
    "FaceLlavaOnevisionProcessor": "processing",
    "FaceLlavaNextVideoProcessor": "processing",
    "FaceLossMixin": "trainer",
}

__all__ = [*_WHERE, "register"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)


from .registration import register  # noqa: E402  (after the check, which says more than an ImportError)

register()
