"""The doctor on the facial encoder: there and whole, gone with its cure, trained and saved; experts and prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from llava_face_plugin.config import FaceConfig, merged
from llava_face_plugin.hosts.doctor import Report, examine
from llava_face_plugin.hosts.doctor_face import check_facial, check_fusion
from llava_face_plugin.model_files import write_config
from llava_face_plugin.switch import enable
from tests.core.standin import facial_block, tiny_farl

SAVED = ["model.mm_projector.face.facial.vit.positions", "model.mm_projector.face.fusion.gate"]


def found(names: list[str], **facial: Any) -> tuple[str, str]:
    """Level and text of the one finding."""
    face = FaceConfig.parse({"preset": "favchat", "facial": facial_block(**facial)})
    report = Report()
    check_facial(report, face.facial, names)
    (finding,) = report.findings
    assert finding.what == "facial encoder"
    return finding.level, finding.detail


def test_a_frozen_encoder_is_read() -> None:
    level, text = found([])
    # patches 64 x 48, class token, 10 positions, first norm, and three blocks of width 64 with 96 in between
    block = 4 * 64**2 + 4 * 64 + 2 * 64 * 96 + 96 + 64 + 4 * 64
    size = (64 * 48 + 64 + 10 * 64 + 2 * 64 + 3 * block) / 1e6
    assert level == "ok" and f"{size:.1f} M parameters" in text
    assert text.startswith(f"farl, frozen, read from {tiny_farl()}: 64 wide, 3 of 3 blocks")
    assert text.endswith("taps 0, 2, shown 12 px")


def test_a_missing_or_other_file_is_one_finding_with_the_cure(tmp_path: Path) -> None:
    level, text = found([], path=str(tmp_path / "gone.pth"))
    assert level == "problem" and "gone.pth: no such file" in text and "set face.facial.path in config.json" in text
    level, text = found([], vit={"width": 32, "depth": 3, "heads": 1, "hidden": 96, "patch": 4})
    assert level == "problem" and "says width 32, but the weights have width 64" in text


def test_a_trained_encoder_needs_its_path_only_to_start(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.pth")
    assert found([], trained=True)[0] == "ok"
    assert found([], trained=True, path=gone)[0] == "problem"
    level, text = found(SAVED, trained=True, path=gone)
    assert level == "ok" and "in the checkpoint" in text
    level, text = found(SAVED[1:], trained=True)
    assert level == "problem" and "have none of it" in text
    assert "from" not in found([], trained=True, path=None)[1].split(":")[0]


@pytest.mark.parametrize(
    ("fusion", "level", "text"),
    [
        ({"dispatch": "grouped"}, "ok", "4 experts, 2 a patch, grouped dispatch, loss weights: balance 0.01 over the"),
        ({"balance_weight": 0.0}, "warning", "nothing keeps the router from choosing the same experts"),
        ({"type": "text-query"}, "ok", "encoded anew for each question"),
        ({"type": "soft-gate"}, "ok", "encoded anew for each question"),
    ],
)
def test_the_fusion_is_described(fusion: dict[str, Any], level: str, text: str) -> None:
    report = Report()
    check_fusion(report, FaceConfig.parse({"preset": "favchat", "facial": facial_block(), "fusion": fusion}))
    (finding,) = report.findings
    assert finding.level == level and text in finding.detail


def test_nothing_is_said_where_there_is_nothing() -> None:
    face, report = FaceConfig.parse({}), Report()
    check_facial(report, face.facial, [])
    check_fusion(report, face)
    assert report.findings == []


@pytest.mark.contract
def test_a_directory_is_healthy_until_its_weights_are_gone(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    if not hasattr(transformers, "LlavaOnevisionForConditionalGeneration"):
        pytest.skip("this transformers has no Llava classes that face mode knows")
    weights = tmp_path / "farl.pth"
    weights.write_bytes(Path(tiny_farl()).read_bytes())
    folder = tmp_path / "model"
    folder.mkdir()
    config = {"model_type": "llava", "text_config": {"model_type": "llama"}, "vision_config": {}}
    write_config(folder, config)
    save_file({"multi_modal_projector.linear_1.weight": torch.ones(2, 2)}, folder / "model.safetensors")
    settings = merged({"facial": facial_block(path=str(weights))}, {"fusion": {"hidden": 8}})
    enable(folder, preset="favchat", settings=settings)
    report = examine(folder, on=True)
    assert report.healthy, report.findings
    told = {finding.what: finding.detail for finding in report.findings}
    assert told["face mode"] == "on: preset favchat, facial encoder farl, moe" and "0.1 M" in told["facial encoder"]
    weights.unlink()
    report = examine(folder)
    assert [finding.what for finding in report.findings if finding.level == "problem"] == ["facial encoder"]
