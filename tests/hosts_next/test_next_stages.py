"""FaVChat's three stages on clips by LLaVA-NeXT's unchanged train_mem.py, with the flags that the stage file gives."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from typer.testing import CliRunner

from llava_face_plugin.cli.main import app
from llava_face_plugin.stages import StageFile, load_stages, part_of
from llava_face_plugin.stages.command import command
from llava_face_plugin.stages.parts import in_stage
from tests.hosts_next import next_models
from tests.hosts_next.conftest import Assets
from tests.hosts_next.next_assets import PINPOINTS

pytestmark = pytest.mark.contract

SMALL = {
    "max_steps": 2, "per_device_train_batch_size": 2, "save_strategy": "no", "bf16": False, "tf32": False,
    "image_grid_pinpoints": PINPOINTS, "model_max_length": 2048, "frames_upbound": 4, "use_cpu": True,
    "dataloader_num_workers": 0, "attn_implementation": "sdpa", "lr_scheduler_type": "constant", "warmup_ratio": 0,
    "learning_rate": 1e-2,
}  # fmt: skip
"""What a tiny model on a CPU needs; the last of two equal flags counts."""

Weights = dict[str, torch.Tensor]


@dataclass
class Ran:
    """One stage: its weights before and after, and what was trained."""

    before: Weights
    after: Weights
    trained: set[str]


def arguments(plan: StageFile, name: str, model: Path, assets: Assets, data: Path, out: Path) -> list[str]:
    """Those of the printed command, its variables filled in."""
    text = command(plan, plan.stage(name), "llava-next", model)
    values = {"DATA_PATH": data / "train.json", "VIDEO_FOLDER": data, "IMAGE_FOLDER": data, "OUT": out,
              "VISION_TOWER": assets.clip, "BATCH": 2, "ACCUMULATION": 1}  # fmt: skip
    for key, value in values.items():
        text = text.replace(f"${key}", str(value))
    words = shlex.split(text.replace("\\\n", " "), comments=True)
    assert words[:4] == ["deepspeed", "llava/train/train_mem.py", "--deepspeed", "$DEEPSPEED_CONFIG"]
    return [*words[4:], *(part for key, value in SMALL.items() for part in (f"--{key}", str(value)))]


def run(given: list[str]) -> Ran:
    from llava.train.llava_trainer import LLaVATrainer

    seen: list[Weights] = []
    plain = LLaVATrainer.train

    def train(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(weights(self.model))
        return plain(self, *args, **kwargs)

    with mock.patch.object(LLaVATrainer, "train", train):
        model = next_models.run(given).model
    trained = {part_of(name) for name, parameter in model.named_parameters() if parameter.requires_grad}
    return Ran(seen[0], weights(model), trained)


def weights(model: Any) -> Weights:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def equal(first: Weights, second: Weights, *parts: str) -> bool:
    names = [name for name in first if part_of(name) in parts]
    assert names
    return all(torch.equal(first[name], second[name]) for name in names)


@pytest.fixture(scope="module")
def clips(assets: Assets) -> Path:
    from llava_face_plugin.data.made_video import make_clips

    make_clips(assets.root / "clips", 2, 0, size=(64, 80), frames=9)
    return assets.root / "clips"


@pytest.fixture(scope="module")
def base(assets: Assets) -> Path:
    """The language model with the preset favchat, and a tiny facial encoder that stays as it is."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    from llava_face_plugin.switch import enable

    vit, out = assets.root / "facial", assets.root / "qwen-favchat"
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
    CLIPVisionModel(CLIPVisionConfig(**shape, image_size=56, patch_size=14)).save_pretrained(vit)
    CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}).save_pretrained(vit)
    facial = {"encoder": "transformers", "path": str(vit), "taps": [0, 1, 2, 3], "size": 56}
    enable(assets.qwen, preset="favchat", settings={"facial": facial}, out=out)
    return out


def test_each_stage_goes_on_from_the_one_before(assets: Assets, base: Path, clips: Path) -> None:
    plan, out = load_stages("favchat"), assets.root / "llava-qwen-stages"
    ran = [run(arguments(plan, stage.name, base, assets, clips, out)) for stage in plan.stages]
    for stage, one in zip(plan.stages, ran, strict=True):
        assert one.trained == {part for part in map(part_of, one.before) if in_stage(part, stage.trainable)}
        frozen = sorted(set(map(part_of, one.before)) - one.trained)
        assert equal(one.before, one.after, *frozen), stage.name
        for part in one.trained:
            assert not equal(one.before, one.after, part), (stage.name, part)
    for earlier, later in pairwise(ran):
        assert equal(earlier.after, later.before, "fusion", "projector")
        assert equal(earlier.after, later.before, "llm", "tower")
    saved = torch.load(out.with_name(f"{out.name}-qa") / "mm_projector.bin", weights_only=True)
    assert any("face.fusion" in name for name in saved) and not any("layers." in name for name in saved)
    model = next_models.load_model(out.with_name(f"{out.name}-hard"), assets)
    kept = dict(model.named_parameters())
    for name, value in ran[-1].after.items():
        if part_of(name) in ("fusion", "projector"):
            assert torch.equal(kept[name], value.half().float()), name


def test_upstream_s_own_set_up_agrees(assets: Assets, base: Path, tmp_path: Path) -> None:
    """``--check``: LLaVA-NeXT's train() sets the model up by the flags, and is stopped where training would begin."""
    adapter = ["fusion", "projector"]
    parts = {"one": adapter, "two": [*adapter, "llm"], "three": [*adapter, "lora"], "four": ["tower", *adapter, "llm"],
             "five": ["llm"], "six": ["tower"]}  # fmt: skip
    stages = [
        {"name": name, "about": "", "data": "a.json", "prepare": "p", "trainable": trainable, "learning_rate": 1e-3,
         "lora_rank": 4, "source": "ours"}
        for name, trainable in parts.items()
    ]  # fmt: skip
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"name": "mine", "description": "", "stages": stages}))
    call = ["stages", str(base), "--file", str(file), "--vision-tower", str(assets.clip), "--check"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output + str(result.exception)
    assert result.output.count("the live model trains just that") == len(parts)
    nameless = tmp_path / "other"
    nameless.symlink_to(base)
    result = CliRunner().invoke(app, [*call[:1], str(nameless), *call[2:]])
    assert "upstream's train() refuses it" in str(result.exception), "it picks the class by the path"


def test_a_trained_checkpoint_is_counted(assets: Assets, clips: Path, tmp_path: Path) -> None:
    """``image_newline`` and the tower's name come from its config."""
    out = tmp_path / "llava-qwen-face"
    plain = next_models.plain(assets)
    next_models.switched_on(plain, out, encoder="part-embedding")
    result = CliRunner().invoke(app, ["stages", str(out), "--check", "--stage", "hard"])
    assert result.exit_code == 0, result.output + str(result.exception)
    assert "hard: the live model trains just that" in result.output
