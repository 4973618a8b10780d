"""``enable`` and ``disable`` on model directories: block, guard, files, and nothing half done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llava_face_plugin import guard, switch
from llava_face_plugin.config import FaceConfig
from llava_face_plugin.errors import FaceConfigError
from llava_face_plugin.switch import disable, enable

from .model_folders import LLAVA, LLM, files, model, read


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


def test_switch_is_what_the_package_offers() -> None:
    import llava_face_plugin

    assert llava_face_plugin.enable is switch.enable and llava_face_plugin.disable is switch.disable
    assert llava_face_plugin.FaceConfig is FaceConfig
