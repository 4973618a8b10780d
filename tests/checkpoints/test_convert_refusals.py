"""What the other host has no form of is refused by name, before anything is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_models import llava_v1
from safetensors.torch import load_file, save_file

from llava_face_plugin.checkpoints import convert
from llava_face_plugin.errors import FaceConfigError, FaceDataError
from llava_face_plugin.model_files import read_config, write_config
from tests.hosts_hf import tiny_hf

pytestmark = pytest.mark.contract

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def v1(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llava_v1(tiny_base, tmp_path_factory.mktemp("refusals") / "llava", {"settings": {"fusion": {"pool": 1}}})


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("refusals_hf")


def refused(source: Path, change: Change, to: str, tmp_path: Path, **options: Any) -> str:
    copied = Path(shutil.copytree(source, tmp_path / "source"))
    config = read_config(copied)
    change(config)
    write_config(copied, config)
    with pytest.raises(FaceConfigError) as caught:
        convert(copied, tmp_path / "out", to, **options)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"], "something was left behind"
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(mm_use_im_start_end=True), "mm_use_im_start_end (tokens around an image)"),
        (lambda c: c.update(mm_projector_type="face+mlp3x_gelu"), "only mlp2x_gelu, not mlp3x_gelu"),
        (lambda c: c.update(mm_resampler_type="qformer"), "mm_resampler_type (a resampler)"),
        (lambda c: c.update(s2=True), "s2 (several scales)"),
        (lambda c: c.update(quantization_config={"load_in_4bit": True}), "quantization_config"),
        (lambda c: c.update(image_aspect_ratio="anyres"), "'anyres' with mm_patch_merge_type 'flat'"),
        (lambda c: c.update(mm_patch_merge_type="spatial"), "'pad' with mm_patch_merge_type 'spatial'"),
        (lambda c: c.update(architectures=["LlavaMptForCausalLM"]), "LlavaMptForCausalLM"),
        (lambda c: c.update(mm_vision_tower="openai/clip-vit-none"), "name a directory by --vision-tower"),
        (lambda c: c.update(mm_vision_tower=None), "no vision tower"),
        (
            lambda c: c.update(
                image_aspect_ratio="anyres", mm_patch_merge_type="spatial_unpad", image_grid_pinpoints=[[56, 112]]
            ),
            "no newline",
        ),
    ],
)
def test_to_transformers(v1: Path, tmp_path: Path, change: Change, message: str) -> None:
    assert message in refused(v1, change, "hf", tmp_path)


def test_append_on_tiles_is_refused(v1: Path, tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config |= {"image_aspect_ratio": "anyres", "mm_patch_merge_type": "spatial_unpad"}
        config["face"]["fusion"]["type"] = "append"

    assert "fusion 'append' adds tokens" in refused(v1, change, "hf", tmp_path)


@pytest.mark.parametrize(
    ("family", "to", "change", "message"),
    [
        ("llava", "llava", lambda c: c.update(vision_feature_layer=[-2, -1]), "LLaVA reads one layer"),
        ("llava", "llava", lambda c: c.update(projector_hidden_act="relu"), "projector_hidden_act is not gelu"),
        ("llava", "llava", lambda c: c.update(multimodal_projector_bias=False), "multimodal_projector_bias is false"),
        ("llava", "llava", lambda c: c["text_config"].update(model_type="mistral"), "language model (mistral)"),
        ("llava", "llava-next", lambda c: c["vision_config"].update(model_type="pixtral"), "'pixtral'"),
        ("llava_onevision", "llava", lambda c: None, "no qwen2: try --to llava-next"),
        ("llava_onevision", "llava-next", lambda c: None, "LLaVA-NeXT has"),
        ("llava_next", "hf", lambda c: None, "is a checkpoint of transformers already"),
        ("llava", "pytorch", lambda c: None, "unknown target 'pytorch'"),
    ],
)
def test_from_transformers(hf: Path, tmp_path: Path, family: str, to: str, change: Change, message: str) -> None:
    assert message in refused(tiny_hf.build(family, hf / family), change, to, tmp_path)


def test_files_that_are_not_whole(v1: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(v1, tmp_path / "source"))
    weights = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    with pytest.raises(FaceDataError, match="holds no weights that are known"):
        convert(source, tmp_path / "out", "hf")
    torch.save({n: t for n, t in weights.items() if "projector" in n}, source / "mm_projector.bin")
    with pytest.raises(FaceConfigError, match="a part of a model"):
        convert(source, tmp_path / "out", "hf")
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "model-00001-of-00001.safetensors")}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FaceDataError, match="model-00001-of-00001.safetensors, which is not there"):
        convert(source, tmp_path / "out", "hf")
    save_file({**weights, "model.extra": torch.zeros(1)}, source / "model.safetensors")
    with pytest.raises(FaceConfigError, match="'model.extra' has no place"):
        convert(source, tmp_path / "out", "hf")
    save_file({n: t for n, t in weights.items() if n != "lm_head.weight"}, source / "model.safetensors")
    with pytest.raises(FaceConfigError, match="hold no head"):
        convert(source, tmp_path / "out", "hf")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def test_pickled_code_is_not_run(v1: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(v1, tmp_path / "source"))
    (source / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Trap(str(tmp_path / "sprung"))}, source / "pytorch_model.bin")
    with pytest.raises(FaceDataError, match="pytorch_model.bin: cannot be read"):
        convert(source, tmp_path / "out", "hf")
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (self.path, "w")
