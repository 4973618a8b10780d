"""scripts/benchmarks/eval_speed.py: both models run, agree, and are counted right. No times are tested."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("lmms_eval", reason="needs the extra eval")
pytest.importorskip("decord", reason="llava_hf imports it")
sys.path.append(str(Path(__file__).parents[2] / "scripts" / "benchmarks"))

import eval_speed


def test_a_tiny_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures.json"
    monkeypatch.setattr(eval_speed, "quiet", lambda: None)  # it would silence the other tests' logs, too
    sizes = ["--size", "tiny", "--image-tokens", "144", "--questions", "1", "5", "--new-tokens", "3"]
    monkeypatch.setattr(sys, "argv", ["eval_speed.py", *sizes, "--repeats", "1", "--json", str(out)])
    eval_speed.main()
    one, five = json.loads(out.read_text())["rows"]
    assert (one["images"], five["images"], five["questions_per_image"], five["new_tokens"]) == (8, 4, 5, 3)
    assert one["different_answers"] == five["different_answers"] == 0
    for row in (one, five):
        assert row["ratio"] == row["ratio_low"] == row["ratio_high"]  # one repeat
        assert row["ratio"] == pytest.approx(row["ours_per_second"] / row["theirs_per_second"])
    assert "144 image tokens" in capsys.readouterr().out
