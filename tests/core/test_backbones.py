"""The frozen ViT of its own, on the tiny CLIP tower."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from llava_face_plugin.encoders.backbones import FrozenVit, normalise, vision_config
from llava_face_plugin.errors import FaceConfigError

transformers = pytest.importorskip("transformers", reason="needs transformers' CLIP")


def test_reads_the_layer_before_the_last_without_the_class_token(tiny_base: Path) -> None:
    rgb = torch.rand(2, 3, 56, 56)
    found = FrozenVit(str(tiny_base / "clip"), -2)(rgb)
    model = transformers.CLIPVisionModel.from_pretrained(tiny_base / "clip").eval()
    processor = json.loads((tiny_base / "clip" / "preprocessor_config.json").read_text())
    mean, std = (torch.tensor(processor[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))
    with torch.no_grad():
        expected = model((rgb - mean) / std, output_hidden_states=True).hidden_states[-2][:, 1:]
    assert found.shape == (2, 16, 32) and not found.requires_grad
    torch.testing.assert_close(found, expected.to(found.dtype))


def test_a_map_of_another_size_is_resized_to_the_towers(tiny_base: Path) -> None:
    vit = FrozenVit(str(tiny_base / "clip"), -2)
    rgb = torch.rand(1, 3, 28, 28)
    doubled = rgb.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(vit(rgb), vit(doubled))


def test_copies_share_no_weights_and_it_is_no_module(tiny_base: Path) -> None:
    vit = FrozenVit(str(tiny_base / "clip"), -2)
    vit(torch.rand(1, 3, 56, 56))
    twin = copy.deepcopy(vit)
    assert not isinstance(vit, torch.nn.Module)
    assert (twin.name, twin.select_layer, twin._model) == (vit.name, -2, None)


def test_vision_config_is_the_towers_half(tiny_base: Path) -> None:
    assert vision_config(str(tiny_base / "clip")).hidden_size == 32


def test_what_is_no_vision_tower_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(FaceConfigError, match=r"vision_tower .* cannot be read"):
        vision_config(str(tmp_path))
    with pytest.raises(FaceConfigError, match="is a 'llama': use a CLIP or SigLIP"):
        FrozenVit(str(tiny_base), -2)(torch.rand(1, 3, 56, 56))


def test_normalise() -> None:
    rgb = torch.full((1, 3, 1, 1), 0.5)
    assert normalise(rgb, (0.5, 0.25, 0.0), (1.0, 0.5, 0.25)).flatten().tolist() == [0.0, 0.5, 2.0]
