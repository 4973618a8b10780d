"""The demo on a handful of faces: every file that README promises is there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("llava", reason="needs the host package: llava-torch==1.2.2.post1")

from tests.hosts import upstream

REPO = Path(__file__).resolve().parents[1]


@pytest.mark.launch
def test_the_demo_writes_table_pictures_and_report(tmp_path: Path) -> None:
    command = [sys.executable, REPO / "scripts" / "demo.py", "--out", tmp_path]
    result = upstream.run([*command, "--images", 16, "--val-images", 4, "--epochs", 1], tmp_path)
    assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]
    results = json.loads((tmp_path / "results.json").read_text())
    rows = {row["key"]: row for row in results["rows"]}
    assert rows["accuracy"]["off"]["mean"] is not None and rows["accuracy"]["on"]["mean"] is not None
    assert rows["loss_bce"]["off"]["mean"] is None and rows["loss_bce"]["on"]["mean"] > 0
    assert rows["parameters"]["ratio"] > 1 and rows["step_ms"]["ratio"] > 0 and rows["memory_mib"]["ratio"] > 0
    assert results["protocol"]["train_images"] == 16 and results["protocol"]["questions"] == 80
    page = (tmp_path / "report.html").read_text()
    assert "Accuracy by group" in page and "not Male" in page
    for picture in ("maps.png", "curves.png", "cooccurrence.png"):
        assert (tmp_path / picture).stat().st_size > 1000 and picture in page


@pytest.mark.launch
def test_another_folder_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, REPO / "scripts" / "demo.py", "--out", tmp_path / "out", "--data", tmp_path]
    result = upstream.run(command, tmp_path)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("error: ") and "Traceback" not in result.stderr
    assert "neither CelebA" in result.stderr
