"""The blocks ``face.facial`` and ``face.fusion`` of FaVChat: presets, refusals, and what ``enable`` writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llava_face_plugin.config import FaceConfig
from llava_face_plugin.errors import FaceConfigError, FaceDataError
from llava_face_plugin.facial_config import FacialConfig
from llava_face_plugin.switch import enable
from tests.core.standin import facial_block, tiny_farl

PATH = {"facial": {"path": "farl.pth"}}


@pytest.mark.parametrize(("preset", "fusion"), [("favchat", "moe"), ("favchat-v6", "text-query")])
def test_presets(preset: str, fusion: str) -> None:
    face = FaceConfig.parse({"preset": preset, **PATH})
    assert face.segmentation.encoder is None and face.knowledge is None
    assert face.facial is not None and (face.facial.encoder, face.facial.trained) == ("farl", False)
    assert face.fusion.type == fusion
    assert FaceConfig.parse(json.loads(json.dumps(face.to_dict()))) == face


def test_presets_need_the_weights() -> None:
    with pytest.raises(FaceConfigError, match=r"^f.json: face.facial: a frozen facial encoder needs path"):
        FaceConfig.parse({"preset": "favchat"}, "f.json")


def test_other_presets_have_no_facial_encoder() -> None:
    assert FaceConfig.parse({}).facial is None


def test_parts_of_both_papers_in_one_block() -> None:
    block = {"preset": "favchat", **PATH, "segmentation": {"encoder": "vit-palette"}, "fusion": {"type": "gated_add"}}
    face = FaceConfig.parse(block)
    assert face.segmentation.encoder == "vit-palette" and face.facial is not None and face.fusion.type == "gated_add"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"facial": {"taps": [3, 3]}}, "face.facial: taps must be block numbers in rising order, not [3, 3]"),
    ({"facial": {"taps": [-1, 3]}}, "face.facial: taps must be block numbers in rising order, not [-1, 3]"),
    ({"facial": {"taps": []}}, "face.facial.taps: "),
    ({"facial": {"taps": [3, 12]}}, "face.facial: tap 12 is behind the last block, 11"),
    ({"facial": {"size": 230}}, "face.facial: size 230 is no multiple of the patch, 16 pixels"),
    ({"facial": {"std": [0.1, 0.0, 0.1]}}, "face.facial: std must be above 0"),
    ({"facial": {"mean": [0.1, 0.2]}}, "face.facial.mean: "),
    ({"facial": {"trained": "yes"}}, "face.facial.trained: "),
    ({"facial": {"pathh": "x"}}, "face.facial.pathh: unknown key 'pathh'; did you mean 'path'?"),
    ({"facial": {"vit": {"heads": 7}}}, "face.facial.vit: width 768 is no multiple of heads 7"),
    ({"facial": {"vit": {"deptth": 7}}}, "face.facial.vit.deptth: unknown key 'deptth'; did you mean 'depth'?"),
    ({"facial": {"vit": {"activation": "relu"}}}, "face.facial.vit.activation: "),
    ({"facial": None, "fusion": {"type": "gated_add"}}, "face: without segmentation.encoder and facial there is"),
    ({"facial": None, "fusion": {"general": False}}, "face: without segmentation.encoder and facial there is"),
    ({"fusion": {"top_k": 5}}, "face.fusion: top_k 5 is more than there are experts, 4"),
    ({"fusion": {"experts": 0}}, "face.fusion.experts: "),
    ({"fusion": {"dispatch": "sparse"}}, "face.fusion.dispatch: "),
    ({"fusion": {"balance_weight": -0.1}}, "face.fusion.balance_weight: "),
    ({"fusion": {"type": "gated_add", "experts": 8}}, "face.fusion: experts is for fusion 'moe', not 'gated_add'"),
    ({"fusion": {"type": "append", "hidden": 8}}, "face.fusion: hidden is for fusion 'moe' or 'soft-gate', not"),
    ({"fusion": {"type": "moe", "queries": 8}}, "face.fusion: queries is for fusion 'text-query', not 'moe'"),
    ({"fusion": {"type": "text-query", "heads": 7}}, "face.fusion: width 512 is no multiple of heads 7"),
    ({"segmentation": {"encoder": None, "maps": "/x"}}, "face.segmentation: maps and parser are for an encoder that"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[str(c) for c, _ in WRONG])
def test_one_error_naming_the_key(change: dict[str, Any], message: str) -> None:
    block: dict[str, Any] = {"preset": "favchat", **PATH}
    for key, value in change.items():
        block[key] = {**block.get(key, {}), **value} if isinstance(value, dict) else value
    with pytest.raises(FaceConfigError) as caught:
        FaceConfig.parse(block, "f.json")
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"f.json: {message}"), lines


def test_an_moe_without_any_face_is_a_control() -> None:
    face = FaceConfig.parse({"preset": "favchat", "facial": None})
    assert face.facial is None and face.fusion.general


def test_enable_writes_the_shape_of_the_weights(tiny_copy: Callable[[str], Path], monkeypatch: Any) -> None:
    monkeypatch.chdir(Path(tiny_farl()).parent)
    model = tiny_copy("favchat")
    face = enable(model, preset="favchat", settings=["facial.path=farl.pth", "facial.taps=[0, 2]"])
    assert face.facial is not None
    assert face.facial.vit == FacialConfig.model_validate(facial_block()).vit
    assert face.facial.size == 16 and face.facial.path == tiny_farl()
    written = json.loads((model / "config.json").read_text())["face"]
    assert FaceConfig.parse(written) == face


def test_what_is_set_wins_over_the_weights(tiny_copy: Callable[[str], Path]) -> None:
    settings = {"facial": {"path": tiny_farl(), "taps": [1], "size": 32, "mean": [0.5, 0.5, 0.5]}}
    face = enable(tiny_copy("favchat"), preset="favchat-v6", settings=settings)
    assert face.facial is not None
    assert (face.facial.size, face.facial.mean, face.facial.vit.depth) == (32, [0.5, 0.5, 0.5], 3)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (["facial.path=nowhere.pth"], FaceDataError, "nowhere.pth: no such file"),
        ([f"facial.path={tiny_farl()}"], FaceConfigError, "face.facial: tap 11 is behind the last block, 2"),
        (
            ["facial.path=x", "facial.encoder=frl"],
            FaceConfigError,
            "unknown facial encoder 'frl'; did you mean 'farl'?",
        ),
        ([], FaceConfigError, "face.facial: a frozen facial encoder needs path"),
    ],
    ids=["no file", "taps", "encoder", "no path"],
)
def test_enable_refuses_before_it_writes(
    tiny_copy: Callable[[str], Path], settings: list[str], error: type[Exception], message: str
) -> None:
    model = tiny_copy("favchat")
    before = (model / "config.json").read_bytes()
    with pytest.raises(error, match=message.replace("?", r"\?")):
        enable(model, preset="favchat", settings=settings)
    assert (model / "config.json").read_bytes() == before


@pytest.mark.contract
def test_enable_reads_a_directory_of_transformers(tiny_base: Path, tiny_copy: Callable[[str], Path]) -> None:
    settings = {"facial": {"encoder": "transformers", "path": str(tiny_base / "clip"), "taps": [0]}}
    face = enable(tiny_copy("favchat"), preset="favchat", settings=settings)
    assert face.facial is not None
    assert (face.facial.vit.width, face.facial.size, face.facial.vit.patch) == (32, 56, 14)
