"""A folder of tiny models a session; skips where transformers' Llava classes are not ones that face mode knows."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import pytest

from tests import mended_torchvision  # noqa: F401 (before transformers)

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
pytest.importorskip("transformers")

_installed = tuple(int(n) for n in importlib.metadata.version("transformers").split(".")[:2])
if not (4, 55) <= _installed < (6, 0):
    pytest.skip("transformers' own Llava classes: 4.55 and newer, below 6", allow_module_level=True)

import llava_face_plugin.hosts.hf  # noqa: E402, F401


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hf")
