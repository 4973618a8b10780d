"""Two ranks equal one: DDP, ZeRO and FSDP2 over transformers' Llava in face mode."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from .runs import Runs, Trained, logits

pytestmark = pytest.mark.launch

FACE = "multi_modal_projector.face."
VITAL = ("ddp", "zero2", "zero3_offload", "fsdp2")
OTHER = ("zero3", "zero2_offload")
WAYS = [*VITAL, *(pytest.param(way, marks=pytest.mark.scale) for way in OTHER)]


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], atol: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name].float(), value.float(), rtol=1e-3, atol=atol), name


@pytest.mark.parametrize("way", WAYS)
def test_two_ranks_train_as_one_process_does(runs: Runs, one: Trained, start: Path, way: str) -> None:
    found = runs(way)
    assert found.losses == pytest.approx(one.losses, abs=2e-3)
    before = load_file(start / "model.safetensors")
    for rank in found.ranks:
        assert_close(rank["face"], one.face, atol=1e-4)
        moved = {name: value for name, value in rank["face"].items() if not torch.equal(value, of(before, name))}
        assert moved.keys() == rank["face"].keys() and len(moved) > 10


def of(state: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """By the end of its name: checkpoints have another prefix than parameters."""
    return next(value for key, value in state.items() if key.endswith(name.partition(FACE)[2]) and FACE in key)


@pytest.mark.parametrize("way", WAYS)
def test_the_saved_checkpoint_is_the_model(runs: Runs, probe: Path, way: str) -> None:
    found = runs(way)
    for rank in found.ranks:
        assert torch.allclose(logits(found.out, probe), rank["logits"], atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_resumed_equals_uninterrupted(runs: Runs, way: str) -> None:
    whole = runs(way)
    stopped = runs.root / f"{way}-resumed"
    shutil.copytree(whole.out / "checkpoint-2", stopped / "checkpoint-2")
    resumed = runs(way, "resumed")
    assert_close(resumed.face, whole.face, atol=1e-6)
    assert resumed.losses == pytest.approx(whole.losses, abs=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_accumulation_does_not_change_the_training(runs: Runs, way: str) -> None:
    found = runs(way, "accumulated", batch=1, gradient_accumulation_steps=2, save_strategy="no")
    assert found.losses == pytest.approx(runs(way).losses, abs=2e-3)
    assert_close(found.face, runs(way).face, atol=1e-4)


def test_ddp_trains_where_a_rank_has_no_image(runs: Runs, one: Trained) -> None:
    """Sharded ways need the recipe's blank image (docs/scale.md); DDP needs nothing, and its log must not wait."""
    found = runs("ddp", "imageless", env={"WITHOUT_BLANKS": "1"}, save_strategy="no")
    assert found.losses == pytest.approx(one.losses, abs=2e-3)
