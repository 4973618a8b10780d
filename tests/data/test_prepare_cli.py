"""``llava-face prepare`` and ``llava-face overlay``."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from llava_face_plugin.cli import overlay, prepare
from llava_face_plugin.errors import FaceConfigError, FaceDataError

app = typer.Typer()
prepare.register(app)
overlay.register(app)


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(w) for w in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_made_then_overlay(tmp_path: Path) -> None:
    shown = run("prepare", "made", "--out", tmp_path, "--train", 4, "--val", 2, "--size", "64x80", "--text-only", 1)
    assert f"--data_path {tmp_path}/train.json --image_folder {tmp_path}" in shown
    assert (tmp_path / "made.knowledge.safetensors").is_file() and "4 train rows" in shown
    run("overlay", tmp_path / "train.json", "--image-folder", tmp_path, "--out", tmp_path / "o.png", "-n", 2)
    with Image.open(tmp_path / "o.png") as sheet:
        assert sheet.width > 300


def test_celeba_summary(celeba: Path, tmp_path: Path) -> None:
    shown = run("prepare", "celeba", "--root", celeba, "--out", tmp_path / "o", "--holdout", "0.2", "--no-knowledge")
    assert "skipped: no image file (train)" in shown and "held out of train" in shown
    assert not list((tmp_path / "o").glob("*.safetensors"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["made", "--root", "x"], "leave --root out"),
        (["celeba"], "needs --root"),
        (["made", "--size", "big"], "expected WIDTHxHEIGHT"),
        (["celebamask_hq", "--root", "x", "--maps", "y"], "its maps come with it, leave --maps out"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(FaceConfigError, match=message):
        run("prepare", *words, "--out", tmp_path)


def test_overlay_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text('{"a": 1}')
    with pytest.raises(FaceDataError, match="expected a list of samples"):
        run("overlay", tmp_path / "d.json", "--image-folder", tmp_path)
    (tmp_path / "d.json").write_text('[{"id": "t", "conversations": []}]')
    with pytest.raises(FaceDataError, match="no sample has an image"):
        run("overlay", tmp_path / "d.json", "--image-folder", tmp_path)
