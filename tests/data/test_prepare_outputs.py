"""What a run leaves in the folder and says of it: earlier files, dropped rules, maps, the command to train with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from llava_face_plugin.cli import prepare as command
from llava_face_plugin.data.datasets import DATASETS
from llava_face_plugin.errors import FaceConfigError, FaceDataError
from llava_face_plugin.maps.files import write_map
from llava_face_plugin.maps.rows import Row, map_path
from llava_face_plugin.maps.store import StoreInfo
from llava_face_plugin.segment.writers import PngWriter

app = typer.Typer()
command.register(app)


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [*map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_files_of_an_earlier_run_do_not_stay(celeba: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("celeba", "--root", celeba, "--out", out)
    run(*words, "--holdout", 4)
    (out / "mine.json").write_text("[]")
    (out / "extra.knowledge.safetensors").touch()
    shown = run(*words, "--holdout", 0, "--no-knowledge")
    assert {p.name for p in out.iterdir()} == {
        "train.json", "manifest.parquet", "manifest.schema.json", "mine.json", "extra.knowledge.safetensors",
    }  # fmt: skip
    assert "removed from an earlier run: val_questions.jsonl, celeba.knowledge.safetensors" in shown
    assert "removed from an earlier run" not in run(*words, "--holdout", 0, "--no-knowledge")


def test_other_files_of_those_names_stay(celeba: Path, tmp_path: Path) -> None:
    """Nothing is removed where no manifest says that there was a run, and never what is read."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "test.json").write_text("[]")
    run("celeba", "--root", celeba, "--out", tmp_path / "out")
    assert (tmp_path / "out" / "test.json").is_file()
    own = tmp_path / "own"
    own.mkdir()
    said = [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Nobody."}]
    (own / "val.json").write_text(json.dumps([{"id": "a", "image": "a.jpg", "conversations": said}]))
    (own / "val.json").write_text((own / "val.json").read_text().replace("Who?", "<image>\\nWho?"))
    for _ in range(2):
        run("llava_json", "--labels", own / "val.json", "--out", own)
    assert (own / "val.json").is_file() and (own / "train.json").is_file()


def test_dropped_rules_are_named(celeba: Path, tmp_path: Path) -> None:
    words = ("celeba", "--root", celeba, "--out", tmp_path / "o", "--holdout", 0)
    shown = run(*words)  # its labels are drawn by lot
    dropped = [line for line in shown.splitlines() if line.startswith("note: rule dropped: ")]
    assert dropped and all(" rows break it, " in line and "--max-rate 0.02" in line for line in dropped)
    assert "rule dropped" not in run(*words, "--max-rate", 1)


def test_styles_and_holdout_are_checked_before_anything_is_written(celeba: Path, tmp_path: Path) -> None:
    words = ("celeba", "--root", celeba, "--out", tmp_path / "out")
    for options, message in (
        (("--styles", "lists"), "unknown style 'lists'"),
        (("--styles", "choice"), "styles choice"),
        (("--holdout", 12), "only 12 train images"),
    ):
        with pytest.raises(FaceDataError, match=message):
            run(*words, *options)
        assert not (tmp_path / "out").exists()
    with pytest.raises(FaceDataError, match="unknown style 'lists'"):  # and before anything is read
        run("celeba", "--root", tmp_path / "nowhere", "--out", tmp_path / "out", "--styles", "lists")


def test_only_train_is_to_be_trained_with(celeba: Path, tmp_path: Path) -> None:
    images = celeba / "img_align_celeba"
    (images / "000018.jpg").write_bytes((images / "000001.jpg").read_bytes())
    words = ("celeba", "--root", celeba, "--out", tmp_path)
    assert "Train with" not in run(*words, "--split", "val")
    assert f"--data_path {tmp_path}/train.json" in run(*words)


def test_a_map_store_is_named_and_not_copied(celeba: Path, tmp_path: Path) -> None:
    store = made_store(tmp_path / "store", ["img_align_celeba/000001.jpg", "img_align_celeba/000002.jpg"])
    shown = run("celeba", "--root", celeba, "--out", tmp_path / "o", "--holdout", 0, "--maps", store)
    assert "maps of 2 of the 12 images used" in shown and f"set face.segmentation.maps to {store}" in shown
    assert all("face_map" not in row for row in json.loads((tmp_path / "o" / "train.json").read_text()))


def made_store(path: Path, images: list[str]) -> Path:
    path.mkdir()
    (path / "store.json").write_text(StoreInfo("png", "test", "0" * 64).to_json())
    writer = PngWriter(path, "1-of-1")
    for name in images:
        writer.add(Row(name, "ok", map=map_path(name)), b"not looked at")
    writer.add(Row("img_align_celeba/000003.jpg", "no-face"), None)
    writer.finish()
    writer.close()
    return path


def test_maps_are_for_all_that_have_none_of_their_own(tmp_path: Path) -> None:
    assert {name for name in DATASETS if DATASETS[name].own_maps} == {"celebamask_hq", "llava_json"}
    root, stems = tmp_path / "own", [f"2{n}_1_0_20170116184028385" for n in range(20)]
    (root / "UTKFace").mkdir(parents=True)
    for n, stem in enumerate(stems):
        Image.new("RGB", (4, 4), (n, 0, 0)).save(root / "UTKFace" / f"{stem}.jpg")
        write_map(root / "maps" / f"{stem}.png", np.zeros((4, 4), np.uint8))
    run("utkface", "--root", root, "--maps", root / "maps", "--out", tmp_path / "o")
    rows = json.loads((tmp_path / "o" / "train.json").read_text())
    assert rows and all(row["face_map"] == f"maps/{row['id']}.png" for row in rows)
    for name in ("made", "llava_json"):
        with pytest.raises(FaceConfigError, match="leave --maps out"):
            run(name, "--maps", tmp_path, "--out", tmp_path / "o", *(() if name == "made" else ("--root", tmp_path)))
