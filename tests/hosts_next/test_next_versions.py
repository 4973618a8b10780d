"""A checkpoint of one transformers gives the same logits on the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from tests.hosts_next import next_assets, next_models, next_run
from tests.hosts_next.conftest import Assets

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[2]
PIN = transformers.__version__.startswith("4.40.")
OTHER = ROOT / (".venv" if PIN else ".venv-next") / "bin" / "python"
OVERLAY = ROOT / ".venv-next-overlay"

LOGITS = """
import sys, torch
import llava.model
from llava.model.builder import load_pretrained_model
model_dir, batch, out = sys.argv[1:]
_, model, _, _ = load_pretrained_model(model_dir, None, "llava_qwen", device_map="auto", attn_implementation="sdpa")
with torch.no_grad():
    torch.save(model.float().eval()(**torch.load(batch)).logits, out)
"""


@pytest.mark.skipif(not OTHER.exists(), reason="the other environment is not set up: scripts/hosts/llava_next.sh PATH")
def test_the_other_transformers_gives_the_same_logits(assets: Assets, tmp_path: Path) -> None:
    """This environment trains and saves; the other one reads, in a process of its own."""
    source = next_models.switched_on(assets.qwen, assets.root / "face-qwen-part-embedding-gated_add")
    out = assets.root / "llava-qwen-for-the-other"
    next_models.run(next_run.flags(source, assets.clip, assets.data / "mixed.json", out))
    tokenizer, model, processor = next_models.load(out, assets)
    inputs = next_models.batch(model, tokenizer, processor, assets.data / "mixed.json")
    del inputs["face_attributes"]
    torch.save(inputs, tmp_path / "batch.pt")
    paths = [next_assets.checkout(), OVERLAY] if PIN else [next_assets.checkout()]
    done = subprocess.run(
        [str(OTHER), "-c", LOGITS, str(out), str(tmp_path / "batch.pt"), str(tmp_path / "logits.pt")],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env=next_run.environment(
            None, PYTHONPATH=os.pathsep.join(map(str, paths)), LLAVA_FACE_NEXT_COMPAT="1" if PIN else None
        ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    with torch.no_grad():
        assert torch.allclose(model(**inputs).logits, torch.load(tmp_path / "logits.pt"), atol=1e-5)
    assert json.loads((out / "config.json").read_text())["face"]["enabled"] and sys.executable != str(OTHER)
