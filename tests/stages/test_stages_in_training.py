"""All three stages by ``scripts/recipes/train_hf.py``: on pictures with Llava, on clips with LlavaOnevision."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests import mended_torchvision  # before transformers

pytest.importorskip("transformers", minversion="4.55", reason="face mode on transformers' classes needs 4.55")

import torch
import transformers

import llava_face_plugin.hosts.hf  # noqa: F401 (registers the face classes)
from llava_face_plugin.data import made
from llava_face_plugin.data.made_video import make_clips
from llava_face_plugin.stages import load_stages, part_of
from llava_face_plugin.stages.parts import in_stage
from llava_face_plugin.switch import enable

RECIPES = Path(__file__).parents[2] / "scripts" / "recipes"
SIDE, PATCH = 56, 14
SHAPE = {"width": 32, "depth": 4, "heads": 4, "hidden": 64, "patch": 14}
FACIAL = {"path": None, "trained": True, "taps": [0, 1, 3], "size": 56, "vit": SHAPE}
needs_torchvision = pytest.mark.skipif(
    not mended_torchvision.AVAILABLE, reason="this family's processor needs torchvision"
)

Weights = dict[str, torch.Tensor]


def build_onevision(out: Path, tiny_base: Path) -> Path:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_base, use_fast=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "<video>"], "pad_token": "<unk>"})
    ids = {f"{kind}_token_index": tokenizer.convert_tokens_to_ids(f"<{kind}>") for kind in ("image", "video")}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    pinpoints, square = [[SIDE, 2 * SIDE]], {"height": SIDE, "width": SIDE}
    transformers.set_seed(0)
    config = transformers.LlavaOnevisionConfig(
        transformers.SiglipVisionConfig(**sizes, image_size=SIDE, patch_size=PATCH, vision_use_head=False),
        transformers.Qwen2Config(
            **sizes, num_key_value_heads=2, vocab_size=-(-len(tokenizer) // 8) * 8, max_position_embeddings=2048,
            pad_token_id=0,
        ),
        image_grid_pinpoints=pinpoints, **ids,
    )  # fmt: skip
    transformers.LlavaOnevisionForConditionalGeneration(config).save_pretrained(out)
    name = "LlavaOnevisionImageProcessor"
    images = getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)
    transformers.LlavaOnevisionProcessor(
        images(size=square, image_grid_pinpoints=pinpoints), tokenizer,
        transformers.LlavaOnevisionVideoProcessor(size=square), num_image_tokens=(SIDE // PATCH) ** 2,
        vision_feature_select_strategy="full",
    ).save_pretrained(out)  # fmt: skip
    return out


def prepared(family: str, root: Path, tiny_base: Path) -> tuple[Path, Path]:
    """(a model directory with the preset favchat, which also reads maps; the data)."""
    data, maps = root / "data", {}
    if family == "llava":
        import tiny_hf

        start = tiny_hf.build(root / "plain")
        made.make(data, 4, 0, size=(64, 80))
    else:
        start = build_onevision(root / "plain", tiny_base)
        clips = make_clips(data, 4, 0, size=(64, 80), frames=9)
        maps = {"parser": {"type": "precomputed", "path": str(clips.files["map index"])}}
    settings = {"facial": FACIAL, "segmentation": {"encoder": "part-embedding", **maps}}
    enable(start, preset="favchat", settings=settings, out=root / "face")
    return root / "face", data


def train(start: Path, data: Path, out: Path, stage: str) -> list[dict[str, Any]]:
    """Two steps in this process, and what the collator gave."""
    import train_hf

    words = {
        "model_name_or_path": start, "data_path": data / "train.json", "image_folder": data, "output_dir": out,
        "stage": stage, "video_frames": 4, "max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-2,
        "save_strategy": "no", "report_to": "none", "use_cpu": True, "disable_tqdm": True,
    }  # fmt: skip
    batches: list[dict[str, Any]] = []
    plain = train_hf.Collator.__call__

    def collate(self: Any, items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batches.append(plain(self, items))
        return batches[-1]

    argv = ["train_hf.py", *(part for key, value in words.items() for part in (f"--{key}", str(value)))]
    with mock.patch.object(sys, "argv", argv), mock.patch.object(train_hf.Collator, "__call__", collate):
        train_hf.main()
    return batches


def weights(path: Path) -> Weights:
    model = transformers.AutoModelForImageTextToText.from_pretrained(path)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def changed(before: Weights, after: Weights) -> set[str]:
    return {part_of(name) for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("family", ["llava", pytest.param("llava_onevision", marks=needs_torchvision)])
def test_each_stage_goes_on_and_changes_its_parts(
    family: str, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(RECIPES))
    start, data = prepared(family, tmp_path, tiny_base)
    transformers.set_seed(0)
    model = transformers.AutoModelForImageTextToText.from_pretrained(start)
    model.save_pretrained(start)  # the branch's first weights, which would be drawn in the first stage
    before = first = weights(start)
    for stage in load_stages("favchat").stages:
        out = tmp_path / stage.name
        batches = train(start, data, out, f"favchat:{stage.name}")
        after = weights(out)
        parts = set(map(part_of, before))
        assert changed(before, after) == {part for part in parts if in_stage(part, stage.trainable)}, stage.name
        start, before = out, after
    assert changed(first, before) == {"fusion", "segmentation", "projector", "llm"}
    if family == "llava_onevision":
        clips = batches[0]["pixel_values_videos"]
        assert clips.shape == (2, 4, 4, SIDE, SIDE) and bool((clips[:, :, 3] < 19).all()), "each frame has its map"
        said = json.loads((data / "train.json").read_text())
        assert len(said) > 2 and "pixel_values" not in batches[0]
