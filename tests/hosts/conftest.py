"""A tiny LLaVA, drawn faces and trained checkpoints, made once a session."""

from __future__ import annotations

import json
import os
import shutil
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


@pytest.fixture(scope="session")
def unmapped(faces: Path, root: Path) -> Path:
    """The training file without its face_map keys."""
    samples = json.loads((faces / "train.json").read_text())
    path = root / "unmapped.json"
    path.write_text(json.dumps([{k: v for k, v in s.items() if k != "face_map"} for s in samples]))
    return path


@pytest.fixture(scope="session")
def store(faces: Path, unmapped: Path, root: Path) -> Path:
    """A map store of the drawn faces, made from their own exact maps by ``segment``."""
    from llava_face_plugin.parsing.precomputed import PrecomputedParser
    from llava_face_plugin.segment.run import Options, segment

    done = segment(
        unmapped, root / "store", lambda: PrecomputedParser(faces / "index.json"), Options(image_folder=faces)
    )
    assert done.ok == done.images > 20 and not done.failed
    return root / "store"


@pytest.fixture(scope="session")
def launch_base(base: Path, root: Path) -> Path:
    """Face mode with knowledge, switched on in the tiny base: what the launchers train."""
    from llava_face_plugin.switch import enable

    out = root / "launch-base"
    enable(base, preset="light", knowledge="made", out=out)
    return out


@pytest.fixture(scope="session")
def train_script(root: Path) -> Path:
    """Upstream's own train_mem.py, where a source checkout has it."""
    import llava.train

    folder = root / "checkout" / "llava" / "train"
    folder.mkdir(parents=True)
    return Path(shutil.copy(Path(llava.train.__path__[0]) / "train_mem.py", folder))
