"""A tiny LLaVA, drawn faces and trained checkpoints, made once a session."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

os.environ.setdefault("LLAVA_FACE_CPU_DRY_RUN", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

pytest.importorskip("llava", reason="needs the host package: llava-torch==1.2.2.post1")

from llava_face_plugin.hosts import loader
from llava_face_plugin.hosts.compat.cpu import install_cpu_dry_run

install_cpu_dry_run()  # for a pytest process that was started without the variable
loader.activate()

from tests.hosts import upstream  # noqa: E402


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("llava")


@pytest.fixture(scope="session")
def base(root: Path) -> Path:
    """A random LLM directory, as Vicuna is before LLaVA's training, without face mode; its tower in ``clip``."""
    from llava_face_plugin.tiny import build_tiny

    return build_tiny(root / "vicuna")


@pytest.fixture(scope="session")
def faces(root: Path) -> Path:
    """24 drawn faces with maps and labels, and 4 text-only samples; plain.json for stage 1, one turn an image."""
    from llava_face_plugin.data.made import make

    make(root / "faces", 24, 4, seed=1, text_only=4)
    samples = json.loads((root / "faces" / "train.json").read_text())
    plain = [{**s, "conversations": s["conversations"][:2]} for s in samples if "image" in s]
    (root / "faces" / "plain.json").write_text(json.dumps(plain))
    return root / "faces"


@pytest.fixture(scope="session")
def checkpoint(root: Path, base: Path, faces: Path) -> Path:
    """A LLaVA checkpoint of a plain run: upstream's finetune, face mode off, two steps."""
    out = root / "llava-plain"
    upstream.train(upstream.flags(base, base / "clip", faces, out))
    return out
