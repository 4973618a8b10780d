"""``llava-face segment`` as typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from stand_in_parser import ids_of, make_images, picture
from typer.testing import CliRunner

from llava_face_plugin.cli import overlay, segment
from llava_face_plugin.errors import FaceConfigError, FaceDataError
from llava_face_plugin.maps.files import write_map
from llava_face_plugin.maps.store import MapStore
from llava_face_plugin.parsing.precomputed import index

app = typer.Typer()
segment.register(app)
overlay.register(app)


def invoke(*words: object) -> Any:
    result = CliRunner().invoke(app, ["segment", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Images in ``in``, and a folder of their maps for ``--parser precomputed``."""
    for i, name in enumerate(make_images(tmp_path / "in", 6)):
        write_map(tmp_path / "maps" / f"{name}.png", ids_of(i))
    return tmp_path / "maps"


def test_a_summary_is_printed(tmp_path: Path, maps: Path) -> None:
    (tmp_path / "in/bad.jpg").write_bytes(b"<html>")
    (tmp_path / "in" / ("x" * 253)).touch()  # a name that no map can have
    picture(99).save(tmp_path / "in/unknown.png")
    words = (tmp_path / "in", "--out", tmp_path / "store", "--parser", "precomputed", "--path", maps)
    result = invoke(*words)
    assert result.exit_code == 0
    shown = " ".join(result.output.split())
    assert "ok │ 6" in shown and "no face │ 1" in shown and "failed: format │ 1" in shown and "images/s" in shown
    assert "failed (format): image bad.jpg: no JPEG/" in shown
    store = MapStore.open(tmp_path / "store")
    np.testing.assert_array_equal(store.get("a/000.png"), ids_of(0))
    assert store.info.settings["type"] == "precomputed"
    again = invoke(*words)
    assert "nothing to do" in again.output and "--retry-failed" in again.output
    assert invoke(*words, "--strict").exit_code == 1


def test_json_is_all_that_is_printed(tmp_path: Path, maps: Path) -> None:
    result = invoke(
        tmp_path / "in", "--out", tmp_path / "store", "--parser", "precomputed", "--path", maps, "--json", "--strict",
        "--shard", "1/2", "--format", "parquet",
    )  # fmt: skip
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["ok"] == 3 and told["failed"] == 0 and told["already_there"] == 0


def test_a_parser_block_from_a_file(tmp_path: Path, maps: Path) -> None:
    block = tmp_path / "parser.json"
    block.write_text(json.dumps({"type": "precomputed", "path": str(maps)}))
    words = (tmp_path / "in", "--out", tmp_path / "store", "--parser-config", block)
    assert invoke(*words).exit_code == 0
    with pytest.raises(FaceConfigError, match="leave out --faces"):
        invoke(*words, "--faces", "all")
    block.write_text('{"type": "precomputed", "pth": "x"}')
    with pytest.raises(FaceConfigError, match=r"parser\.json: pth: unknown key .pth.; did you mean .path."):
        invoke(*words)
    block.write_text("{")
    with pytest.raises(FaceConfigError, match=r"parser\.json: cannot be read as JSON"):
        invoke(*words)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "which parser.*--parser TYPE"),
        (("--parser", "magic"), "segment --parser: type: .*'magic'"),
        (("--parser", "precomputed"), "parser type 'precomputed' needs a path"),
        (("--parser", "torchscript", "--path", "x", "--detector", "yunet"), "needs detector_path"),
        (("--parser", "precomputed", "--path", "x", "--sha256", "abc"), "sha256: expected text of the form"),
        (("--parser", "precomputed", "--path", "MAPS", "--shard", "0/2"), "shard 0/2"),
        (("--parser", "precomputed", "--path", "MAPS", "--shard", "two"), "--shard: expected i/n"),
    ],
)
def test_wrong_options_are_said_in_one_line(tmp_path: Path, maps: Path, words: tuple[str, ...], told: str) -> None:
    given = [str(maps) if word == "MAPS" else word for word in words]
    with pytest.raises(FaceConfigError, match=told) as caught:
        invoke(tmp_path / "in", "--out", tmp_path / "store", *given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_exit_code_1_where_every_image_failed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "maps").mkdir()
    (tmp_path / "in/a.jpg").write_bytes(b"")
    words = (tmp_path / "in", "--out", tmp_path / "store", "--parser", "precomputed", "--path", tmp_path / "maps")
    result = invoke(*words)
    assert result.exit_code == 1 and "every image failed" in result.output
    assert invoke(*words).exit_code == 1  # and again, with nothing to do
    picture(0).save(tmp_path / "in/b.png")
    assert invoke(*words).exit_code == 0  # no face, and no failure


@pytest.mark.parametrize("form", ["png", "parquet"])
@pytest.mark.parametrize("kind", ["folder", "store", "index"])
def test_stored_maps_that_change_are_looked_up_again(tmp_path: Path, maps: Path, kind: str, form: str) -> None:
    words = (tmp_path / "in", "--out", tmp_path / "store", "--parser", "precomputed", "--format", form, "--json")
    source = maps
    if kind == "store":
        source = tmp_path / "first"
        first = (tmp_path / "in", "--out", source, "--parser", "precomputed", "--path", maps, "--json")
        invoke(*first)
    if kind == "index":
        pairs = [(tmp_path / "in" / name, maps / f"{name}.png") for name in make_images(tmp_path / "in", 6)]
        source = index(pairs, tmp_path / "indexed").path
    invoke(*words, "--path", source)
    assert json.loads(invoke(*words, "--path", source).stdout)["already_there"] == 6
    later = time.time() + 5
    write_map(maps / "a/000.png.png", ids_of(5))
    os.utime(maps / "a/000.png.png", (later, later))
    if kind == "store":
        assert json.loads(invoke(*first).stdout)["ok"] == 1
    if kind == "index":  # one file for all
        os.utime(source, (later, later))
    done = json.loads(invoke(*words, "--path", source).stdout)
    assert done["ok"] == (6 if kind == "index" else 1)
    np.testing.assert_array_equal(MapStore.open(tmp_path / "store").get("a/000.png"), ids_of(5))


def test_ctrl_c_is_said_and_gone_on_from(tmp_path: Path) -> None:
    """The real command in a process of its own, interrupted as soon as something is in the store."""
    images = 1500
    (tmp_path / "in").mkdir()
    picture(0, (96, 96)).save(tmp_path / "one.png")
    write_map(tmp_path / "map.png", ids_of(0, (96, 96)))
    for i in range(images):
        os.link(tmp_path / "one.png", tmp_path / f"in/{i:04d}.png")
        (tmp_path / "maps").mkdir(exist_ok=True)
        os.link(tmp_path / "map.png", tmp_path / f"maps/{i:04d}.png.png")
    words = [tmp_path / "in", "--out", tmp_path / "store", "--parser", "precomputed", "--path", tmp_path / "maps"]
    command = [sys.executable, "-m", "llava_face_plugin.cli.main", "segment", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    manifest = tmp_path / "store/manifest/1-of-1.jsonl"
    while process.poll() is None and not (manifest.exists() and manifest.stat().st_size):
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "stopped; what is finished is kept" in told and "Traceback" not in told
    done = len(MapStore.open(tmp_path / "store"))
    assert 0 < done < images
    summary = json.loads(invoke(*words, "--json").stdout)
    assert summary["already_there"] + summary["ok"] == images
    assert summary["already_there"] - done in (0, 1)  # a map whose line was not written yet is adopted


def test_ctrl_c_before_anything_is_stored_promises_nothing(
    tmp_path: Path, maps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("llava_face_plugin.segment.run.segment", interrupted)
    result = invoke(tmp_path / "in", "--out", tmp_path / "store", "--parser", "precomputed", "--path", maps)
    assert result.exit_code == 130 and "stopped" in result.stderr and "kept" not in result.stderr


def test_an_input_that_is_not_there(tmp_path: Path, maps: Path) -> None:
    with pytest.raises(FaceDataError, match="no such file or folder"):
        invoke(tmp_path / "gone", "--out", tmp_path / "store", "--parser", "precomputed", "--path", maps)


def test_a_network_without_a_detector_is_told(tmp_path: Path, maps: Path) -> None:
    from llava_face_plugin.parsing.networks.compact import CompactNet, CompactSettings, save_compact

    small = CompactSettings(stem=8, widths=[8, 8], blocks=[1, 1], decoder=8)
    save_compact(tmp_path / "p.safetensors", CompactNet(small), size=32, training={})
    result = invoke(
        tmp_path / "in", "--out", tmp_path / "s", "--parser", "compact", "--path", tmp_path / "p.safetensors"
    )
    assert result.exit_code == 0 and "every picture is taken for one cropped face" in result.stderr
    result = invoke(tmp_path / "in", "--out", tmp_path / "t", "--parser", "precomputed", "--path", maps)
    assert "cropped face" not in result.stderr
