"""The facial encoder under the branch: its pixels, its taps, and how it is held, frozen or trained."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from llava_face_plugin.branch import FaceBranch
from llava_face_plugin.config import FaceConfig
from llava_face_plugin.encoders.backbones import denormalise, normalise
from llava_face_plugin.encoders.facial import FacialEncoder, fitted
from llava_face_plugin.encoders.vit import VisionTransformer
from llava_face_plugin.encoders.vit_weights import load_weights
from llava_face_plugin.errors import FaceDataError, FaceHostError
from llava_face_plugin.facial_config import FacialConfig
from tests.core.standin import (
    LLM,
    VISION,
    branch,
    facial_block,
    features,
    maps,
    open_gates,
    pictures,
    projector,
    run,
    tiny_farl,
)

LIKE = torch.zeros(1)


def encoder(**changes: Any) -> FacialEncoder:
    return FacialEncoder(FacialConfig.model_validate(facial_block(**changes)))


def by_hand(config: FacialConfig, rgb: Tensor) -> list[Tensor]:
    """The taps of an image that has the encoder's size, each token at mean 0 and variance 1."""
    model = VisionTransformer(config.vit, config.grid, 3)
    model.load_state_dict(load_weights(config))
    channels = [(rgb[:, c] - config.mean[c]) / config.std[c] for c in range(3)]
    out = []
    for tap in model(torch.stack(channels, dim=1), config.taps):
        centred = tap - tap.mean(-1, keepdim=True)
        out.append(centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt())
    return out


def test_taps_of_an_image_of_the_encoders_size() -> None:
    made = encoder(mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7])
    rgb = pictures(2, size=12)
    found = made(rgb, 3, LIKE)
    assert found.shape == (2, 9, 2, 64) and not found.requires_grad
    for t, expected in enumerate(by_hand(made.config, rgb)):
        torch.testing.assert_close(found[:, :, t], expected, rtol=1e-4, atol=1e-4)


def test_taps_are_resampled_to_the_general_grid() -> None:
    made, rgb = encoder(), pictures(1, size=12)
    own, wider = made(rgb, 3, LIKE), made(rgb, 6, LIKE)
    image = own[:, :, 1].transpose(1, 2).unflatten(2, (3, 3))
    expected = F.interpolate(image, size=(6, 6), mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
    torch.testing.assert_close(wider[:, :, 1], expected)


def test_images_of_another_size_are_resized_without_aliasing() -> None:
    stripes = torch.zeros(1, 3, 48, 48)
    stripes[..., ::2] = 1.0  # finer than the smaller image can hold: gray
    smaller = fitted(stripes, 12)
    assert smaller.shape == (1, 3, 12, 12) and (smaller[..., 1:-1] - 0.5).abs().max() < 0.01
    rgb = pictures(1, size=12)
    assert fitted(rgb, 12) is rgb


def test_the_towers_normalisation_is_undone_and_the_encoders_own_applied() -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    rgb = pictures(2, size=12)
    torch.testing.assert_close(denormalise(normalise(rgb, mean, std), mean, std), rgb)
    half = denormalise(normalise(rgb, mean, std).bfloat16(), mean, std)
    assert half.dtype == torch.float32 and (half - rgb).abs().max() < 0.01
    assert denormalise(torch.full((1, 3, 2, 2), 99.0), mean, std).max() == 1.0
    made = encoder()
    torch.testing.assert_close(
        made(denormalise(normalise(rgb, mean, std), mean, std), 3, LIKE), made(rgb, 3, LIKE), rtol=1e-3, atol=1e-3
    )


def test_a_frozen_encoder_is_no_part_of_the_tree() -> None:
    face = branch("facial", {"type": "moe", "hidden": 8})
    run(face, projector(), features(2, 4), None)
    assert not [name for name, _ in face.named_parameters() if name.startswith("facial")]
    assert not [name for name in face.state_dict() if name.startswith("facial")]
    assert face.facial is not None and face.facial._frozen is not None
    assert face.facial._frozen._model is not None, "it was read at its first use"
    for twin in (copy.deepcopy(face), pickle.loads(pickle.dumps(face))):
        assert twin.facial._frozen._model is None, "copies read it again"


def test_nothing_is_read_before_the_first_forward(tmp_path: Path) -> None:
    made = encoder(path=str(tmp_path / "nowhere.pth"))
    with pytest.raises(FaceDataError, match="no such file"):
        made(pictures(1), 4, LIKE)
    trained = encoder(path=str(tmp_path / "nowhere.pth"), trained=True)
    assert trained(pictures(1), 4, LIKE).shape == (1, 16, 2, 64)
    with pytest.raises(FaceDataError, match="no such file"):
        trained.reset_parameters()


def test_a_trained_encoder_starts_from_its_path_and_is_the_frozen_one_then() -> None:
    made, rgb = encoder(trained=True), pictures(2)
    assert not torch.allclose(made(rgb, 4, LIKE), encoder()(rgb, 4, LIKE), atol=1e-2)
    made.reset_parameters()
    torch.testing.assert_close(made(rgb, 4, LIKE), encoder()(rgb, 4, LIKE))
    assert made.vit is not None and all(p.requires_grad for p in made.vit.parameters())


def test_a_trained_encoder_comes_back_from_the_checkpoint_alone(tmp_path: Path) -> None:
    """Its path may be gone: it is only where the training started."""
    face = branch("facial-trained", {"type": "moe", "hidden": 8})
    open_gates(face)
    block = face.config.to_dict()
    block["facial"]["path"] = str(tmp_path / "gone.pth")
    again = FaceBranch(FaceConfig.parse(block), VISION, LLM)
    again.load_state_dict(face.state_dict())
    plain, seen = projector(), features(2, 4)
    assert torch.equal(run(again, plain, seen, None), run(face, plain, seen, None))


def test_a_trained_encoder_without_a_path_starts_anew() -> None:
    made = encoder(trained=True, path=None)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(float("nan"))
    made.reset_parameters()
    assert all(p.isfinite().all() for p in made.parameters())
    assert made(pictures(1), 4, LIKE).isfinite().all()


def test_layer_scales_start_open() -> None:
    vit = {**facial_block()["vit"], "layer_scale": True, "registers": 2, "patch_bias": True, "class_token": False}
    made = encoder(trained=True, path=None, vit=vit)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(float("nan"))
    made.reset_parameters()
    scales = [p for name, p in made.named_parameters() if "scale_" in name]
    assert len(scales) == 6 and all((p == 1).all() for p in scales)
    made(pictures(1), 4, LIKE).square().sum().backward()


def test_training_changes_it_and_weights_behind_the_last_tap_do_not_exist() -> None:
    made = encoder(trained=True, taps=[0, 1])
    made.reset_parameters()
    taps = made(pictures(2), 4, LIKE)
    (taps * torch.randn(taps.shape)).sum().backward()
    assert [name for name, p in made.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_frozen_encoder_can_be_read_in_inference_mode_first() -> None:
    face, plain = branch("facial", {"type": "moe", "hidden": 8}), projector()
    with torch.inference_mode():
        run(face, plain, features(2, 4), None)
    run(face, plain, features(2, 4), None).sum().backward()


def test_without_pixels_the_host_is_told() -> None:
    with pytest.raises(FaceHostError, match="face.facial needs the image's pixels"):
        run(branch("facial", {}), projector(), features(2, 4), None, rgb=None)


@pytest.mark.parametrize("fusion", ["gated_add", "channel", "moe", "soft-gate", "text-query"])
def test_pixels_matter_once_the_gate_is_open(fusion: str) -> None:
    small: dict[str, dict[str, Any]] = {"moe": {"hidden": 8}, "soft-gate": {"hidden": 8, "width": 8}}
    small["text-query"] = {"width": 8, "heads": 2, "queries": 3}
    face, plain = branch("facial", {"type": fusion, **small.get(fusion, {})}), projector()
    open_gates(face)
    first, second = (run(face, plain, features(2, 4), None, rgb=pictures(2, seed=s)) for s in (1, 2))
    assert not torch.allclose(first, second)


def test_segmentation_and_facial_tokens_are_summed_for_plain_fusions() -> None:
    face, plain, seen = branch("part-embedding & facial", {}), projector(), features(2, 4)
    open_gates(face)
    given: list[Tensor] = []
    face.fusion.register_forward_pre_hook(lambda _, args: given.append(args[2].tokens))  # type: ignore[attr-defined]
    run(face, plain, seen, maps(2))
    assert face.segmentation is not None and face.facial is not None and face.adapter is not None
    expected = face.segmentation(maps(2), 4, None) + face.adapter(face.facial(pictures(2), 4, LIKE))
    torch.testing.assert_close(given[0], expected)


def test_the_map_is_not_read_without_a_segmentation_encoder() -> None:
    face, plain = branch("facial", {}), projector()
    open_gates(face)
    with_map, without = (run(face, plain, features(2, 4), m) for m in (maps(2), None))
    assert torch.equal(with_map, without)


def test_where_an_image_differs_the_taps_differ_most() -> None:
    """Of the first block, where a token has seen all others once."""
    made, rgb = encoder(taps=[0], size=16), torch.full((1, 3, 16, 16), 0.5)
    marked = rgb.clone()
    marked[..., 12:, :4] = 1.0
    change = (made(marked, 4, LIKE) - made(rgb, 4, LIKE)).norm(dim=-1)[0, :, 0]
    assert change.argmax() == 12


def test_farl_is_the_default_and_its_taps_are_farls_own() -> None:
    config = FacialConfig(path=tiny_farl())
    assert (config.encoder, config.taps, config.size, config.grid) == ("farl", [3, 5, 7, 11], 224, 14)
    vit = config.vit
    assert (vit.width, vit.depth, vit.heads, vit.hidden, vit.patch) == (768, 12, 12, 3072, 16)
    with torch.device("meta"):
        count = sum(p.numel() for p in VisionTransformer(vit, config.grid, 12).parameters())
    block = 4 * 768 * 769 + 769 * 3072 + 3073 * 768 + 4 * 768  # attention, two layers of the MLP, two norms
    assert count == 3 * 16 * 16 * 768 + 768 + 197 * 768 + 2 * 768 + 12 * block  # and patches, class, positions, norm
