"""Shapes of model directories: transformers' layout, LLaVA's, and files that say too little."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llava_face_plugin.errors import FaceConfigError
from llava_face_plugin.planning.catalogue import MODELS, TOWERS
from llava_face_plugin.planning.face import of_file, of_preset
from llava_face_plugin.planning.read import shapes_of
from llava_face_plugin.switch import enable
from llava_face_plugin.tiny import build_tiny

VICUNA = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000,
}  # fmt: skip


def directory(tmp_path: Path, **config: Any) -> str:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return str(tmp_path)


def test_a_vicuna_becomes_llava_15_with_its_tower(tmp_path: Path) -> None:
    shapes = shapes_of(directory(tmp_path, **VICUNA))
    assert (shapes.family, shapes.host, shapes.patches) == ("llava", "llava-v1", 576)
    assert "names no vision tower" in shapes.source
    assert shapes.text == {**VICUNA} and shapes.vision == TOWERS["clip-vit-large-patch14-336"]


def test_a_tiny_directory_with_face_mode_on(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    build_tiny(tmp_path / "base")
    enable(tmp_path / "base", knowledge="made")
    shapes = shapes_of(str(tmp_path / "base"), vision_tower="clip")
    assert shapes.text["hidden_size"] == 64 and shapes.vision["hidden_size"] == 32 and shapes.patches == 16
    assert shapes.face is not None and shapes.face.knowledge is not None
    assert of_file(tmp_path / "base" / "config.json") == shapes.face


def test_llava_next_checkpoints_of_the_packages(tmp_path: Path) -> None:
    vicuna = shapes_of(
        directory(
            tmp_path, **{**VICUNA, "model_type": "llava_llama"}, image_aspect_ratio="anyres",
            mm_projector_type="linear", mm_vision_tower="openai/clip-vit-large-patch14-336",
            image_grid_pinpoints=[[336, 672], [1008, 336]],
        )
    )  # fmt: skip
    assert (vicuna.family, vicuna.host, vicuna.projector) == ("llava_next", "llava-v1", "linear")
    assert vicuna.pinpoints == ((672, 336), (336, 1008))  # the package says (width, height)
    qwen = shapes_of(
        directory(
            tmp_path, **{**VICUNA, "model_type": "llava_qwen"}, image_aspect_ratio="anyres_max_9",
            mm_vision_tower="google/siglip-so400m-patch14-384", image_grid_pinpoints="(1x1),...,(6x6)",
        )
    )  # fmt: skip
    assert (qwen.family, qwen.host, qwen.most_tiles) == ("llava_onevision", "llava-next", 9)
    assert set(qwen.pinpoints) == set(MODELS["onevision-7b"].pinpoints) and qwen.text["model_type"] == "qwen2"


def test_a_published_transformers_config_leaves_defaults_out(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    text = {"model_type": "llama", "vocab_size": 32064}
    vision = {
        "model_type": "clip_vision_model", "hidden_size": 1024, "image_size": 336, "patch_size": 14,
        "num_attention_heads": 16,
    }  # fmt: skip
    shapes = shapes_of(directory(tmp_path, model_type="llava_next", text_config=text, vision_config=vision))
    assert (shapes.host, shapes.text["hidden_size"], shapes.text["vocab_size"]) == ("hf-llava-next", 4096, 32064)
    assert shapes.patches == 576 and shapes.pinpoints == MODELS["next-7b"].pinpoints


def test_the_guard_of_face_mode_is_seen_through(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    text = {"model_type": "qwen2", "hidden_size": 64}
    vision = {"model_type": "siglip_vision_model", "hidden_size": 32, "image_size": 56, "patch_size": 14}
    face = of_preset("light").to_dict()
    path = directory(tmp_path, model_type="face_llava_onevision", text_config=text, vision_config=vision, face=face)
    shapes = shapes_of(path)
    assert (shapes.family, shapes.patches, shapes.most_tiles) == ("llava_onevision", 16, 9)
    assert shapes.face == of_preset("light")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2'"),
        ({"model_type": "llama", "hidden_size": 64}, "num_hidden_layers is missing"),
        ({**VICUNA, "mm_vision_tower": "my/tower"}, "vision tower 'my/tower' are not known"),
        ({"model_type": "blip", "text_config": {}, "vision_config": {}}, "model_type 'blip'"),
        ({**VICUNA, "face": {"enabled": True, "wrong": 1}}, "wrong"),
    ],
)
def test_what_says_too_little_is_refused_by_name(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(FaceConfigError, match=message) as error:
        shapes_of(directory(tmp_path, **config))
    assert "config.json" in str(error.value)


def test_names_and_hosts_are_checked(tmp_path: Path) -> None:
    with pytest.raises(FaceConfigError, match="neither a directory"):
        shapes_of("70b")
    with pytest.raises(FaceConfigError, match="--host megatron"):
        shapes_of("7b", host="megatron")
    assert shapes_of("7b", host="hf-llava").host == "hf-llava"
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(FaceConfigError, match=r"config\.json"):
        shapes_of(str(tmp_path))


def test_presets_and_their_stand_in_knowledge() -> None:
    assert of_preset("light").knowledge is None
    assert len(of_preset("faceinsight").knowledge.attributes) == 40  # type: ignore[union-attr]
    assert len(of_preset("light", 20).knowledge.attributes) == 20  # type: ignore[union-attr]
    with pytest.raises(FaceConfigError, match="--attributes 3"):
        of_preset("light", 3)
