"""``enable`` and ``disable`` on model directories: block, guard, knowledge, and nothing half done."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llava_face_plugin import guard, switch
from llava_face_plugin.config import FaceConfig
from llava_face_plugin.data.made_knowledge import made_knowledge
from llava_face_plugin.errors import FaceConfigError, FaceDataError
from llava_face_plugin.switch import disable, enable, parse_settings

LLM: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "note": "ünïcode"}
LLAVA: dict[str, Any] = {
    "architectures": ["LlavaLlamaForCausalLM"],
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "mm_projector_type": "mlp2x_gelu",
    "mm_hidden_size": 1024,
}


def model(folder: Path, config: dict[str, Any]) -> Path:
    """A model directory as far as the switch looks at one without knowledge."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def read(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "config.json").read_text()))


def files(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("config", [LLM, LLAVA], ids=["llm", "llava"])
def test_enable_and_disable_restore_the_config_exactly(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = model(tmp_path / "m", config)
    face = enable(folder)
    assert FaceConfig.of(read(folder)) == face
    assert files(folder) == ["config.json", "model.safetensors"]
    assert disable(folder) is True
    assert list(read(folder).items()) == list(config.items())
    assert files(folder) == ["config.json", "model.safetensors"]


def test_guard_of_an_llm_names_the_tower(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", LLM)
    enable(folder)
    written = read(folder)
    assert written["mm_vision_tower"] == guard.TOWER_MARK and "mm_projector_type" not in written
    assert "llava-face doctor" in guard.TOWER_MARK
    # Upstream loads a tower whose name is a path that exists, or starts with one of these.
    assert not guard.TOWER_MARK.startswith(("openai", "laion")) and "ShareGPT4V" not in guard.TOWER_MARK


def test_guard_of_a_llava_names_the_projector_and_keeps_the_tower(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", LLAVA)
    enable(folder)
    written = read(folder)
    assert written["mm_projector_type"] == "face+mlp2x_gelu"
    assert written["mm_vision_tower"] == LLAVA["mm_vision_tower"]


def test_guard_never_overwrites_a_tower(tmp_path: Path) -> None:
    """LLaVA 1.0 names no projector: upstream's default is a linear one."""
    old = {key: value for key, value in LLAVA.items() if key != "mm_projector_type"}
    folder = model(tmp_path / "m", old)
    enable(folder)
    assert read(folder)["mm_vision_tower"] == LLAVA["mm_vision_tower"]
    assert read(folder)["mm_projector_type"] == "face+linear"
    disable(folder)
    assert read(folder) == {**old, "mm_projector_type": "linear"}


@pytest.mark.parametrize("config", [LLM, LLAVA], ids=["llm", "llava"])
def test_guard_on_and_off(config: dict[str, Any]) -> None:
    marked = dict(config)
    assert not guard.is_on(marked)
    guard.put_on(marked)
    once = dict(marked)
    guard.put_on(marked)
    assert guard.is_on(marked) and marked == once
    guard.take_off(marked)
    assert not guard.is_on(marked) and marked == config


def test_enabling_twice_is_enabling_once_with_the_later_settings(tmp_path: Path) -> None:
    twice, once = model(tmp_path / "twice", LLAVA), model(tmp_path / "once", LLAVA)
    enable(twice, settings=["fusion.type=append", "fusion.pool=2"])
    enable(twice, settings=["fusion.type=channel"])
    enable(once, settings=["fusion.type=channel"])
    assert read(twice) == read(once)
    disable(twice)
    assert read(twice) == LLAVA


def test_disable_without_anything_to_do(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", LLM)
    before = (folder / "config.json").read_bytes()
    assert disable(folder) is False
    assert (folder / "config.json").read_bytes() == before


def test_disable_removes_a_guard_that_was_left_behind(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", {**LLM, "mm_vision_tower": guard.TOWER_MARK})
    assert disable(folder) is True
    assert read(folder) == LLM


def test_out_links_the_files_and_leaves_the_original_alone(tmp_path: Path) -> None:
    folder, out = model(tmp_path / "m", LLM), tmp_path / "deep" / "out"
    before = (folder / "config.json").read_bytes()
    enable(folder, out=out)
    assert (folder / "config.json").read_bytes() == before
    assert files(folder) == files(out) == ["config.json", "model.safetensors"]
    assert (out / "model.safetensors").is_symlink() and (out / "model.safetensors").read_bytes() == b"weights"
    assert not (out / "config.json").is_symlink() and FaceConfig.of(read(out)) is not None
    disable(out)
    assert read(out) == LLM


def test_out_inside_the_model_does_not_link_itself(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", LLM)
    enable(folder, out=folder / "face")
    assert files(folder / "face") == ["config.json", "model.safetensors"]


def test_out_must_be_new_or_empty(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", LLM)
    (tmp_path / "empty").mkdir()
    enable(folder, out=tmp_path / "empty")
    (tmp_path / "file").write_text("")
    for taken in ("empty", "file", "m"):
        with pytest.raises(FaceConfigError, match="exists and is not an empty directory"):
            enable(folder, out=tmp_path / taken)
    assert read(folder) == LLM


def test_a_config_that_is_a_link_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    """As in the hub's cache, where a snapshot links to blobs."""
    folder = model(tmp_path / "m", LLM)
    blob = tmp_path / "blob"
    (folder / "config.json").rename(blob)
    (folder / "config.json").symlink_to(blob)
    enable(folder)
    assert json.loads(blob.read_text()) == LLM
    assert FaceConfig.of(read(folder)) is not None


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model(tmp_path / "m", LLM)

    def half(path: Path, text: str, **kwargs: object) -> None:
        path.write_bytes(text.encode()[:20])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="no space left"):
        enable(folder)
    assert read(folder) == LLM
    assert files(folder) == ["config.json", "model.safetensors"]


def test_written_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", LLM)
    expected = (folder / "config.json").stat().st_mode
    enable(folder)
    assert (folder / "config.json").stat().st_mode == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n  "b": }', "config.json: not valid JSON: .*line 2"),
        (b"", "config.json: not valid JSON"),
        (b"\xff\xfe", "config.json: not valid JSON"),
        (b"[1]", "config.json: expected an object, found list"),
        (None, "config.json: no such file; is .* a model directory"),
    ],
    ids=["broken", "empty", "binary", "list", "missing"],
)
@pytest.mark.parametrize("action", [enable, disable])
def test_broken_config_names_the_file(
    tmp_path: Path, content: bytes | None, message: str, action: Callable[[Path], object]
) -> None:
    folder = model(tmp_path / "m", LLM)
    if content is None:
        (folder / "config.json").unlink()
    else:
        (folder / "config.json").write_bytes(content)
    with pytest.raises(FaceConfigError, match=message):
        action(folder)
    if content is not None:
        assert (folder / "config.json").read_bytes() == content


def test_a_file_is_no_model_directory(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("")
    with pytest.raises(FaceConfigError, match="no such file"):
        enable(tmp_path / "m")


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
    with pytest.raises(FaceConfigError, match=r"unknown preset 'face'.*known: faceinsight, light"):
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


def test_switch_is_what_the_package_offers() -> None:
    import llava_face_plugin

    assert llava_face_plugin.enable is switch.enable and llava_face_plugin.disable is switch.disable
    assert llava_face_plugin.FaceConfig is FaceConfig
