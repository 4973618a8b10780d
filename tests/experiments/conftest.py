"""Skips where transformers is older than the experiments' models."""

from __future__ import annotations

import importlib.metadata

import pytest

pytest.importorskip("transformers")
_installed = tuple(int(n) for n in importlib.metadata.version("transformers").split(".")[:2])
if _installed < (4, 55):
    pytest.skip("the experiments use transformers' own Llava classes: 4.55 and newer", allow_module_level=True)
