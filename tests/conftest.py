"""A tiny random model base, made once a session, and writable copies of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random LLM directory without face mode, its tower in ``clip``. Shared: do not write to it."""
    from llava_face_plugin.tiny import build_tiny

    return build_tiny(tmp_path_factory.mktemp("tiny") / "vicuna")


@pytest.fixture
def tiny_copy(tiny_base: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Call it with a name for a copy of ``tiny_base`` of the test's own."""

    def copy(name: str = "vicuna") -> Path:
        return Path(shutil.copytree(tiny_base, tmp_path / name))

    return copy
