"""Off is upstream, bit for bit; on, before any training, is the base model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from llava_face_plugin.hosts import compat
from llava_face_plugin.model_files import read_config

from . import upstream
from .models import COMBINATIONS, batch, digest, load, switched_on, without_maps

pytestmark = pytest.mark.contract


def test_off_is_upstreams_own_class(checkpoint: Path) -> None:
    from llava.model import LlavaLlamaForCausalLM

    model = load(checkpoint)
    assert type(model) is LlavaLlamaForCausalLM
    assert type(model.get_model().mm_projector) is torch.nn.Sequential
    assert "face" not in read_config(checkpoint)


def test_off_logits_equal_a_process_without_the_plugin(checkpoint: Path, root: Path) -> None:
    script = root / "logits.py"
    script.write_text(
        "import hashlib, sys, torch\n"
        "from llava.model import LlavaLlamaForCausalLM\n"
        "model = LlavaLlamaForCausalLM.from_pretrained(sys.argv[1], torch_dtype=torch.float32).eval()\n"
        "model.get_vision_tower().load_model()\n"
        "torch.manual_seed(0)\n"
        "side = model.get_vision_tower().config.image_size\n"
        "ids = torch.randint(3, 300, (2, 9)); ids[:, 3] = -200\n"
        "with torch.no_grad():\n"
        "    out = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids.clamp(min=0),\n"
        "                images=torch.randn(2, 3, side, side))\n"
        "print('llava_face_plugin.hosts.llava_v1' in sys.modules, type(model.from_pretrained).__name__)\n"
        "print(hashlib.sha256(out.logits.numpy().tobytes()).hexdigest(), out.loss.item())\n"
    )
    found = {}
    for switch in ("0", None):
        result = upstream.run(
            [upstream.python(), script, checkpoint], root, LLAVA_FACE=switch, LLAVA_FACE_CPU_DRY_RUN=None
        )
        assert result.returncode == 0, result.stderr
        found[switch] = result.stdout.strip().splitlines()[-2:]
    assert found["0"][0].startswith("False") and found[None][0].startswith("True")
    assert found["0"][1] == found[None][1]


@pytest.mark.skipif(compat.transformers_series() != "4.37", reason="llava alone trains on its pinned transformers only")
def test_off_checkpoints_equal_a_run_without_the_plugin(base: Path, faces: Path, root: Path) -> None:
    adapter = root / "start.bin"
    torch.manual_seed(0)
    layers = {"0": torch.nn.Linear(32, 64), "2": torch.nn.Linear(64, 64)}
    weights = {f"model.mm_projector.{i}.{k}": v for i, m in layers.items() for k, v in m.state_dict().items()}
    torch.save(weights, adapter)
    found = {}
    for name, switch in (("absent", "0"), ("present", None)):
        out = root / f"llava-off-{name}"
        arguments = upstream.flags(base, base / "clip", faces, out, pretrain_mm_mlp_adapter=adapter)
        command = [upstream.python(), "-m", "llava.train.train", *arguments]
        result = upstream.run(command, root, LLAVA_FACE=switch, LLAVA_FACE_CPU_DRY_RUN=None)
        assert result.returncode == 0, result.stderr[-3000:]
        found[name] = (digest(out / "model.safetensors"), (out / "config.json").read_text())
    assert found["absent"] == found["present"]


@pytest.mark.parametrize(("encoder", "fusion"), COMBINATIONS)
def test_step_0_equals_the_base_model(checkpoint: Path, root: Path, encoder: str, fusion: str) -> None:
    plain = load(checkpoint)
    face = load(switched_on(checkpoint, root / f"llava-{encoder}-{fusion}", encoder, fusion))
    assert type(face).__name__ == "LlavaFaceLlamaForCausalLM"
    inputs = batch(plain)
    with torch.no_grad():
        expected = plain(**without_maps(inputs))
        found = face(**inputs)
    if face.get_model().mm_projector.face.fusion.adds_tokens:
        assert found.logits.shape[1] > expected.logits.shape[1]
    else:
        assert torch.equal(found.logits, expected.logits)
        unlabelled = face.eval()(**{**inputs, "face_attributes": None})
        assert unlabelled.loss.item() == pytest.approx(expected.loss.item(), abs=1e-6)
