"""The doctor: healthy directories pass, each way of being ill is named, and scripts can rely on the exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from llava_face_plugin.cli.main import app
from llava_face_plugin.hosts.doctor import Report, examine
from llava_face_plugin.hosts.doctor_data import check_data
from llava_face_plugin.model_files import read_config, write_config
from llava_face_plugin.switch import disable, enable

from . import upstream

pytestmark = pytest.mark.contract


@pytest.fixture
def face_base(base: Path, tmp_path: Path) -> Path:
    out = tmp_path / "vicuna-face"
    enable(base, knowledge="made", out=out)
    return out


@pytest.fixture(scope="module")
def trained(base: Path, faces: Path, root: Path) -> Path:
    source, out = root / "base-doctor", root / "llava-doctor"
    enable(base, knowledge="made", out=source)
    upstream.train(upstream.flags(source, base / "clip", faces, out, max_steps=1))
    return out


def problems(report: Report) -> dict[str, str]:
    return {f.what: f.detail for f in report.findings if f.level == "problem"}


def warnings(report: Report) -> dict[str, str]:
    return {f.what: f.detail for f in report.findings if f.level == "warning"}


def test_a_fresh_base_and_a_trained_checkpoint_are_healthy(face_base: Path, trained: Path) -> None:
    assert problems(examine(face_base, on=True)) == {}
    assert "asked" not in str(problems(examine(face_base)))
    assert set(problems(examine(face_base, trained=True))) == {"face weights"}
    assert problems(examine(trained, on=True, trained=True)) == {}


def test_face_mode_off_is_healthy_unless_it_was_asked_for(base: Path) -> None:
    assert examine(base).healthy
    assert problems(examine(base, on=True)) == {"face mode": "off (no face block)"}
    assert "face mode" in problems(examine(base, trained=True))


def test_a_missing_guard_is_a_problem(face_base: Path) -> None:
    config = read_config(face_base)
    del config["mm_vision_tower"]
    write_config(face_base, config)
    assert "silently" in problems(examine(face_base))["guard"]


def test_a_guard_left_behind_is_a_problem(face_base: Path) -> None:
    config = read_config(face_base)
    del config["face"]
    write_config(face_base, config)
    assert "llava-face disable" in problems(examine(face_base))["guard"]
    assert disable(face_base) and examine(face_base).healthy


def test_a_run_without_the_plugin_is_found_afterwards(checkpoint: Path, tmp_path: Path) -> None:
    """A plain checkpoint whose config claims face mode, as upstream alone would save it."""
    out = shutil.copytree(checkpoint, tmp_path / "llava-silent")
    enable(out, knowledge="made")
    assert examine(out).healthy  # the flag put on an existing LLaVA: no face weights yet
    assert "none found" in problems(examine(out, trained=True))["face weights"]


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        ("model.safetensors", b"\x08\x00\x00\x00", "face weights"),
        ("mm_projector.bin", b"not a pickle", "face weights"),
        ("tokenizer_config.json", b"{", "tokenizer_config.json"),
        ("generation_config.json", b"[1", "generation_config.json"),
    ],
)
def test_damaged_files_are_named(trained: Path, tmp_path: Path, file: str, content: bytes, what: str) -> None:
    out = shutil.copytree(trained, tmp_path / "llava-damaged")
    (out / file).write_bytes(content)
    found = problems(examine(out))
    assert set(found) == {what} and (file in found[what] or "JSON" in found[what])


def test_upstreams_traps_are_warned_of(trained: Path, tmp_path: Path) -> None:
    out = shutil.copytree(trained, tmp_path / "moe" / "attempt-1")
    tokenizer = json.loads((out / "tokenizer_config.json").read_text())
    tokenizer.pop("legacy", None)
    (out / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (out / "generation_config.json").write_text(json.dumps({"temperature": 0.9, "top_p": 0.6}))
    (out / "adapter_config.json").write_text("{}")
    report = examine(out)
    assert report.healthy
    assert {"tokenizer", "generation_config.json", "name"} <= set(warnings(report))
    names = [f.detail for f in report.findings if f.what == "name"]
    assert [any(word in text for text in names) for word in ("'llava'", "'lora'", "'mpt'", "'moe'")] == [True] * 4


def test_data_is_checked_sample_by_sample(face_base: Path, faces: Path, tmp_path: Path) -> None:
    samples: list[dict[str, Any]] = json.loads((faces / "train.json").read_text())
    report = examine(face_base)
    check_data(report, faces / "train.json", faces, decode=True, show_progress=False)
    assert report.healthy and report.findings[-1].detail == "28 samples: 24 with a map, 24 with attributes, 4 text only"
    samples[3]["face_attributes"] = {"Smilling": 1}
    samples[5]["face_map"] = "maps/none.png"
    del samples[7]["conversations"]
    half = (faces / samples[9]["image"]).read_bytes()
    (tmp_path / "half.jpg").write_bytes(half[: len(half) // 2])
    samples[9]["image"] = str(tmp_path / "half.jpg")
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(samples))
    report = examine(face_base)
    check_data(report, path, faces, decode=True, show_progress=False)
    found = [f.detail for f in report.findings if f.what == "data" and f.level == "problem"]
    assert [f"row {row}" in text for row, text in zip((3, 5, 7, 9), found, strict=True)] == [True] * 4
    path.write_text('[{"id": 1,]')
    report = examine(face_base)
    check_data(report, path, faces, show_progress=False)
    assert "line 1 column" in problems(report)["data"]


def test_exit_codes_and_json(face_base: Path, base: Path) -> None:
    run = CliRunner().invoke
    result = run(app, ["doctor", str(face_base), "--on", "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["healthy"] is True
    assert json.loads(result.stdout)["face"]["preset"] == "light"
    assert run(app, ["doctor", str(base), "--on"]).exit_code == 1


def test_the_switch_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAVA_FACE", "0")
    assert "LLAVA_FACE=0" in problems(examine())["loading"]
