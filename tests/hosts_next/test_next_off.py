"""Off is upstream, bit for bit; on, before any training, is the base model: for images, videos and text alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.hosts_next import next_models, next_run
from tests.hosts_next.conftest import Assets

pytestmark = pytest.mark.contract

KINDS = ("images", "multi_image", "video", "frames", "text", "mixed")
PIN = transformers.__version__.startswith("4.40.")

LOGITS = """
import hashlib, sys, torch
import llava.model
from llava.model.builder import load_pretrained_model
tokenizer, model, processor, _ = load_pretrained_model(sys.argv[1], None, "llava_qwen", device_map="auto",
                                                       attn_implementation="sdpa")
model = model.float().eval()
torch.manual_seed(0)
ids = torch.randint(3, 250, (3, 9)); ids[:, 3] = -200
images = [torch.randn(3, 3, 56, 56), torch.randn(4, 3, 56, 56), torch.randn(1, 3, 56, 56)]
with torch.no_grad():
    out = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids.clamp(min=0), images=images,
                modalities=["image", "video", "text"], image_sizes=[(90, 180), (128, 96), (56, 56)])
print(type(model).__name__, hasattr(sys.modules.get("llava_face_plugin.hosts.llava_next"), "install_gate"))
print(hashlib.sha256(out.logits.numpy().tobytes()).hexdigest(), out.loss.item())
"""


def run(code: str, *arguments: Path | str, cwd: Path, **env: str | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd, env=next_run.environment(None, **env), capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_off_is_upstreams_own_class(assets: Assets) -> None:
    from llava.model import LlavaQwenForCausalLM

    path = next_models.plain(assets)
    model = next_models.load_model(path, assets)
    assert type(model) is LlavaQwenForCausalLM
    assert type(model.get_model().mm_projector) is torch.nn.Sequential
    assert "face" not in next_models.config(path)
    assert next_models.config(path)["mm_projector_type"] == "mlp2x_gelu"


@pytest.mark.skipif(not PIN, reason="without the plugin's mends LLaVA-NeXT does not import on this transformers")
def test_off_logits_equal_a_process_without_the_plugin(assets: Assets, tmp_path: Path) -> None:
    path = next_models.plain(assets)
    found = {}
    for switch in ("0", None):
        done = run(LOGITS, path, cwd=tmp_path, LLAVA_FACE=switch, LLAVA_FACE_CPU_DRY_RUN=None)
        assert done.returncode == 0, done.stderr[-3000:]
        found[switch] = done.stdout.strip().splitlines()[-2:]
    assert found["0"][0] == "LlavaQwenForCausalLM False" and found[None][0] == "LlavaQwenForCausalLM True"
    assert found["0"][1] == found[None][1]


STEP_0: list[tuple[str, str, dict[str, Any], tuple[str, ...]]] = [
    ("qwen", "clip", {"encoder": "part-embedding", "fusion": "gated_add"}, KINDS),
    ("qwen", "clip", {"encoder": "part-embedding", "fusion": "channel"}, KINDS),
    ("qwen", "clip", {"encoder": "vit-palette", "fusion": "gated_add"}, KINDS),
    ("qwen", "clip", {"encoder": "vit-palette", "fusion": "channel"}, KINDS),
    ("vicuna", "clip", {"encoder": "part-embedding", "fusion": "gated_add"}, KINDS),
    ("qwen", "clip", {"encoder": "facial", "fusion": "moe"}, KINDS),
    ("vicuna", "clip", {"encoder": "part-embedding & facial-trained", "fusion": "moe/grouped"}, ("mixed",)),
    ("qwen", "clip", {"encoder": "facial-trained", "fusion": "soft-gate"}, ("images", "video", "text")),
    ("qwen", "clip", {"encoder": "part-embedding & facial", "fusion": "text-query"}, ("multi_image", "mixed")),
    ("qwen", "siglip", {"encoder": "vit-palette", "fusion": "gated_add"}, ("one_image", "text")),
    ("qwen", "siglip", {"encoder": "part-embedding", "fusion": "channel"}, ("video",)),
]


@pytest.mark.parametrize(("lm", "vision", "settings", "kinds"), STEP_0, ids=lambda v: None)
def test_step_0_equals_the_base_model(
    assets: Assets, lm: str, vision: str, settings: dict[str, Any], kinds: tuple[str, ...]
) -> None:
    path = next_models.plain(assets, lm, vision)
    name = next_models.named("llava-on", lm, vision, settings["encoder"], settings["fusion"])
    base = next_models.load_model(path, assets)
    tokenizer, face, processor = next_models.load(next_models.switched_on(path, assets.root / name, **settings), assets)
    assert type(face).__name__ == type(base).__name__.replace("Llava", "LlavaFace")
    smaller = {} if vision == "clip" else {"image_grid_pinpoints": [[384, 768], [768, 384]], "frames_upbound": 1}
    (assets.data / "one_image.json").write_text(json.dumps(json.loads((assets.data / "images.json").read_text())[:1]))
    for kind in kinds:
        for inputs in next_models.face_batches(face, tokenizer, processor, assets.data / f"{kind}.json", **smaller):
            assert all(image.shape[-3] == 4 for image in inputs["images"])
            with torch.no_grad():
                expected = base(**next_models.plain_inputs(inputs))
                found = face(**inputs)
                unlabelled = face(**{**inputs, "face_attributes": None})
            assert torch.equal(found.logits, expected.logits), kind
            assert unlabelled.loss.item() == pytest.approx(expected.loss.item(), abs=1e-6)


def test_step_0_with_a_vit_of_its_own(assets: Assets) -> None:
    path = next_models.plain(assets)
    base = next_models.load_model(path, assets)
    on = next_models.switched_on(path, assets.root / "llava-on-own-vit", encoder="vit-palette", own_vit=assets.clip)
    tokenizer, face, processor = next_models.load(on, assets)
    assert face._own_vit is not None
    inputs = next_models.batch(face, tokenizer, processor, assets.data / "images.json")
    with torch.no_grad():
        assert torch.equal(face(**inputs).logits, base(**next_models.plain_inputs(inputs)).logits)
