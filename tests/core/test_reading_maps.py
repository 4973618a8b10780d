"""Histograms of parts per patch, colours and resampling, against independent forms."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch

from llava_face_plugin.constants import Constants
from llava_face_plugin.encoders import VitPalette
from llava_face_plugin.encoders.base import resample
from llava_face_plugin.encoders.part_embedding import part_histograms
from llava_face_plugin.labels import PALETTE
from tests.core.standin import HAIR, config


def histograms_by_loop(labels: np.ndarray, grid: int, cells: int) -> np.ndarray:
    """Pixel by pixel: pixel y of H lies in the cell of floor(y * grid * cells / H)."""
    height, width = labels.shape
    out = np.zeros((grid * grid, cells * cells, 20))
    for y in range(height):
        for x in range(width):
            row, column = math.floor(y * grid * cells / height), math.floor(x * grid * cells / width)
            patch = (row // cells) * grid + column // cells
            cell = (row % cells) * cells + column % cells
            part = labels[y, x] if labels[y, x] < 19 else 19
            out[patch, cell, part] += 1
    total = out.sum(axis=-1, keepdims=True)
    return np.divide(out, total, out=np.zeros_like(out), where=total > 0).reshape(grid * grid, -1)


@pytest.mark.parametrize(
    ("height", "width", "grid", "cells"),
    [(12, 12, 3, 2), (13, 13, 3, 2), (30, 41, 4, 2), (17, 29, 5, 1), (5, 7, 4, 2), (23, 23, 2, 3)],
)
def test_part_histograms_are_those_of_a_loop(height: int, width: int, grid: int, cells: int) -> None:
    rng = np.random.default_rng(height * width)
    labels = rng.choice([*range(19), 255, 77], size=(2, height, width))
    found = part_histograms(torch.from_numpy(labels), grid, cells)
    assert found.dtype == torch.float32
    expected = np.stack([histograms_by_loop(one, grid, cells) for one in labels])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_hair_on_the_left_fills_the_cells_on_the_left_only() -> None:
    labels = torch.ones(1, 24, 24)
    labels[:, :, :12] = HAIR
    found = part_histograms(labels, grid=4, cells=1).view(4, 4, 20)
    hair, skin = found[..., HAIR], found[..., 1]
    assert hair.tolist() == [[1, 1, 0, 0]] * 4
    assert skin.tolist() == [[0, 0, 1, 1]] * 4
    assert found.sum() == 16


def test_moving_a_part_by_a_patch_moves_its_histogram_by_a_patch() -> None:
    labels = torch.ones(1, 24, 24)
    labels[:, 1:5, 2:6] = HAIR
    before = part_histograms(labels, 4, 2).view(4, 4, -1)
    after = part_histograms(labels.roll((6, 12), dims=(1, 2)), 4, 2).view(4, 4, -1)
    assert not torch.equal(before, after)
    assert torch.equal(before.roll((1, 2), dims=(0, 1)), after)


def test_palette_paints_every_part_in_its_colour() -> None:
    encoder = VitPalette(config("vit-palette", {}).segmentation, 4, 4)
    painted = encoder.paint(torch.tensor([[[*map(float, range(19)), 255.0]]]))
    assert painted.shape == (1, 3, 1, 20) and painted.dtype == torch.float32
    np.testing.assert_allclose(painted[0, :, 0, :19].T.numpy() * 255, PALETTE, atol=1e-4)
    seen = {tuple(colour) for colour in painted[0, :, 0].T.tolist()}
    assert len(seen) == 20, "no map has a colour of its own"


def test_resample_keeps_equal_grids_and_interpolates_others() -> None:
    tokens = torch.randn(2, 9, 5)
    assert resample(tokens, 3) is tokens
    ramp = torch.tensor([0.0, 1.0, 0.0, 1.0]).view(1, 4, 1).to(torch.bfloat16)
    wider = resample(ramp, 4)
    assert wider.dtype == torch.bfloat16
    assert wider.view(4, 4)[0].tolist() == [0, 0.25, 0.75, 1]


def test_vit_palette_without_a_vit_says_so() -> None:
    encoder = VitPalette(config("vit-palette", {}).segmentation, 4, 4)
    with pytest.raises(ValueError, match="needs the host's ViT"):
        encoder(torch.zeros(1, 8, 8), 2, None)


def test_constants_are_cached_by_place_and_copy_as_empty() -> None:
    cache, cpu = Constants(), torch.device("cpu")
    first = cache.get("a", [[1, 2]], cpu, torch.float32)
    assert first.tolist() == [[1, 2]] and cache.get("a", [[1, 2]], cpu, torch.float32) is first
    assert cache.get("a", [[1, 2]], cpu, torch.int64).dtype == torch.int64
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(cache, protocol))._tensors == {}
    assert copy.deepcopy(cache)._tensors == {} and len(cache._tensors) == 2
