"""``llava-face plan``: what it says, as a table and as JSON; what fits, and what would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from planned_shapes import PATCHES, small, work
from typer.testing import CliRunner

from llava_face_plugin.cli.main import app
from llava_face_plugin.errors import FaceConfigError
from llava_face_plugin.planning.face import of_preset
from llava_face_plugin.planning.plan import Machine, Planner, Suggestion
from llava_face_plugin.planning.work import Spread, Work

pytest.importorskip("transformers")

TEXT = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 300,
}  # fmt: skip
VISION = {
    "model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "image_size": 56, "patch_size": 14,
}  # fmt: skip


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    config = {"model_type": "llava", "text_config": TEXT, "vision_config": VISION}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def said(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["plan", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def as_json(*arguments: object) -> dict[str, Any]:
    return json.loads(said(*arguments, "--json"))


def test_the_table_says_what_is_assumed(model_dir: Path) -> None:
    text = said(model_dir, "--gpus", 2, "--mfu", "0.2-0.4", "--batch", 2)
    for wanted in ("off", "on", "difference", "optimizer states", "assumed, not measured: MFU 0.2 to 0.4", "fits 80"):
        assert wanted in text


def test_json_holds_both_modes(model_dir: Path) -> None:
    found = as_json(model_dir, "--preset", "faceinsight", "--batch", 2, "--gpus", 2)
    assert found["fits"] == "yes" and found["suggestions"] == [] and found["spread"]["zero"] == 3
    assert found["work"]["visual"] == [1, PATCHES] and found["off"]["traced"]["llm_tokens"] == 2048
    assert "face branch" not in found["off"]["traced"]["trained"]
    assert found["on"]["traced"]["trained"]["face branch"] > 0 and len(found["face"]["knowledge"]["attributes"]) == 40
    assert found["on"]["step_flops"] > found["off"]["step_flops"]
    assert found["on"]["memory"]["peak"]["bytes"] == max(
        sum(moment["parts"].values()) for moment in found["on"]["memory"]["moments"]
    )


def test_time_is_flops_over_the_assumed_rate(model_dir: Path) -> None:
    found = as_json(model_dir, "--batch", 2, "--grad-accum", 3, "--peak-tflops", 100, "--mfu", "0.25-0.5")
    once = as_json(model_dir, "--batch", 2, "--peak-tflops", 100, "--mfu", "0.25-0.5")
    assert found["on"]["step_flops"] == 3 * once["on"]["step_flops"]
    flops = found["on"]["step_flops"]
    assert found["on"]["seconds"] == pytest.approx([flops / 5e13, flops / 2.5e13])
    unchecked = as_json(model_dir, "--batch", 2, "--no-gradient-checkpointing")
    assert unchecked["on"]["step_flops"] == unchecked["on"]["executed_flops"] == once["on"]["step_flops"]
    assert once["on"]["executed_flops"] > once["on"]["step_flops"]


def test_a_face_block_from_a_file(model_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "block.json"
    block = {"enabled": True, "fusion": {"type": "append", "pool": 2}}
    path.write_text(json.dumps(block))
    found = as_json(model_dir, "--face-config", path, "--batch", 1)
    assert found["on"]["traced"]["llm_tokens"] - found["off"]["traced"]["llm_tokens"] == PATCHES // 4


def test_named_models_and_their_images() -> None:
    found = as_json("--model", "next-7b", "--image-size", "672x672", "--batch", 1, "--stage", "pretrain")
    assert found["work"]["visual"] == [5, 2928] and found["work"]["text"] == 512 and found["spread"]["zero"] == 2
    assert sum(found["off"]["traced"]["trained"].values()) == 1024 * 4096 + 4096 + 4096**2 + 4096  # the projector


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a MODEL_DIR"),
        (["--model", "7b", "--seq-len", "500"], "the image alone takes 576 tokens"),
        (["--model", "7b", "--frames", "8"], "takes no video"),
        (["--model", "7b", "--tiles", "2", "--frames", "8"], "not both"),
        (["--model", "7b", "--image-size", "big"], "WIDTHxHEIGHT"),
        (["--model", "7b", "--mfu", "fast"], "LOW-HIGH"),
        (["--model", "7b", "--mfu", "0.5-0.3"], "the lower one first"),
        (["--model", "7b", "--face-config", "/nowhere.json"], "nowhere.json"),
    ],
)
def test_wrong_options_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(FaceConfigError, match=message):
        CliRunner().invoke(app, ["plan", *arguments], catch_exceptions=False)


def test_fits_near_and_no_with_what_would_help() -> None:
    asked, spread = work(text=300, batch=8), Spread(2, 0)
    roomy = Planner(small(), of_preset("light"), Machine()).plan(asked, spread)
    assert roomy.fits == "yes" and roomy.suggestions == ()
    peak = roomy.on.memory.peak.total / 2**30
    near = Planner(small(), of_preset("light"), Machine(memory_gib=peak * 1.05)).plan(asked, spread)
    assert near.fits == "near"
    tight = Planner(small(), of_preset("light"), Machine(memory_gib=peak * 0.999)).plan(asked, spread)
    assert tight.fits == "no"
    options = [one.options for one in tight.suggestions]
    assert options[:4] == ["--zero 2", "--zero 3", "--gradient-checkpointing", "--batch 4 --grad-accum 2"]
    assert all(one.fits != "no" for one in tight.suggestions if one.peak <= peak * 0.999 * 2**30)


def test_the_micro_batch_is_as_large_as_fits_beside_the_other_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fits(self: Planner, options: str, work: Work, spread: Spread) -> Suggestion:
        return Suggestion(options, 0, "yes" if spread.offload == "optimizer" and work.batch <= 4 else "no")

    monkeypatch.setattr(Planner, "_suggestion", fits)
    planner = Planner(small(), of_preset("light"), Machine())
    *alone, together = planner.suggestions(work(batch=8), Spread(2, 3))
    assert [one.options.split()[0] for one in alone] == [
        "--gradient-checkpointing", "--batch", "--offload", "--offload", "--stage",
    ]  # fmt: skip
    assert together.options == "--gradient-checkpointing --batch 4 --grad-accum 2 --offload optimizer"


def test_changes_are_combined_when_none_helps_alone() -> None:
    # Only the smallest batch with checkpointing would fit: every single change is too little.
    asked, spread = work(text=2000, batch=8), Spread(1, 0)
    planner = Planner(small(), of_preset("light"), Machine())
    smallest = work(text=2000, batch=1, checkpointing=True)
    least = planner.mode(smallest, Spread(1, 0, accumulation=8), of_preset("light")).memory.peak.total
    machine = Machine(memory_gib=least * 1.001 / 2**30)
    last = Planner(small(), of_preset("light"), machine).plan(asked, spread).suggestions[-1]
    assert last.options == "--gradient-checkpointing --batch 1 --grad-accum 8" and last.fits == "near"
