"""LLaVA-NeXT itself, face mode off: mended in memory, or by our patches, it trains; else it is refused in one word."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llava_face_plugin.hosts.compat.shim import release_of
from llava_face_plugin.hosts.environment import NEXT_COMPAT_SWITCH
from tests.hosts_next import next_run

if TYPE_CHECKING:
    from tests.hosts_next.conftest import Assets

SERIES = ".".join(map(str, release_of("transformers")[:2]))
PATCHES = Path(__file__).resolve().parents[2] / "patches" / "llava-next-df17966"
EXPECTED = {
    "4.40": {"loop", "groups"},
    "4.57": {"names", "trnames", "loop", "acc", "ckpt", "seed", "argv", "groups", "dscast"},
}
"""On df17966 with the versions of scripts/constraints: deepspeed's own breaks depend on its version, too."""

DF17966 = {
    "llava/train/llava_trainer.py": "d7f4cdd2314e8bcf9ee4cb438b58746f082f780bf1eddfe238912db23d89e9ba",
    "llava/model/multimodal_resampler/qformer.py": "bca4dbbc24bb2914abdf6b8620a6431b95e7842c2acde7efbd6ef325544bc85d",
}
"""SHA-256 of the two files that the mends are about."""

needs_mends = pytest.mark.skipif(SERIES == "4.40", reason="upstream runs on its own pin, but for `loop`")


@pytest.fixture(scope="module", autouse=True)
def known_checkout() -> None:
    for file, digest in DF17966.items():
        if hashlib.sha256((next_run.checkout() / file).read_bytes()).hexdigest() != digest:
            pytest.skip(f"{file} of this checkout is not that of df17966")


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with our patches."""
    copy = tmp_path_factory.mktemp("patched")
    for package in ("llava", "trl"):
        shutil.copytree(next_run.checkout() / package, copy / package)
    for patch in sorted(PATCHES.glob("*.patch")):
        subprocess.run(["git", "apply", str(patch)], cwd=copy, check=True, timeout=60)
    return copy


def _python(code: str, **env: str | None) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh Python."""
    return subprocess.run(
        [sys.executable, "-c", code], env=next_run.environment(**env), capture_output=True, text=True, timeout=200
    )


_BY_HAND = """
import json, sys
from llava_face_plugin.hosts.compat import next_compat
next_compat.apply("before_llava")
assert "llava" not in sys.modules
import llava
next_compat.apply("models")
next_compat.apply("before_trainer")
assert "llava.train.llava_trainer" not in sys.modules
import transformers
from llava.train import llava_trainer
from transformers.models.llama.modeling_llama import LlamaRMSNorm
assert LlamaRMSNorm in llava_trainer.ALL_LAYERNORM_LAYERS, "weight decay would reach the norms"
own, base = llava_trainer.LLaVATrainer, transformers.Trainer
before = dict(vars(own)), dict(vars(base))
next_compat.apply("trainer")
assert next_compat.apply("trainer") == [], "applied twice"
applied = next_compat.applied()
next_compat.undo()
assert (dict(vars(own)), dict(vars(base))) == before and next_compat.applied() == ()
print(json.dumps(applied))
"""


def test_upstream_gets_exactly_the_shims_of_its_series() -> None:
    done = _python(_BY_HAND, LLAVA_FACE="0")
    assert next_run.succeeded(done)
    assert set(json.loads(done.stdout.splitlines()[-1])) == EXPECTED[SERIES]


@needs_mends
def test_newer_transformers_are_refused_in_one_word_unless_asked_for() -> None:
    done = _python("import llava", **{NEXT_COMPAT_SWITCH: None})
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "FaceImportError" in last and "qformer.py:39" in last and f"{NEXT_COMPAT_SWITCH}=1" in last


STAGES: dict[str, dict[str, Any]] = {
    # The published scripts give these two in this form; 4.57 has dropped the first.
    "finetune": {"evaluation_strategy": "no", "warmup_ratio": 0.03, "mm_vision_tower_lr": 2e-6},
    "stage1": {},
    "lora": {},
}
DATA = {"finetune": "mixed.json", "stage1": "plain.json", "lora": "video.json"}


@pytest.mark.parametrize("stage", STAGES)
def test_the_unchanged_script_trains_and_saves_on_the_way(assets: Assets, tmp_path: Path, stage: str) -> None:
    out = tmp_path / f"llava-qwen-{stage}"
    arguments = next_run.flags(
        assets.qwen, assets.clip, assets.data / DATA[stage], out, stage, save_strategy="steps", save_steps=1,
        **STAGES[stage],
    )  # fmt: skip
    assert next_run.succeeded(next_run.train(arguments, tmp_path))
    assert len(next_run.losses(out)) == 2 and all(0 < loss < 20 for loss in next_run.losses(out))
    assert (out / "checkpoint-1").is_dir()


def test_accumulated_steps_have_the_gradient_of_one_step(assets: Assets, tmp_path: Path) -> None:
    """Two equal samples, at once or one after the other. Upstream's accelerator would halve the second (shim `acc`)."""
    norms = []
    for batch, steps in ((2, 1), (1, 2)):
        out = tmp_path / f"llava-qwen-{steps}"
        arguments = next_run.flags(
            assets.qwen, assets.clip, assets.data / "text.json", out, max_steps=1,
            per_device_train_batch_size=batch, gradient_accumulation_steps=steps,
        )  # fmt: skip
        assert next_run.succeeded(next_run.train(arguments, tmp_path))
        state = json.loads((out / "trainer_state.json").read_text())
        norms.append(state["log_history"][0]["grad_norm"])
    assert norms[0] > 0.1
    assert norms[1] == pytest.approx(norms[0], rel=0.05)  # bf16


def test_the_mode_that_needs_the_broken_loop_is_refused(assets: Assets, tmp_path: Path) -> None:
    arguments = next_run.flags(
        assets.qwen, assets.clip, assets.data / "text.json", tmp_path / "llava-qwen", trainer_mode="zo"
    )
    done = next_run.train(arguments, tmp_path)
    assert done.returncode == 1 and "FaceHostError: --trainer_mode zo" in done.stderr


@pytest.fixture(scope="module")
def dry_run_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH that answers CUDA calls on the CPU, where LLAVA_FACE=0 keeps the rest of us away."""
    folder = tmp_path_factory.mktemp("dry")
    (folder / "sitecustomize.py").write_text(
        "from llava_face_plugin.hosts.compat.cpu import install_cpu_dry_run\ninstall_cpu_dry_run()\n"
    )
    return folder


@pytest.mark.parametrize("stage", ["finetune", "stage1"])
def test_the_patches_alone_let_upstream_train(
    assets: Assets, patched: Path, dry_run_only: Path, tmp_path: Path, stage: str
) -> None:
    out = tmp_path / f"llava-qwen-{stage}"
    arguments = next_run.flags(
        assets.qwen, assets.clip, assets.data / DATA[stage], out, stage, save_strategy="steps", save_steps=1
    )
    path = os.pathsep.join([str(dry_run_only), str(patched), os.environ["PYTHONPATH"]])
    done = next_run.train(arguments, tmp_path, root=patched, LLAVA_FACE="0", PYTHONPATH=path)
    assert next_run.succeeded(done)
    assert len(next_run.losses(out)) == 2


_ENTRY_POINT = """
import llava
from llava.train import llava_trainer
from llava_face_plugin.hosts import loader
from llava_face_plugin.hosts.compat import next_compat
print(loader.way(), sorted(next_compat.applied()))
"""


def test_the_patches_load_the_plugin_and_leave_nothing_to_ask_for(patched: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("from llava_face_plugin.hosts import loader\nloader.deactivate()\n")
    path = os.pathsep.join([str(tmp_path), str(patched), os.environ["PYTHONPATH"]])
    done = _python(_ENTRY_POINT, PYTHONPATH=path, **{NEXT_COMPAT_SWITCH: None})
    assert next_run.succeeded(done)
    rest = sorted(EXPECTED[SERIES] - {"names", "trnames", "loop", "acc", "ckpt"})
    assert done.stdout.splitlines()[-1] == f"patch {rest}"
