"""Plans with FaVChat's parts: the facial encoder, experts dense and grouped, fusions that read the prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from planned_shapes import HIDDEN, PATCHES, VISION_HIDDEN, small, work
from test_plan_tracing import check_against_real_tensors
from typer.testing import CliRunner

from llava_face_plugin.branch import FaceBranch
from llava_face_plugin.cli.main import app
from llava_face_plugin.config import FaceConfig, merged
from llava_face_plugin.errors import FaceConfigError
from llava_face_plugin.planning import memory as m
from llava_face_plugin.planning import skeleton as parts
from llava_face_plugin.planning.branches import branch_of
from llava_face_plugin.planning.face import of_preset
from llava_face_plugin.planning.memory import memory
from llava_face_plugin.planning.tokens import Visual
from llava_face_plugin.planning.tracing import BACKWARD, Traced, trace
from llava_face_plugin.planning.work import Spread

pytest.importorskip("transformers")

WIDTH, INNER, SIDE, PATCH, TAPS, DEPTH, EXPERT = 64, 96, 32, 8, 2, 3, 24
FACIAL = {
    "taps": [0, 2], "size": SIDE, "width": 16,
    "vit": {"width": WIDTH, "depth": DEPTH, "heads": 2, "hidden": INNER, "patch": PATCH},
}  # fmt: skip
MOE: dict[str, Any] = {"facial": FACIAL, "fusion": {"hidden": EXPERT}}
GROUPED = merged(MOE, {"fusion": {"dispatch": "grouped"}})
TEXT = {"facial": FACIAL, "fusion": {"width": 16, "heads": 2, "queries": 3}}


def favchat(settings: dict[str, Any] = MOE, **facial: Any) -> FaceConfig:
    return of_preset("favchat-v6" if settings is TEXT else "favchat", settings=merged(settings, {"facial": facial}))


def encoder_parameters() -> int:
    block = 4 * WIDTH**2 + 4 * WIDTH + 2 * WIDTH * INNER + INNER + WIDTH + 4 * WIDTH  # attention, MLP, two norms
    grid = (SIDE // PATCH) ** 2
    return 3 * PATCH**2 * WIDTH + WIDTH + (1 + grid) * WIDTH + 2 * WIDTH + DEPTH * block


@pytest.fixture(scope="module")
def traces() -> dict[str, Traced]:
    faces = {"off": None, "dense": favchat(), "grouped": favchat(GROUPED), "trained": favchat(trained=True)}
    return {name: trace(small(), work(), face) for name, face in faces.items()}


@pytest.mark.parametrize(
    "changes", [{"checkpointing": True}, {"stage": "pretrain", "dtype": "bf16", "visual": Visual(3, 40)}], ids=str
)
@pytest.mark.parametrize("case", ["frozen", "trained", "grouped", "prompt", "both papers"])
def test_shapes_alone_take_what_real_tensors_take(changes: dict[str, Any], case: str) -> None:
    both = merged(MOE, {"segmentation": {"encoder": "vit-palette"}})
    faces = {
        "frozen": favchat(), "trained": favchat(trained=True), "grouped": favchat(GROUPED), "prompt": favchat(TEXT),
        "both papers": favchat(both),
    }  # fmt: skip
    check_against_real_tensors(work(**changes), faces[case])


def test_parameters_by_hand(traces: dict[str, Traced]) -> None:
    frozen, trained = traces["dense"], traces["trained"]
    assert (frozen.trained[parts.FACIAL], frozen.frozen[parts.FACIAL]) == (0, encoder_parameters())
    assert (trained.trained[parts.FACIAL], trained.frozen[parts.FACIAL]) == (encoder_parameters(), 0)
    z = VISION_HIDDEN + TAPS * WIDTH
    experts = 4 * (z * EXPERT + EXPERT + EXPERT * HIDDEN + HIDDEN)
    for found in (frozen, trained):
        assert found.trained[parts.FACE] == experts + 4 * z + HIDDEN and found.frozen[parts.FACE] == 0
        assert found.llm_tokens == PATCHES + 8


def test_flops_by_hand(traces: dict[str, Traced]) -> None:
    images, z, grid = 2, VISION_HIDDEN + TAPS * WIDTH, (SIDE // PATCH) ** 2
    plain, dense, grouped = traces["off"], traces["dense"], traces["grouped"]
    tokens = 1 + grid
    block = 2 * tokens * (4 * WIDTH**2 + 2 * WIDTH * INNER) + 4 * tokens**2 * WIDTH
    encoder = images * (2 * grid * 3 * PATCH**2 * WIDTH + DEPTH * block)
    assert dense.flops[parts.FACIAL] == grouped.flops[parts.FACIAL] == encoder
    router, expert = 2 * images * PATCHES * z * 4, 2 * images * PATCHES * (z * EXPERT + EXPERT * HIDDEN)
    assert dense.flops[parts.PROJECTION] - plain.flops[parts.PROJECTION] == router + 4 * expert
    assert grouped.flops[parts.PROJECTION] - plain.flops[parts.PROJECTION] == router + 2 * expert
    # Backward: weights of both layers and what is between them; z comes from frozen parts.
    back = 2 * images * PATCHES * (z * EXPERT + 2 * EXPERT * HIDDEN)
    assert dense.flops[BACKWARD] - plain.flops[BACKWARD] == router + 4 * back
    assert grouped.flops[BACKWARD] - plain.flops[BACKWARD] == router + 2 * back
    assert traces["trained"].flops[BACKWARD] > dense.flops[BACKWARD] + encoder


@pytest.mark.parametrize(("gpus", "zero", "share"), [(8, 3, 8), (8, 2, 1), (1, 0, 1)])
def test_no_zero_partitions_a_frozen_encoder(traces: dict[str, Traced], gpus: int, zero: int, share: int) -> None:
    spread, size = Spread(gpus, zero), 4
    on, off = (memory(traces[name], work(), spread, small().text).moments[0].parts for name in ("dense", "off"))
    expected = encoder_parameters() * size + traces["dense"].trained[parts.FACE] * size // share
    assert abs(on[m.WEIGHTS] - off[m.WEIGHTS] - expected) <= size  # whole bytes a GPU
    taught = memory(traces["trained"], work(), Spread(8, 2), small().text).moments[0].parts
    assert taught[m.OPTIMIZER] == sum(traces["trained"].trained.values()) * 12 // 8


def test_a_frozen_encoder_keeps_no_activations(traces: dict[str, Traced]) -> None:
    blocks = 2 * DEPTH * (1 + (SIDE // PATCH) ** 2) * WIDTH * 4  # of two images, one tensor a block
    assert traces["trained"].alive[parts.FACIAL] - traces["dense"].alive[parts.FACIAL] > blocks


def test_a_prompt_costs_by_its_length() -> None:
    short, long = (trace(small(), work(text=text), favchat(TEXT)) for text in (8, 80))
    read = 2 * 2 * HIDDEN * 16  # two samples, a token narrowed to 16
    assert long.flops[parts.PROJECTION] - short.flops[parts.PROJECTION] > 72 * read


def test_favchat_at_7b_stays_under_100_million() -> None:
    # As in docs/method.md: FaRL ViT-B/16 frozen, experts of 4096 -> 1024 -> 4096
    with torch.device("meta"):
        moe, query = (branch_of(of_preset(preset), 1024, 4096) for preset in ("favchat", "favchat-v6"))

    def size(branch: FaceBranch, trained: bool) -> int:
        return sum(p.numel() for p in branch.parameters() if p.requires_grad == trained)

    assert size(moe, False) == size(query, False) == 85_797_888
    assert size(moe, True) == 4 * (4096 * 1024 + 1024 + 1024 * 4096 + 4096) + 4 * 4096 + 4096
    assert size(query, True) < 100_000_000


def test_the_command_takes_presets_and_settings(tmp_path: Path) -> None:
    config = {"model_type": "llava", "text_config": dict(small().text), "vision_config": dict(small().vision)}
    (tmp_path / "config.json").write_text(json.dumps(config))
    run = CliRunner()
    asked = ["plan", str(tmp_path), "--preset", "favchat", "--batch", "1", "--seq-len", "32"]
    result = run.invoke(app, [*asked, "--json", "--set", "fusion.dispatch=grouped", "--set", "facial.trained=true"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["face"]["fusion"]["dispatch"] == "grouped" and found["face"]["facial"]["trained"]
    assert found["on"]["traced"]["trained"]["facial encoder"] == 85_797_888
    said = run.invoke(app, asked).stdout
    assert "face mode: facial encoder farl, moe, 2 of 4 experts a patch, dense dispatch, no knowledge" in said
    with pytest.raises(FaceConfigError, match="give --preset too"):
        run.invoke(app, ["plan", "--model", "7b", "--set", "fusion.type=channel"], catch_exceptions=False)
    with pytest.raises(FaceConfigError, match=r"face.facial: size 230 is no multiple"):
        run.invoke(app, [*asked, "--set", "facial.size=230"], catch_exceptions=False)
