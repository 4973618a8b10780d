"""Skips where transformers' Llava classes are not ones that face mode knows; else registers the face classes."""

from __future__ import annotations

import importlib.metadata
import os

import pytest

os.environ.setdefault("LLAVA_FACE_CPU_DRY_RUN", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
pytest.importorskip("transformers")

_installed = tuple(int(n) for n in importlib.metadata.version("transformers").split(".")[:2])
if not (4, 55) <= _installed < (6, 0):
    pytest.skip("transformers' own Llava classes: 4.55 and newer, below 6", allow_module_level=True)

import llava_face_plugin.hosts.hf  # noqa: E402, F401
