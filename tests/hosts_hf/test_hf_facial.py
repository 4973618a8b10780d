"""A facial encoder and a mixture of experts in transformers' Llava families: pixels, weights by path, losses."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.labels import NO_MAP

from .tiny_hf import (
    FACE,
    FAMILIES,
    VIDEO_FAMILIES,
    batch,
    build,
    load,
    open_gates,
    some_attributes,
    switched_on,
    video_batch,
    without_maps,
)

pytestmark = pytest.mark.contract

family_wise = pytest.mark.parametrize("family", FAMILIES)


def opened(root: Path, family: str, encoder: str = "facial", fusion: str = "moe") -> Any:
    model = load(switched_on(family, root, encoder, fusion))
    open_gates(model)
    return model


def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


@family_wise
def test_the_encoder_sees_each_tiles_own_pixels(root: Path, family: str) -> None:
    """The tower is made blind: what another tile's pixels change has gone through the facial encoder."""
    model = opened(root, family, "part-embedding & facial")
    tower, seen = model.model.vision_tower, batch(family)
    plain = tower.forward
    tower.forward = lambda pixel_values, **kwargs: plain(torch.zeros_like(pixel_values), **kwargs)
    other = {**seen, "pixel_values": seen["pixel_values"].clone()}
    other["pixel_values"][(0,) if family == "llava" else (0, 1)][:3] += 0.5
    sizes = {} if family == "llava" else {"image_sizes": seen["image_sizes"]}
    with torch.no_grad():
        before, after = (
            list(getattr(out, "pooler_output", out))
            for out in (model.model.get_image_features(x["pixel_values"], **sizes) for x in (seen, other))
        )
    assert torch.equal(before[1], after[1]) and torch.equal(before[2], after[2])
    changed = (before[0] != after[0]).any(-1)
    if family == "llava":
        assert bool(changed.all())
    else:
        assert not bool(changed[:16].any()) and bool(changed[16:].any())  # the base tile came first


@pytest.mark.parametrize("encoder", ["facial", "facial-trained", "part-embedding & facial"])
@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_videos_and_images_in_a_batch(root: Path, family: str, encoder: str) -> None:
    plain, face = load(build(family, root / family)), load(switched_on(family, root, encoder, "moe"))
    inputs = video_batch(family, ("video", "image video"))
    rows = some_attributes(len(inputs["pixel_values"]) + len(inputs["pixel_values_videos"]))
    assert torch.equal(logits(face, inputs), logits(plain, without_maps(inputs)))
    with face.model.listen() as outputs:
        face.train()(**inputs, face_attributes=rows).loss.backward()
    assert {"balance", "router_z", "bce", "logic"} == outputs[0].face_losses.keys()
    assert all(parameter.grad is not None for name, parameter in face.named_parameters() if FACE in name)


@family_wise
@pytest.mark.parametrize("kind", ["no maps", "no labels", "neither"])
def test_batches_without_maps_or_labels_take_the_same_path(root: Path, family: str, kind: str) -> None:
    """Step 0, so that the loss is L_lm and the experts' balance, of a fresh router on whatever images there are."""
    model = load(switched_on(family, root, "part-embedding & facial", "moe")).train()
    inputs = batch(family)
    if kind != "no labels":
        inputs["pixel_values"][..., 3, :, :] = NO_MAP
    attributes = None if kind == "neither" else torch.full((3, 20), -1) if kind == "no labels" else some_attributes()
    with model.model.listen() as outputs:
        loss = model(**inputs, face_attributes=attributes).loss
    loss.backward()
    for name, parameter in model.named_parameters():
        if FACE in name:
            assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name
    parts = {name: value.item() for name, value in outputs[0].face_losses.items()}
    plain = load(build(family, root / family))
    with torch.no_grad():
        lm = plain(**without_maps(inputs)).loss.item()
    assert loss.item() == pytest.approx(lm + parts["bce"] + parts["logic"] + 0.01 * parts["balance"], abs=1e-5)
    assert parts["balance"] > 0.5 and (parts["bce"] > 0) == (kind == "no maps")


def test_in_evaluation_the_loss_is_the_language_models(root: Path) -> None:
    model, inputs = load(switched_on("llava", root, "facial", "moe", None)), batch("llava")
    expected = load(root / "llava")(**without_maps(inputs)).loss
    assert torch.equal(model(**inputs).loss, expected)


def test_dense_and_grouped_dispatch_agree(root: Path) -> None:
    dense, grouped = (opened(root, "llava", fusion=fusion) for fusion in ("moe", "moe/grouped"))
    assert torch.allclose(logits(dense, batch("llava")), logits(grouped, batch("llava")), atol=1e-5)


def test_a_frozen_encoders_weights_stay_in_their_own_file(root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    model = opened(root, "llava")
    expected = logits(model, batch("llava"))
    model.save_pretrained(tmp_path / "saved")
    with safe_open(tmp_path / "saved" / "model.safetensors", "pt") as stream:
        assert not any(".facial." in name for name in stream.keys())  # noqa: SIM118 (a file, not a dict)
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert Path(config["face"]["facial"]["path"]).is_absolute()
    monkeypatch.chdir(tmp_path)
    assert torch.equal(logits(load(tmp_path / "saved"), batch("llava")), expected)
    config["face"]["facial"]["path"] = str(tmp_path / "gone.pth")
    (tmp_path / "saved" / "config.json").write_text(json.dumps(config))
    moved = load(tmp_path / "saved")
    with pytest.raises(FaceDataError, match=r"gone\.pth"):
        logits(moved, batch("llava"))


def test_a_relative_path_is_written_as_an_absolute_one(root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from llava_face_plugin.switch import enable
    from tests.core.standin import FUSION_BLOCKS, facial_block

    shutil.copy(facial_block()["path"], tmp_path / "farl.pth")
    monkeypatch.chdir(tmp_path)
    block = {"facial": {**facial_block(), "path": "farl.pth"}, "fusion": FUSION_BLOCKS["moe"]}
    face = enable(build("llava", root / "llava"), preset="favchat", settings=block, out=tmp_path / "face")
    assert face.facial is not None and face.facial.path == str(tmp_path / "farl.pth")


def test_a_trained_encoder_starts_from_its_path_and_needs_it_no_more_once_saved(root: Path, tmp_path: Path) -> None:
    model = load(switched_on("llava", root, "facial-trained", "moe"))
    frozen = load(switched_on("llava", root, "facial", "moe")).model.multi_modal_projector.face.facial._frozen
    own = model.model.multi_modal_projector.face.facial.vit.state_dict()
    started = frozen._load(torch.device("cpu")).state_dict()
    assert own.keys() == started.keys() and all(torch.equal(own[name], value) for name, value in started.items())
    open_gates(model)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["face"]["facial"]["path"] = str(tmp_path / "gone.pth")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert torch.equal(logits(load(tmp_path), batch("llava")), logits(model, batch("llava")))


def test_a_copy_reads_the_frozen_weights_itself(root: Path) -> None:
    model = opened(root, "llava")
    expected = logits(model, batch("llava"))
    other = copy.deepcopy(model)
    assert other.model.multi_modal_projector.face.facial._frozen._model is None
    assert torch.equal(logits(other, batch("llava")), expected)
