"""scripts/experiments on clips: what each variant is, a step of each, and an experiment that goes on after a stop."""

from __future__ import annotations

import itertools
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer

sys.path.append(str(Path(__file__).parents[2] / "scripts" / "experiments"))

import clips as experiment
from clip_model import (
    ByPixels,
    Recipe,
    build,
    build_base,
    event_task,
    frame_tokens,
    inputs_of,
    last_logits,
    state_task,
)
from facial_standin import TAPS, VIT, standin
from made_frames import SIDE, STATES, Clips, clips_of
from table import markdown, read_cells
from training import balanced_accuracy, learn_events, learn_states
from variants import VARIANTS, face_block

from llava_face_plugin.config import FaceConfig

RECIPE = Recipe(
    hidden=16, layers=1, vision_hidden=16, expert=8, first_steps=2, first_batch=2, first_rate=1e-2, steps=1, batch=2
)
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
def base(place: Path) -> Path:
    return build_base(place / "model", RECIPE, SEED).parent


@pytest.fixture
def plain(base: Path, tmp_path: Path) -> Path:
    """A copy with room for what is switched on beside it."""
    return Path(shutil.copytree(base, tmp_path / "model")) / "plain"


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
    closed = STATES["blink"].index("closed")
    for clip, state in zip(drawn.pixels, drawn.state, strict=True):  # two frames with closed eyes, the others alike
        assert (state == closed).sum() == 2
        assert [len(np.unique(clip[state == value], axis=0)) for value in (0, 1)] == [1, 1]
    again = clips_of("blink", 4, 1, FRAMES, place / "drawn")
    assert all(np.array_equal(a, b) for a, b in zip(again, drawn, strict=True))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_of_each_stage(name: str, plain: Path, facial: dict[str, Any], drawn: Clips) -> None:
    model = build(VARIANTS[name], plain, facial, RECIPE, SEED, ByPixels())
    values = [{key: value.clone() for key, value in model.state_dict().items()}]
    losses = learn_states(model, drawn, state_task("blink", plain.parent / "parts"), RECIPE, SEED)
    values.append({key: value.clone() for key, value in model.state_dict().items()})
    tokens, task = frame_tokens(model, drawn, RECIPE), event_task("blink", plain.parent / "parts")
    losses += learn_events(model, tokens, drawn.which, task, RECIPE, SEED)
    values.append(model.state_dict())
    assert len(losses) == 3 and np.isfinite(losses).all()
    first, second = (
        {key for key, value in after.items() if not torch.equal(value, before[key])}
        for before, after in itertools.pairwise(values)
    )
    assert not any("vision_tower" in key for key in first | second)
    assert ("model.multi_modal_projector.face.fusion.gate" in first) == (name != "off")
    assert second and all("language_model" in key or "lm_head" in key for key in second)


def test_stored_tokens_give_the_logits_of_the_pixels(plain: Path, facial: dict[str, Any], drawn: Clips) -> None:
    model = build(VARIANTS["full"], plain, facial, RECIPE, SEED, ByPixels()).eval()
    task = event_task("blink", plain.parent / "parts")
    with torch.no_grad():
        model.model.multi_modal_projector.face.fusion.gate.fill_(1.0)
        wanted = model(**inputs_of(drawn.pixels, task, RECIPE)).logits[:, -1]
        found = last_logits(model, frame_tokens(model, drawn, RECIPE), task)
        swapped = last_logits(model, frame_tokens(model, drawn, RECIPE).flip(1), task)
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(swapped, wanted)


@pytest.mark.parametrize("name, reads", [("full", True), ("facial only", False), ("general only", True)])
def test_whether_the_tower_is_read(name: str, reads: bool, plain: Path, facial: dict[str, Any], drawn: Clips) -> None:
    model = build(VARIANTS[name], plain, facial, RECIPE, SEED, ByPixels())
    with torch.no_grad():
        model.model.multi_modal_projector.face.fusion.gate.fill_(1.0)
        before = frame_tokens(model, drawn, RECIPE)
        for parameter in model.model.vision_tower.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
        assert torch.equal(before, frame_tokens(model, drawn, RECIPE)) != reads


def test_what_is_remembered_is_what_is_computed(plain: Path, facial: dict[str, Any]) -> None:
    model = build(VARIANTS["full"], plain, facial, RECIPE, SEED, ByPixels())
    encoder = model.model.multi_modal_projector.face.facial
    rgb = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    like = torch.zeros(1)
    remembered = [encoder.forward(rgb[order], 4, like=like) for order in ([0, 1], [2, 1, 0])]
    computed = type(encoder).forward(encoder, rgb, 4, like=like)
    assert computed.shape == (3, 16, len(TAPS), VIT.width)
    torch.testing.assert_close(remembered[0], computed[:2])
    torch.testing.assert_close(remembered[1], computed[[2, 1, 0]])


def test_controls_take_the_order_away() -> None:
    clips = torch.arange(5 * FRAMES).view(5, FRAMES, 1)
    one = experiment.as_shown(clips, experiment.ONE, 0)
    assert torch.equal(one, clips[:, FRAMES // 2 : FRAMES // 2 + 1].expand(5, FRAMES, 1))
    shuffled = experiment.as_shown(clips, experiment.SHUFFLED, 0)
    assert torch.equal(shuffled.sort(dim=1).values, clips)
    orders = {tuple((mixed - clip[0]).flatten().tolist()) for clip, mixed in zip(clips, shuffled, strict=True)}
    assert len(orders) == 5  # each clip in an order of its own


def test_a_model_that_always_says_the_same_scores_a_half(plain: Path, facial: dict[str, Any], drawn: Clips) -> None:
    model = build(VARIANTS["off"], plain, facial, RECIPE, SEED, ByPixels())
    task = event_task("blink", plain.parent / "parts")
    with torch.no_grad():
        model.lm_head.weight[[answer[0] for answer in task.answers]] = 0.0
    assert balanced_accuracy(model, frame_tokens(model, drawn, RECIPE), drawn.which, task) == 0.5


def test_it_goes_on_where_it_stopped(place: Path, facial: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "CONTROLS", {"full": experiment.CONTROLS["full"][:2]})
    monkeypatch.setattr(experiment, "VARIANTS", {"full": VARIANTS["full"]})
    monkeypatch.setattr(experiment, "RECIPE", RECIPE)
    path = place / "cells.jsonl"

    def run(stills: int = 4) -> list[dict[str, Any]]:
        same = {"clips": 4, "held_out": 4, "first_steps": 1, "steps": 1, "facial_steps": 1}
        experiment.main(place, ["blink"], 1, **same, stills=stills)  # type: ignore[arg-type]
        return read_cells(path)

    first = run()
    assert [cell["row"] for cell in first] == ["full", "full, one frame"]
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1][:40])  # a stop in the middle of the second
    assert [cell["row"] for cell in read_cells(path)] == ["full"]
    second = run()
    assert second[0] == first[0]
    assert (second[1]["row"], second[1]["loss"]) == (first[1]["row"], first[1]["loss"])
    with pytest.raises(typer.BadParameter, match="were made with stills 4, not 5"):
        run(stills=5)
    path.with_suffix(".settings.json").unlink()  # cells from before it was kept
    assert run(stills=5) == second and not path.with_suffix(".settings.json").exists()


def test_the_table_by_hand() -> None:
    cells = [{"row": "full", "kind": "blink", "accuracy": value} for value in (0.6, 0.7, 0.8)]
    assert "| full | 0.700 ± 0.100 (0.600 to 0.800; n = 3) |" in markdown(cells, "row", "kind", "accuracy")
