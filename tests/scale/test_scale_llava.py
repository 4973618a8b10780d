"""LLaVA 1.5's own train_mem.py, unchanged, over two ranks: offload, resume under ZeRO-3, FSDP."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from .ranks import HERE, Ranks
from .runs import flags_of, variables_of

llava = pytest.importorskip("llava", reason="needs the host package: llava-torch==1.2.2.post1")

pytestmark = pytest.mark.launch

FACE = "mm_projector.face."


@pytest.fixture(scope="session")
def train(ranks: Ranks, root: Path, faces: Path) -> Callable[..., Path]:
    """Call it with a name and flags for the folder of that run."""
    from llava_face_plugin.switch import enable
    from llava_face_plugin.tiny import build_tiny

    base = build_tiny(root / "vicuna")
    settings = {"segmentation": {"width": 16}, "knowledge": {"hidden": 16}}
    enable(base, preset="light", knowledge="made", settings=settings, out=root / "vicuna-face")
    # Upstream draws its projector before it sets a seed.
    script = root / "seeded.py"
    train_mem = Path(llava.__path__[0]) / "train" / "train_mem.py"
    script.write_text(
        f"import runpy, sys, torch\nsys.path.insert(0, {str(HERE)!r})\nimport cpu_fsdp\n"
        f"cpu_fsdp.install()\ntorch.manual_seed(0)\nrunpy.run_path({str(train_mem)!r}, run_name='__main__')\n"
    )

    def run(name: str, world: int = 2, env: dict[str, Any] | None = None, **other: Any) -> Path:
        out = root / f"llava-{name}"
        flags = {
            "model_name_or_path": root / "vicuna-face", "version": "v1", "data_path": faces / "train.json",
            "image_folder": faces, "vision_tower": base / "clip", "mm_projector_type": "mlp2x_gelu",
            "mm_vision_select_layer": -2, "mm_use_im_start_end": False, "mm_use_im_patch_token": False,
            "image_aspect_ratio": "pad", "bf16": False, "output_dir": out, "max_steps": 4,
            "per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-3,
            "lr_scheduler_type": "constant", "logging_steps": 1, "model_max_length": 2048, "lazy_preprocess": True,
            "report_to": "none", "disable_tqdm": True, **other,
        }  # fmt: skip
        argv = [script, *(text for key, value in flags.items() for text in (f"--{key}", value))]
        ranks(argv, root / f"logs-{name}", world, env or {})
        return out

    return run


@pytest.fixture(scope="session")
def facial_start(train: Callable[..., Path], root: Path) -> Path:
    """A checkpoint with a trained facial encoder and grouped experts, balanced over images, its gates a little open."""
    from llava_face_plugin.switch import enable
    from tests.core.standin import FUSION_BLOCKS, encoder_blocks

    settings = {
        **encoder_blocks("part-embedding & facial-trained", width=16), "fusion": FUSION_BLOCKS["moe/grouped"],
        "knowledge": {"hidden": 16},
    }  # fmt: skip
    enable(root / "vicuna", preset="light", knowledge="made", settings=settings, out=root / "vicuna-facial")
    return train("facial-start", world=1, save_strategy="no", model_name_or_path=root / "vicuna-facial")


def check_trained(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], atol: float) -> None:
    face = [name for name in expected if FACE in name]
    assert found.keys() == expected.keys() and len(face) > 10
    assert expected[next(name for name in face if name.endswith("fusion.gate"))].abs().max() > 0
    for name, value in expected.items():
        assert torch.allclose(found[name].float(), value.float(), rtol=1e-3, atol=atol), name


OTHER = ("zero3", "zero2", "zero2_offload")


@pytest.mark.parametrize("way", ["zero3_offload", *(pytest.param(way, marks=pytest.mark.scale) for way in OTHER)])
def test_zero_resumes_as_if_it_had_not_stopped(train: Callable[..., Path], root: Path, way: str) -> None:
    flags = flags_of(way, root)
    whole = train(f"{way}-whole", **flags)
    stopped = root / f"llava-{way}-stopped"
    shutil.copytree(whole / "checkpoint-2", stopped / "checkpoint-2")
    train(f"{way}-stopped", **flags)
    check_trained(load_file(stopped / "model.safetensors"), load_file(whole / "model.safetensors"), atol=1e-6)


@pytest.mark.scale
def test_offloading_changes_nothing(train: Callable[..., Path], root: Path) -> None:
    plain = train("zero3-plain", save_strategy="no", **flags_of("zero3", root))
    offloaded = train("zero3-offloaded", save_strategy="no", **flags_of("zero3_offload", root))
    check_trained(load_file(offloaded / "model.safetensors"), load_file(plain / "model.safetensors"), atol=1e-5)


@pytest.mark.scale
def test_upstreams_fsdp_flags(train: Callable[..., Path], root: Path) -> None:
    one = train("one", world=1, gradient_accumulation_steps=2, save_strategy="no")
    fsdp = {"fsdp": "full_shard auto_wrap", "fsdp_transformer_layer_cls_to_wrap": "LlamaDecoderLayer"}
    # Which accelerate would do on the ranks' GPUs; the script above starts both alike.
    (root / "fsdp.json").write_text(json.dumps({"sync_module_states": "false"}))
    two = train("fsdp", save_strategy="no", fsdp_config=root / "fsdp.json", **fsdp)
    found, expected = load_file(two / "model.safetensors"), load_file(one / "model.safetensors")
    # Under FSDP upstream keeps its tower out of the model: it is not saved, and loads from its own path as ever.
    assert all(".vision_tower." in name for name in expected.keys() - found.keys())
    check_trained(found, {name: expected[name] for name in expected if ".vision_tower." not in name}, atol=1e-4)


@pytest.mark.scale
@pytest.mark.parametrize("way", ["ddp", "zero2", "zero3"])
def test_a_facial_encoder_and_experts_train_as_in_one_process(
    train: Callable[..., Path], root: Path, facial_start: Path, way: str
) -> None:
    """The texts alone get upstream's blank images, so that a rank whose batch has no face sees those.

    Under ZeRO-3 upstream's tower is not rounded to float16: one process is then one of ZeRO-3, too.
    """
    shared = {"model_name_or_path": facial_start, "save_strategy": "no"}
    strict = {"ddp_find_unused_parameters": False} if way == "ddp" else flags_of(way, root)
    alone = {"gradient_accumulation_steps": 2, **(strict if way == "zero3" else {})}
    one = train(f"facial-{way}-one", world=1, env=variables_of(way, 1) if way == "zero3" else {}, **shared, **alone)
    found = train(f"facial-{way}", **shared, **strict)
    trained = load_file(found / "model.safetensors")
    # Four steps of AdamW at 1e-3; a weight with next to no gradient may have moved the other way for once.
    check_trained(trained, load_file(one / "model.safetensors"), atol=5e-4)
    before = load_file(facial_start / "model.safetensors")
    assert all(not torch.equal(before[name], value) for name, value in trained.items() if ".facial.vit." in name)
    losses = [
        [{key: entry[key] for key in ("loss", "loss_balance", "loss_bce")} for entry in logged(out)]
        for out in (found, one)
    ]
    assert len(losses[0]) == 4 and losses[0] == [pytest.approx(entry, abs=2e-3) for entry in losses[1]]


def logged(out: Path) -> list[dict[str, Any]]:
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    return [entry for entry in history if "loss" in entry]


@pytest.mark.scale
@pytest.mark.parametrize("way", ["zero2", "zero3"])
def test_a_facial_encoder_and_experts_resume(
    train: Callable[..., Path], root: Path, facial_start: Path, way: str
) -> None:
    flags = {"model_name_or_path": facial_start, **flags_of(way, root)}
    whole = train(f"facial-{way}-whole", **flags)
    stopped = root / f"llava-facial-{way}-stopped"
    shutil.copytree(whole / "checkpoint-2", stopped / "checkpoint-2")
    train(f"facial-{way}-stopped", **flags)
    check_trained(load_file(stopped / "model.safetensors"), load_file(whole / "model.safetensors"), atol=1e-6)
