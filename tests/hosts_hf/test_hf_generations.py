"""A face checkpoint of one generation of transformers is read by the other, with equal logits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from .tiny_hf import FAMILIES

pytestmark = pytest.mark.contract

ROOT = Path(__file__).resolve().parents[2]
WRITE_AND_SAY = """
import sys
import torch
import llava_face_plugin.hosts.hf
from pathlib import Path
from tests.hosts_hf import tiny_hf
source, out = sys.argv[1:]
for family in tiny_hf.FAMILIES:
    if source == "new":
        model = tiny_hf.load(tiny_hf.switched_on(family, Path(out)))
        tiny_hf.open_gates(model)
    else:
        model = tiny_hf.load(Path(source, family + "-saved"))
    model.save_pretrained(Path(out, family + "-saved"))
    inputs = [tiny_hf.batch(family)]
    if family in tiny_hf.VIDEO_FAMILIES:
        inputs.append(tiny_hf.video_batch(family))
    with torch.no_grad():
        torch.save(torch.cat([model(**x).logits.flatten() for x in inputs]), Path(out, family + ".pt"))
"""


def other_python() -> Path | None:
    """The interpreter of the other generation's stack, as ``scripts/test.sh`` makes them beside each other."""
    name = ".venv-newest" if transformers.__version__.startswith("4.") else ".venv"
    stacks = [ROOT, Path(sys.prefix).parent]
    return next((s / name / "bin" / "python" for s in stacks if (s / name / "bin" / "python").exists()), None)


def test_the_other_generation_reads_it(tmp_path: Path) -> None:
    other = other_python()
    if other is None:
        pytest.skip("the other generation's stack is not here: scripts/test.sh --stack newest makes it")
    here = Path(sys.executable)
    old, new = (here, other) if transformers.__version__.startswith("4.") else (other, here)
    # Written by 4.x first: a *new* model of 5.x names its vision weights in a way that no 4.x reads, plain LLaVA's too.
    for python, source, out in ((old, "new", "a"), (new, tmp_path / "a", "b"), (old, tmp_path / "b", "c")):
        (tmp_path / out).mkdir()
        result = subprocess.run(
            [python, "-c", WRITE_AND_SAY, source, tmp_path / out], capture_output=True, text=True, timeout=200,
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert result.returncode == 0, result.stderr[-3000:]
    for family in FAMILIES:
        first, second, third = (torch.load(tmp_path / out / f"{family}.pt") for out in "abc")
        assert torch.allclose(first, second, atol=1e-5) and torch.allclose(first, third, atol=1e-5), family
