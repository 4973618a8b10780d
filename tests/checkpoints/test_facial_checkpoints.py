"""Adapter and conversion with FaVChat's parts: experts, prompt-reading fusions, a facial encoder frozen or trained."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_models import asked_hf, asked_v1, llava_v1, load_hf, load_v1, question
from safetensors.torch import load_file

from llava_face_plugin.checkpoints import FaceAdapter, apply_adapter, convert, load_adapter, save_adapter
from llava_face_plugin.config import FaceConfig
from llava_face_plugin.errors import FaceConfigError, FaceDataError
from llava_face_plugin.model_files import read_config, write_config
from tests.core.standin import facial_block, farl_state, tiny_farl
from tests.hosts_hf import tiny_hf

pytestmark = pytest.mark.contract

TEXT_QUERY = {"type": "text-query", "width": 8, "heads": 2, "queries": 3}
CASES: dict[str, dict[str, Any]] = {
    "moe": {"fusion": {"type": "moe", "hidden": 8}},
    "grouped, with maps": {
        "fusion": {"type": "moe", "hidden": 8, "dispatch": "grouped"}, "segmentation": {"encoder": "part-embedding"},
    },
    "text-query": {"fusion": TEXT_QUERY},
    "soft-gate": {"fusion": {"type": "soft-gate", "hidden": 8, "width": 8}},
    "trained": {"fusion": {"type": "moe", "hidden": 8}, "trained": True},
}  # fmt: skip


def settings(case: str) -> dict[str, Any]:
    made = {"segmentation": {"encoder": None}, **CASES[case]}
    trained = made.pop("trained", False)
    return {**made, "facial": facial_block(trained=trained)}


def face_weights(path: Path) -> dict[str, torch.Tensor]:
    """The branch's tensors in a checkpoint's one file, by their names in it."""
    held = load_file(path / "model.safetensors")
    return {name.partition("projector.face.")[2]: t for name, t in held.items() if "projector.face." in name}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("case", CASES)
def test_there_and_back_on_both_hosts(tiny_base: Path, tmp_path: Path, case: str) -> None:
    first, second, third = tmp_path / "llava-a", tmp_path / "b-hf", tmp_path / "llava-c"
    llava_v1(tiny_base, first, {"settings": settings(case)})
    assert convert(first, second, "hf").notes[1:] == []  # the first is about the vocabulary
    convert(second, third, "llava")
    weights = face_weights(first)
    assert same(weights, face_weights(second)) and same(weights, face_weights(third))
    assert any(name.startswith("facial.vit.") for name in weights) == (case == "trained")
    faces = [FaceConfig.of(read_config(path)) for path in (first, second, third)]
    assert faces[0] == faces[1] == faces[2]
    ids, pixels = question()
    expected = asked_v1(load_v1(first), ids, pixels)
    assert torch.equal(asked_v1(load_v1(third), ids, pixels), expected)
    found = asked_hf(load_hf(second), ids, pixels, 16)[:, : expected.shape[1]]
    assert torch.allclose(found, expected, atol=1e-5, rtol=0)
    assert not torch.allclose(asked_v1(load_v1(first), ids, pixels.flip(-1)), expected, atol=1e-3)
    # The adapter of one host is that of the other.
    save_adapter(first, tmp_path / "a.safetensors")
    save_adapter(second, tmp_path / "b.safetensors")
    adapters = [FaceAdapter.read(tmp_path / f"{name}.safetensors") for name in "ab"]
    assert same(adapters[0].tensors, weights) and same(adapters[1].tensors, weights)
    assert adapters[0].facial_sha256 == adapters[1].facial_sha256
    assert bool(adapters[0].facial_sha256) == (case != "trained")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("facial-adapter")
    tiny_hf.build("llava", folder / "plain")
    shutil.copyfile(tiny_farl(), folder / "farl.pth")
    return folder


def trained(root: Path, name: str, **changes: Any) -> Path:
    """A trained Llava of transformers whose weights come from ``farl.pth`` beside it."""
    from llava_face_plugin.switch import enable

    out, start = root / name, root / f"{name}-start"
    if not out.exists():
        block = facial_block(path=str(root / "farl.pth"), **changes)
        made = {"segmentation": {"encoder": None}, "facial": block, "fusion": {"type": "moe", "hidden": 8}}
        enable(root / "plain", settings=made, out=start)
        model = tiny_hf.load(start)
        tiny_hf.open_gates(model)
        model.save_pretrained(out)
    return out


def logits(path: Path) -> torch.Tensor:
    with torch.no_grad():
        return tiny_hf.load(path)(**tiny_hf.batch("llava")).logits


@pytest.fixture
def elsewhere(root: Path) -> Iterator[Path]:
    """As on another machine: the weights lie there instead, as long as the test lasts."""
    other = root / "elsewhere.pth"
    yield other
    if other.exists():
        other.rename(root / "farl.pth")


def test_a_frozen_encoder_is_no_part_of_the_file_and_its_absence_is_said(
    root: Path, elsewhere: Path, tmp_path: Path
) -> None:
    source = trained(root, "frozen")
    written = save_adapter(source, tmp_path / "face.safetensors")
    assert not any(name.startswith("facial") for name in written.tensors) and len(written.facial_sha256) == 64
    expected = logits(source)
    (root / "farl.pth").rename(elsewhere)
    done = apply_adapter(tmp_path / "face.safetensors", root / "plain", tmp_path / "absent")
    assert len(done.notes) == 1 and f"not here: weights {root}/farl.pth: no such file" in done.notes[0]
    done = apply_adapter(tmp_path / "face.safetensors", root / "plain", tmp_path / "out", facial=elsewhere)
    assert done.notes == [] and done.face.facial is not None and done.face.facial.path == str(elsewhere)
    assert torch.equal(logits(tmp_path / "out"), expected)
    assert "not here" in convert_notes(root, source, tmp_path)[-1]
    assert save_adapter(source, tmp_path / "unchecked.safetensors").facial_sha256 == ""


def convert_notes(root: Path, source: Path, tmp_path: Path) -> list[str]:
    whole = tmp_path / "whole"
    shutil.copytree(root / "plain", whole)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(source / name, whole / name)
    return convert(whole, tmp_path / "llava-converted", "llava").notes


def test_other_weights_of_the_same_shape_are_refused(root: Path, tmp_path: Path) -> None:
    source = trained(root, "frozen")
    save_adapter(source, tmp_path / "face.safetensors")
    state = farl_state()
    state["visual.ln_pre.bias"] = state["visual.ln_pre.bias"] + 1
    torch.save({"state_dict": state}, tmp_path / "other.pth")
    with pytest.raises(FaceDataError, match="not those that the adapter's branch was trained with"):
        apply_adapter(tmp_path / "face.safetensors", root / "plain", tmp_path / "out", facial=tmp_path / "other.pth")
    assert not (tmp_path / "out").exists()
    config = read_config(root / "frozen-start")
    folder = tmp_path / "live"
    shutil.copytree(root / "plain", folder)
    config["face"]["facial"]["path"] = str(tmp_path / "other.pth")
    write_config(folder, config)
    with pytest.raises(FaceDataError, match="not those that the adapter's branch was trained with"):
        load_adapter(tiny_hf.load(folder), tmp_path / "face.safetensors")


def test_a_trained_encoder_travels_in_the_file(root: Path, elsewhere: Path, tmp_path: Path) -> None:
    source = trained(root, "trained", trained=True)
    written = save_adapter(source, tmp_path / "face.safetensors")
    assert written.facial_sha256 == "" and any(name.startswith("facial.vit.") for name in written.tensors)
    expected = logits(source)
    (root / "farl.pth").rename(elsewhere)
    assert apply_adapter(tmp_path / "face.safetensors", root / "plain", tmp_path / "out").notes == []
    assert torch.equal(logits(tmp_path / "out"), expected)
    with pytest.raises(FaceConfigError, match="this adapter has none"):
        apply_adapter(tmp_path / "face.safetensors", root / "plain", tmp_path / "again", facial=elsewhere)


def test_a_model_in_memory_must_have_the_same_encoder(root: Path, tmp_path: Path) -> None:
    source = trained(root, "frozen")
    save_adapter(source, tmp_path / "face.safetensors")
    live = tiny_hf.load(root / "frozen-start")
    load_adapter(live, tmp_path / "face.safetensors")
    with torch.no_grad():
        assert torch.equal(live(**tiny_hf.batch("llava")).logits, logits(source))
    trained(root, "one-tap", taps=[0, 1])
    with pytest.raises(FaceConfigError, match=r"facial\.taps differ"):
        load_adapter(tiny_hf.load(root / "one-tap-start"), tmp_path / "face.safetensors")


def test_a_tower_of_unusual_pixels_is_refused(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "unusual"
    shutil.copytree(root / "plain", source)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(trained(root, "frozen") / name, source / name)
    name = "preprocessor_config.json" if (source / "preprocessor_config.json").exists() else "processor_config.json"
    config = read_config(source, name)
    (config if "image_mean" in config else config["image_processor"])["image_mean"] = [0.1, 0.2, 0.3]
    write_config(source, config, name)
    with pytest.raises(FaceConfigError, match="the facial encoder is given pixels by the usual image_mean"):
        convert(source, tmp_path / "llava-out", "llava")
