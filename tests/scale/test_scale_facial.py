"""A facial encoder and a mixture of experts over two ranks, one of which at times has no map, no label, no image."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from .runs import Runs, Trained, logits
from .test_scale_hf import assert_close, of

pytestmark = pytest.mark.launch

RunsOf = Callable[[str, str], Runs]
GROUPED = ("part-embedding & facial-trained", "moe/grouped")
"""Balanced over images, so that the losses of two ranks are those of one process. An expert that no patch of a rank has
chosen runs there on none."""
FORMS = [GROUPED, ("facial", "moe/grouped"), ("facial-trained", "soft-gate"), ("part-embedding & facial", "text-query")]
ZERO = ("zero2", "zero3")
STRICT = {"ddp_find_unused_parameters": "False"}
"""For DDP, where transformers would have it True: no batch may leave a parameter out."""


def one(runs: Runs) -> Trained:
    """One process over the same batches: those of two ranks are two micro-batches."""
    return runs("ddp", "one", world=1, gradient_accumulation_steps=2, save_strategy="no")


def balance(run: Trained) -> list[float]:
    return [entry["loss_balance"] for entry in run.ranks[0]["log"] if "loss" in entry]


def check(runs: Runs, way: str) -> Trained:
    """Losses and weights are those of one process; all parameters moved, but for experts that at times had no patch."""
    expected, found = one(runs), runs(way, **STRICT)
    assert found.losses == pytest.approx(expected.losses, abs=2e-3)
    before = load_file(runs.start / "model.safetensors")
    unused = set.union(*(left for rank in found.ranks for left in rank["unused"]))
    for rank in found.ranks:
        assert_close(rank["face"], expected.face, atol=1e-4)
        still = [name for name, value in rank["face"].items() if torch.equal(value, of(before, name))]
        # What moves the weights of a query's norm is here below float32's resolution at 1.
        assert [name for name in still if not any(part in name for part in ("norm_query.weight", *unused))] == []
    return found


@pytest.mark.parametrize("way", ["ddp", *(pytest.param(way, marks=pytest.mark.scale) for way in (*ZERO, "fsdp2"))])
def test_two_ranks_train_as_one_process_does(runs_of: RunsOf, way: str) -> None:
    found = check(runs_of(*GROUPED), way)
    assert any(left for rank in found.ranks for left in rank["unused"]), "every rank's experts all had a patch"
    assert balance(found) == pytest.approx(balance(one(runs_of(*GROUPED))), abs=2e-4) and len(balance(found)) == 4
    assert any(".facial.vit." in name for name in found.face)


@pytest.mark.scale
@pytest.mark.parametrize("way", ["ddp", *ZERO])
@pytest.mark.parametrize("form", FORMS[1:], ids="+".join)
def test_so_does_every_other_form(runs_of: RunsOf, form: tuple[str, str], way: str) -> None:
    check(runs_of(*form), way)


@pytest.mark.scale
@pytest.mark.parametrize("way", ZERO)
@pytest.mark.parametrize("form", [GROUPED, ("part-embedding & facial", "text-query")], ids="+".join)
def test_saved_and_resumed(runs_of: RunsOf, probe: Path, form: tuple[str, str], way: str) -> None:
    runs = runs_of(*form)
    whole = runs(way, **STRICT)
    for rank in whole.ranks:
        assert torch.allclose(logits(whole.out, probe), rank["logits"], atol=1e-5)
    shutil.copytree(whole.out / "checkpoint-2", runs.root / f"{way}-resumed" / "checkpoint-2")
    resumed = runs(way, "resumed")
    assert_close(resumed.face, whole.face, atol=1e-6)
    assert resumed.losses == pytest.approx(whole.losses, abs=1e-4)


@pytest.mark.scale
@pytest.mark.parametrize("way", ZERO)
def test_accumulation_does_not_change_the_training(runs_of: RunsOf, way: str) -> None:
    runs = runs_of(*GROUPED)
    found = runs(way, "accumulated", batch=1, gradient_accumulation_steps=2, save_strategy="no")
    assert found.losses == pytest.approx(runs(way, **STRICT).losses, abs=2e-3)
    assert_close(found.face, runs(way, **STRICT).face, atol=1e-4)


@pytest.mark.scale
@pytest.mark.parametrize("way", ["ddp", *ZERO])
def test_a_fresh_branch_starts_from_the_facial_weights_on_every_rank(runs_of: RunsOf, way: str) -> None:
    """Under ZeRO-3 the branch is built in parts, and its trained encoder read into them."""
    from llava_face_plugin.config import FaceConfig
    from llava_face_plugin.encoders.vit_weights import load_weights
    from llava_face_plugin.model_files import read_config

    runs = runs_of(*GROUPED)
    fresh = runs.start.with_name("switched-on")
    found = runs(way, "fresh", model_name_or_path=fresh, max_steps=1, learning_rate=0.0, save_strategy="no")
    face = FaceConfig.of(read_config(fresh))
    assert face is not None and face.facial is not None
    expected = load_weights(face.facial)
    for rank in found.ranks:
        own = {name.partition(".facial.vit.")[2]: value for name, value in rank["face"].items() if ".vit." in name}
        assert own.keys() == expected.keys() and all(torch.equal(own[name], expected[name]) for name in own)
        assert_close(rank["face"], found.face, atol=0.0)
        assert not gate_of(rank["face"]).any()


def gate_of(face: dict[str, torch.Tensor]) -> torch.Tensor:
    return next(value for name, value in face.items() if name.endswith("fusion.gate"))
