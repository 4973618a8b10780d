"""scripts/experiments on clips: what each variant is, a step of each, and an experiment that goes on where it stopped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "scripts" / "experiments"))

import clips as experiment
from facial_standin import TAPS, VIT, standin
from made_frames import SIDE, Clips, clips_of
from table import markdown, read_cells
from training import ByPixels, Recipe, balanced_accuracy, build, build_base, inputs_of, task_of, train
from variants import VARIANTS, face_block

from llava_face_plugin.config import FaceConfig

RECIPE = Recipe(hidden=16, layers=1, vision_hidden=16, expert=8, steps=2, batch=2, rate=1e-2)
FRAMES, SEED = 9, 0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ablation-clips")


@pytest.fixture(scope="module")
def facial(place: Path) -> dict[str, Any]:
    standin(place / "standin.pth", place / "drawn", total=4, steps=1, unseen=4)
    return {"path": str(place / "standin.pth"), "taps": TAPS}


@pytest.fixture(scope="module")
def drawn(place: Path) -> Clips:
    return clips_of("blink", 4, 1, FRAMES, place / "drawn")


@pytest.fixture(scope="module")
def plain(place: Path) -> Path:
    return build_base(place / "model", RECIPE, SEED)


def test_what_each_variant_leaves_out() -> None:
    facial = {"path": "weights.pth", "taps": [0, 2], "vit": {"depth": 3}}
    configs = {name: FaceConfig.parse(face_block(v, facial, 8)) for name, v in VARIANTS.items() if name != "off"}
    assert face_block(VARIANTS["off"], facial, 8) is None
    found = {
        name: (c.facial and c.facial.taps, c.fusion.experts, c.fusion.top_k, c.fusion.hidden, c.fusion.general)
        for name, c in configs.items()
    }
    assert found == {
        "full": ([0, 2], 4, 2, 8, True),
        "general only": (None, 4, 2, 8, True),
        "facial only": ([0, 2], 4, 2, 8, False),
        "no MoE": ([0, 2], 1, 1, 16, True),  # as wide as the two experts that a patch goes to
        "no multi-granularity": ([2], 4, 2, 8, True),
    }


def test_clips_are_of_one_kind_and_kept(drawn: Clips, place: Path) -> None:
    assert drawn.pixels.shape == (4, FRAMES, SIDE, SIDE, 3) and sorted(drawn.which) == [0, 0, 1, 1]
    for clip in drawn.pixels:  # two of the nine frames have closed eyes, the others are one picture
        assert sorted(np.unique(clip, axis=0, return_counts=True)[1]) == [2, FRAMES - 2]
    again = clips_of("blink", 4, 1, FRAMES, place / "drawn")
    assert all(np.array_equal(a, b) for a, b in zip(again, drawn, strict=True))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_of_each_variant(name: str, plain: Path, facial: dict[str, Any], drawn: Clips) -> None:
    model = build(VARIANTS[name], plain, facial, RECIPE, SEED, ByPixels())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    losses = train(model, drawn, task_of("blink", plain.parent / "parts"), RECIPE, SEED)
    assert len(losses) == RECIPE.steps and np.isfinite(losses).all()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert not any("vision_tower" in key for key in changed)
    assert any("language_model" in key for key in changed)
    assert ("model.multi_modal_projector.face.fusion.gate" in changed) == (name != "off")


@pytest.mark.parametrize("name, reads", [("full", True), ("facial only", False), ("general only", True)])
def test_whether_the_tower_is_read(
    name: str, reads: bool, plain: Path, facial: dict[str, Any], drawn: Clips
) -> None:
    model = build(VARIANTS[name], plain, facial, RECIPE, SEED, ByPixels()).eval()
    task = task_of("blink", plain.parent / "parts")
    with torch.no_grad():
        model.model.multi_modal_projector.face.fusion.gate.fill_(1.0)
        inputs = inputs_of(drawn, np.arange(2), task, RECIPE)
        before = model(**inputs).logits
        for parameter in model.model.vision_tower.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
        assert torch.equal(before, model(**inputs).logits) != reads


def test_what_is_remembered_is_what_is_computed(plain: Path, facial: dict[str, Any]) -> None:
    model = build(VARIANTS["full"], plain, facial, RECIPE, SEED, ByPixels())
    encoder = model.model.multi_modal_projector.face.facial
    rgb = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    like = torch.zeros(3, 16, 1)
    remembered = [encoder.forward(rgb[order], 4, like=like[: len(order)]) for order in ([0, 1], [2, 1, 0])]
    computed = type(encoder).forward(encoder, rgb, 4, like=like)
    assert computed.shape == (3, 16, len(TAPS), VIT.width)
    torch.testing.assert_close(remembered[0], computed[:2])
    torch.testing.assert_close(remembered[1], computed[[2, 1, 0]])


def test_controls_take_the_order_away(drawn: Clips) -> None:
    one = experiment.as_shown(drawn, experiment.ONE, 0).pixels
    assert all(np.array_equal(one[:, n], drawn.pixels[:, FRAMES // 2]) for n in range(FRAMES))
    shuffled = experiment.as_shown(drawn, experiment.SHUFFLED, 0).pixels
    assert not np.array_equal(shuffled, drawn.pixels)
    for clip, mixed in zip(drawn.pixels, shuffled, strict=True):
        assert sorted(frame.tobytes() for frame in clip) == sorted(frame.tobytes() for frame in mixed)


def test_a_model_that_always_says_the_same_scores_a_half(plain: Path, facial: dict[str, Any], drawn: Clips) -> None:
    model = build(VARIANTS["off"], plain, facial, RECIPE, SEED, ByPixels())
    task = task_of("blink", plain.parent / "parts")
    with torch.no_grad():
        model.lm_head.weight[list(task.answers)] = 0.0
    assert balanced_accuracy(model, drawn, task, RECIPE) == 0.5


def test_it_goes_on_where_it_stopped(place: Path, facial: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "ROWS", experiment.ROWS[-2:])
    monkeypatch.setattr(experiment, "Recipe", lambda **changes: RECIPE)

    def run() -> list[dict[str, Any]]:
        experiment.main(place, ["blink"], 1, clips=4, held_out=4, steps=1, rate=1e-3, stills=4, facial_steps=1)
        return read_cells(place / "cells.jsonl")

    first = run()
    assert [cell["row"] for cell in first] == ["full, one frame", "full, shuffled"]
    lines = (place / "cells.jsonl").read_text().splitlines(keepends=True)
    (place / "cells.jsonl").write_text(lines[0] + lines[1][:40])  # a stop in the middle of the second
    second = run()
    assert second[0] == first[0] and {**second[1], "seconds": 0} .keys() == first[1].keys()
    assert second[1]["accuracy"] == first[1]["accuracy"]


def test_the_table_by_hand() -> None:
    cells = [{"row": "full", "kind": "blink", "accuracy": value} for value in (0.6, 0.7, 0.8)]
    assert "| full | 0.700 ± 0.100 (0.600 to 0.800; n = 3) |" in markdown(cells, "row", "kind", "accuracy")
