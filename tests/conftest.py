"""What many tests share: a tiny random model base, writable copies of it, and the folder of real faces."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random LLM directory without face mode, its tower in ``clip``. Shared: do not write to it."""
    from llava_face_plugin.tiny import build_tiny

    return build_tiny(tmp_path_factory.mktemp("tiny") / "vicuna")


@pytest.fixture(autouse=True)
def strict_pillow() -> Iterator[None]:
    """Importing lmms-eval makes Pillow read truncated files in the whole process: not in the tests that come after."""
    from PIL import ImageFile

    ImageFile.LOAD_TRUNCATED_IMAGES = False
    yield
    ImageFile.LOAD_TRUNCATED_IMAGES = False


@pytest.fixture
def tiny_copy(tiny_base: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Call it with a name for a copy of ``tiny_base`` of the test's own."""

    def copy(name: str = "vicuna") -> Path:
        return Path(shutil.copytree(tiny_base, tmp_path / name))

    return copy


@pytest.fixture(scope="session")
def real_faces() -> Path:
    """The folder of real faces, masks and detectors; skips where FACE_TEST_DATA does not name one."""
    folder = Path(os.environ.get("FACE_TEST_DATA", "unset"))
    if not folder.is_dir():
        pytest.skip("FACE_TEST_DATA is unset or no folder: real faces are not part of the project")
    return folder
