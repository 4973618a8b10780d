"""LLaVA-NeXT's checkpoints and transformers' say the same, whichever was made from the other.

The side of transformers runs in a process of its own; of the default stack, where this one's transformers is too old.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from llava_face_plugin.checkpoints import apply_adapter, convert, load_adapter, save_adapter
from llava_face_plugin.errors import FaceConfigError
from llava_face_plugin.model_files import read_config, write_config
from llava_face_plugin.switch import disable, enable
from tests.hosts_next import next_models
from tests.hosts_next.conftest import Assets

pytestmark = pytest.mark.contract

ROOT = Path(__file__).resolve().parents[2]
IMAGE = -200
PINPOINTS = {"clip": [[56, 112], [112, 112], [168, 56], [224, 56]], "siglip": [[384, 768], [1152, 384]]}
SIDE = {"clip": 56, "siglip": 384}
SIZES = {"clip": ((60, 100), (200, 50), (56, 56)), "siglip": ((300, 500),)}
"""(width, height) of the images: tall, wide, and one that fits without tiles."""

ANSWER = """
import sys, torch
import llava_face_plugin.hosts.hf
from transformers import AutoModelForImageTextToText
folder, inputs, out = sys.argv[1:]
model = AutoModelForImageTextToText.from_pretrained(folder, torch_dtype=torch.float32).eval()
found = []
for one in torch.load(inputs):
    place = int((one["ids"][0] == -200).nonzero())
    image = torch.full((1, one["tokens"]), model.config.image_token_index, dtype=torch.long)
    ids = torch.cat([one["ids"][:, :place], image, one["ids"][:, place + 1 :]], dim=1)
    with torch.no_grad():
        answer = model(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=one["pixels"],
                       image_sizes=torch.tensor([one["size"][::-1]]))
    found.append(answer.logits[0])
torch.save(found, out)
"""


def checkpoint(assets: Assets, out: Path, lm: str, vision: str, ratio: str, face: dict[str, Any] | None) -> Path:
    """A checkpoint of LLaVA-NeXT in float32, made without a training: projector, newline and branch are random."""
    shutil.copytree(getattr(assets, lm), out)
    own = {
        "mm_vision_tower": str(assets.clip) if vision == "clip" else assets.siglip,
        "mm_hidden_size": 32 if vision == "clip" else 1152, "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2, "mm_vision_select_feature": "patch", "mm_patch_merge_type": "spatial_unpad",
        "image_aspect_ratio": ratio, "image_grid_pinpoints": PINPOINTS[vision], "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False, "use_mm_proj": True, "mm_newline_position": "one_token",
        "architectures": ["LlavaQwenForCausalLM" if lm == "qwen" else "LlavaLlamaForCausalLM"],
        "model_type": "llava_qwen" if lm == "qwen" else "llava_llama", "torch_dtype": "float32",
    }  # fmt: skip
    write_config(out, read_config(out) | own)
    if face is not None:
        enable(out, **face)
    model = load(out, assets)
    tower = model.get_vision_tower()
    tower.is_loaded = False  # its weights are not in this directory yet: transformers has drawn others
    with next_models.hub(assets):
        tower.load_model()
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "mm_projector" in name or "image_newline" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=random))
    model.save_pretrained(out)
    return out


def load(path: Path, assets: Assets) -> Any:
    """In float32 from the start: upstream's loader would round everything to float16."""
    import llava.model as models

    name = read_config(path)["architectures"][0].replace("Face", "")
    with next_models.hub(assets):
        model = getattr(models, name).from_pretrained(str(path), torch_dtype=torch.float32, attn_implementation="eager")
    return model.float().eval()


def questions(model: Any, vision: str, face: bool) -> list[dict[str, Any]]:
    """For each size: ids, pixels of the tiles with their maps, and what the package itself answers, in float32."""
    from llava.mm_utils import get_anyres_image_grid_shape

    out = []
    for n, size in enumerate(SIZES[vision]):
        random = torch.Generator().manual_seed(n)
        side = SIDE[vision]
        columns, rows = get_anyres_image_grid_shape(size, PINPOINTS[vision], side)
        ids = torch.randint(5, 200, (1, 10), generator=random)
        ids[0, 4] = IMAGE
        tiles = 1 + columns * rows
        pixels = torch.randn(1, tiles, 3, side, side, generator=random)
        if face:
            maps = torch.randint(0, 19, (1, tiles, 1, side, side), generator=random).float()
            pixels = torch.cat([pixels, maps], dim=2)
        expected = answered(model, ids, pixels, size)
        out.append({
            "ids": ids, "pixels": pixels, "size": list(size), "tokens": len(expected) - ids.shape[1] + 1,
            "expected": expected,
        })  # fmt: skip
    return out


def answered(model: Any, ids: torch.Tensor, pixels: torch.Tensor, size: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(
            input_ids=ids, attention_mask=torch.ones_like(ids), images=[pixels[0]], image_sizes=[tuple(size)],
            modalities=["image"],
        ).logits[0]  # fmt: skip


def answers_of_transformers(folder: Path, inputs: list[dict[str, Any]], work: Path) -> list[torch.Tensor]:
    """In a process of its own: this one may hold another transformers, and has LLaVA-NeXT's classes."""
    python = sys.executable
    if transformers.__version__.startswith("4.40."):
        found = ROOT / ".venv" / "bin" / "python"
        if not found.exists():
            pytest.skip("the default stack is not here: scripts/test.sh makes it")
        python = str(found)
    torch.save(inputs, work / "inputs.pt")
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "LLAVA_FACE_NEXT_COMPAT")}
    done = subprocess.run(
        [python, "-c", ANSWER, folder, work / "inputs.pt", work / "out.pt"], capture_output=True, text=True,
        timeout=300, cwd=ROOT, env={**env, "PYTHONPATH": str(ROOT), "LLAVA_FACE": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return list(torch.load(work / "out.pt"))


@pytest.mark.parametrize(
    ("lm", "vision", "ratio", "family", "face"),
    [
        ("qwen", "clip", "anyres_max_2", "llava_onevision", None),
        ("qwen", "clip", "anyres_max_2", "llava_onevision", {"knowledge": "made"}),
        ("qwen", "siglip", "anyres_max_9", "llava_onevision", {"settings": ["segmentation.encoder=vit-palette"]}),
        ("vicuna", "clip", "anyres", "llava_next", {"knowledge": "made", "settings": ["fusion.type=channel"]}),
    ],
)
def test_logits_are_equal_both_ways(
    assets: Assets, tmp_path: Path, lm: str, vision: str, ratio: str, family: str, face: dict[str, Any] | None
) -> None:
    first = checkpoint(assets, tmp_path / f"llava-{lm}", lm, vision, ratio, face)
    with next_models.hub(assets):
        assert convert(first, tmp_path / "hf", "hf", vision_tower=cached(assets, vision)).family == family
        named = assets.siglip if vision == "siglip" else None
        convert(tmp_path / "hf", tmp_path / f"llava-{lm}-back", "llava-next", vision_tower=named)
    here, back = load(first, assets), load(tmp_path / f"llava-{lm}-back", assets)
    assert read_config(tmp_path / f"llava-{lm}-back")["image_grid_pinpoints"] == PINPOINTS[vision]
    asked = questions(here, vision, face is not None)
    for one in asked:
        assert torch.equal(answered(back, one["ids"], one["pixels"], one["size"]), one["expected"])
    for one, found in zip(asked, answers_of_transformers(tmp_path / "hf", asked, tmp_path), strict=True):
        expected = one["expected"]
        assert torch.allclose(found[:, : expected.shape[1]], expected, atol=1e-5), one["size"]
    if face is not None:
        one = asked[0]
        changed = one["pixels"].clone()
        changed[:, :, 3] = 4
        assert not torch.equal(answered(here, one["ids"], changed, one["size"]), one["expected"])


def cached(assets: Assets, vision: str) -> str | None:
    """The directory of the tower that a hub name stands for: huggingface_hub read its cache's place when imported."""
    return None if vision == "clip" else str(next((assets.hub / "hub").glob("models--*/snapshots/*")))


def test_a_face_adapter_makes_a_plain_checkpoint_the_trained_one(assets: Assets, tmp_path: Path) -> None:
    face = checkpoint(assets, tmp_path / "llava-qwen", "qwen", "clip", "anyres_max_2", {"knowledge": "made"})
    written = save_adapter(face, tmp_path / "face.safetensors")
    assert written.host == "llava" and written.vision["image_size"] == SIDE["clip"]
    plain = Path(shutil.copytree(face, tmp_path / "llava-plain-qwen"))
    disable(plain)
    weights = load_file(plain / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if ".face." not in name}
    save_file(kept, plain / "model.safetensors", metadata={"format": "pt"})
    apply_adapter(tmp_path / "face.safetensors", plain, tmp_path / "llava-again-qwen")
    here, there = load(face, assets), load(tmp_path / "llava-again-qwen", assets)
    for one in questions(here, "clip", face=True):
        assert torch.equal(answered(there, one["ids"], one["pixels"], one["size"]), one["expected"])
    live = load(face, assets)
    with torch.no_grad():
        live.get_model().mm_projector.face.fusion.gate.zero_()
    load_adapter(live, tmp_path / "face.safetensors")
    for one in questions(here, "clip", face=True):
        assert torch.equal(answered(live, one["ids"], one["pixels"], one["size"]), one["expected"])


def test_what_has_no_form_there_is_refused(assets: Assets, tmp_path: Path) -> None:
    first = checkpoint(assets, tmp_path / "llava-qwen", "qwen", "clip", "anyres_max_2", None)
    for key, value, message in (
        ("mm_use_im_start_end", True, "mm_use_im_start_end"),
        ("mm_resampler_type", "spatial_pool", "mm_resampler_type"),
        ("mm_patch_merge_type", "maxpool2x2_unpad", "mm_patch_merge_type 'maxpool2x2_unpad'"),
        ("architectures", ["LlavaGemmaForCausalLM"], "LlavaGemmaForCausalLM"),
    ):
        config = json.loads((first / "config.json").read_text())
        write_config(first, config | {key: value})
        with pytest.raises(FaceConfigError, match=message):
            convert(first, tmp_path / "out", "hf")
        write_config(first, config)
    convert(first, tmp_path / "hf", "hf")
    with pytest.raises(FaceConfigError, match=r"no qwen2: try --to llava-next"):
        convert(tmp_path / "hf", tmp_path / "out", "llava")
    assert not (tmp_path / "out").exists()
