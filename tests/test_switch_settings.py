"""What ``enable`` is told: presets, ``--set`` and knowledge; what is wrong changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llava_face_plugin.config import FaceConfig
from llava_face_plugin.data.made_knowledge import made_knowledge
from llava_face_plugin.errors import FaceConfigError, FaceDataError
from llava_face_plugin.switch import enable, parse_settings

from .model_folders import LLM, model, read


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["fusion.type=append", "fusion.pool=2"], {"fusion": {"type": "append", "pool": 2}}),
        (["a.b=1", "a.b=2"], {"a": {"b": 2}}),
        (["a=x=y"], {"a": "x=y"}),
        (["a=", "b=null"], {"a": None, "b": None}),
        (["a=[1, 2]", "b={c: true}"], {"a": [1, 2], "b": {"c": True}}),
        ([], {}),
    ],
)
def test_parse_settings(settings: list[str], expected: dict[str, Any]) -> None:
    assert parse_settings(settings) == expected


SETTINGS_WRONG: list[tuple[list[str], str]] = [
    (["fusion.type"], "--set takes key=value, not 'fusion.type'"),
    (["=3"], "--set takes key=value"),
    (["fusion.type=[1"], "--set fusion.type=.*not valid YAML"),
    (["fusion.type=apend"], "face.fusion.type: unknown fusion 'apend'; did you mean 'append'"),
    (["segmentation.encoder=vit"], "face.segmentation.encoder: unknown segmentation encoder 'vit'"),
    (["segmentation=5"], "face.segmentation: "),
    (["fusion.pool=2"], "face.fusion: pool is for fusion 'append'"),
    (["fussion.pool=2"], "face.fussion: unknown key 'fussion'; did you mean 'fusion'"),
    (["enabled=false"], "enabled is no setting"),
    (["preset=faceinsight"], "preset is no setting"),
    (["knowledge=null"], "knowledge is set key by key"),
    (["knowledge.tau=0.5"], "face.knowledge.file: Field required"),
    (["knowledge.tau=high"], "face.knowledge.tau: expected a number"),
]


@pytest.mark.parametrize(("settings", "message"), SETTINGS_WRONG, ids=[s[0] for s, _ in SETTINGS_WRONG])
def test_wrong_settings_change_nothing(tmp_path: Path, settings: list[str], message: str) -> None:
    folder = model(tmp_path / "m", LLM)
    with pytest.raises(FaceConfigError, match=message):
        enable(folder, settings=settings, out=tmp_path / "out")
    assert read(folder) == LLM and not (tmp_path / "out").exists()


def test_wrong_preset_and_without_change_nothing(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", LLM)
    with pytest.raises(FaceConfigError, match=r"unknown preset 'face'.*known: faceinsight, favchat, favchat-v6, light"):
        enable(folder, preset="face")
    with pytest.raises(FaceConfigError, match="give --knowledge FILE too"):
        enable(folder, without=["gender"])
    with pytest.raises(FaceDataError, match="no such knowledge file"):
        enable(folder, knowledge=tmp_path / "none.safetensors")
    with pytest.raises(FaceConfigError, match="its tokenizer is needed"):
        enable(folder, knowledge="made")
    assert read(folder) == LLM


def test_settings_may_be_a_mapping(tmp_path: Path) -> None:
    face = enable(model(tmp_path / "m", LLM), settings={"segmentation": {"width": 64}})
    assert (face.segmentation.width, face.segmentation.encoder) == (64, "part-embedding")


def test_own_vision_tower_brings_its_width(tmp_path: Path, tiny_base: Path) -> None:
    tower = tiny_base / "clip"
    settings = ["segmentation.encoder=vit-palette", f"segmentation.vision_tower={tower}"]
    face = enable(model(tmp_path / "m", LLM), settings=settings)
    assert face.segmentation.vision_width == 32
    with pytest.raises(FaceConfigError, match=r"vision_tower .* cannot be read"):
        enable(model(tmp_path / "n", LLM), settings=[settings[0], f"segmentation.vision_tower={tmp_path}"])


def test_knowledge_block_is_complete(tiny_copy: Callable[[str], Path]) -> None:
    """The preset takes the drawn faces' knowledge; tokens are the model's own, priors the labels' shares."""
    from transformers import AutoTokenizer

    folder = tiny_copy("vicuna")
    face = enable(folder, preset="faceinsight")
    assert face.knowledge is not None and face.knowledge.file == "made"
    source = made_knowledge()
    assert face.knowledge.vocabulary == source.vocabulary
    tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=False)
    for attribute, share in zip(face.knowledge.attributes, source.cooccurrence.prior(), strict=True):
        assert attribute.tokens == tokenizer(attribute.prompt, add_special_tokens=False).input_ids
        assert attribute.prompt == source.prompts[attribute.name]
        assert attribute.prior == pytest.approx(share, abs=1e-4)
    assert [rule.rule for rule in face.knowledge.rules] == source.rules
    p = source.cooccurrence.conditional()
    kept = {(i, j): w for i, row in face.knowledge.graph.items() for j, w in row.items()}
    assert kept and all(weight >= 0.4 for weight in kept.values())
    at = {name: i for i, name in enumerate(source.vocabulary)}
    assert all(weight == pytest.approx(p[at[i], at[j]], abs=1e-4) for (i, j), weight in kept.items())
    assert FaceConfig.of(read(folder)) == face


def test_without_gender_leaves_its_rules_out(tiny_copy: Callable[[str], Path]) -> None:
    folder = tiny_copy("vicuna")
    before = enable(folder, knowledge="made").knowledge
    face = enable(folder, knowledge="made", without=["gender"]).knowledge
    assert before is not None and face is not None
    assert face.without == ["gender"]
    left_out = [rule for rule in before.rules if rule not in face.rules]
    assert left_out and {rule.group for rule in left_out} == {"gender"}
    assert len(face.rules) + len(left_out) == len(before.rules)
    assert not any("Male" in rule.rule.attributes() for rule in face.rules)
    with pytest.raises(FaceConfigError, match="unknown rule group 'gendre'; did you mean 'gender'"):
        enable(folder, knowledge="made", without=["gendre"])
    with pytest.raises(FaceConfigError, match=r"its group 'gender' is one that 'without' leaves out"):
        enable(folder, knowledge="made", settings=["knowledge.without=[gender]"])


def test_knowledge_from_a_file_with_settings(tiny_copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder, path = tiny_copy("vicuna"), tmp_path / "mine.safetensors"
    made_knowledge().save(path)
    low = enable(folder, knowledge=path, settings=["knowledge.tau=0.1"]).knowledge
    high = enable(folder, knowledge=path, settings=["knowledge.tau=0.9", "knowledge.omega=0.3"]).knowledge
    assert low is not None and high is not None
    assert (low.tau, low.omega, high.tau, high.omega) == (0.1, 0.2, 0.9, 0.3)
    assert high.file == "mine.safetensors"
    assert high.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    weights = [[w for row in k.graph.values() for w in row.values()] for k in (low, high)]
    assert np.min(weights[0]) < 0.4 and np.min(weights[1]) >= 0.9 and len(weights[0]) > len(weights[1])
    with pytest.raises(FaceConfigError, match=r"tau is 1.5; expected a number from 0 to 1"):
        enable(folder, knowledge=path, settings=["knowledge.tau=1.5"])
