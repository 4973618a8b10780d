"""``llava-face segment`` as typed."""

from __future__ import annotations

import json
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
    with pytest.raises(FaceConfigError, match=r"parser\.json: pth: Extra inputs"):
        invoke(*words)
    block.write_text("{")
    with pytest.raises(FaceConfigError, match=r"parser\.json: cannot be read as JSON"):
        invoke(*words)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "which parser.*--parser TYPE"),
        (("--parser", "magic"), "--parser: "),
        (("--parser", "precomputed"), "parser type 'precomputed' needs a path"),
        (("--parser", "torchscript", "--path", "x", "--detector", "yunet"), "needs detector_path"),
        (("--parser", "precomputed", "--path", "x", "--sha256", "abc"), "--sha256: "),
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


def test_an_input_that_is_not_there(tmp_path: Path, maps: Path) -> None:
    with pytest.raises(FaceDataError, match="no such file or folder"):
        invoke(tmp_path / "gone", "--out", tmp_path / "store", "--parser", "precomputed", "--path", maps)
