"""Crops and the way back: exact where exactness is possible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from llava_face_plugin.labels import NUM_PARTS
from llava_face_plugin.maps.overlay import paint
from llava_face_plugin.parsing import geometry
from llava_face_plugin.parsing.geometry import (
    CELEBA_HQ_POINTS,
    TILE,
    affine_grid,
    box_square,
    celeba_hq,
    celebm,
    crop,
    letterbox,
    paste,
    usable,
    window,
)
from tests.parsing.standins import ColourNetwork, drawn_face, import_facer, placed_points

ALL = tuple(range(NUM_PARTS))


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def grid_of(matrix: np.ndarray, side: int) -> geometry.Grid:
    return lambda x0, y0, tile, device: affine_grid(matrix, side, x0, y0, tile).to(device)


def turned(points: np.ndarray, degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)) * scale, np.sin(np.radians(degrees)) * scale
    return points @ np.array([[c, s], [-s, c]]) + shift


def test_letterbox_keeps_the_aspect() -> None:
    corners = np.array([[0, 0], [200, 0], [0, 100], [200, 100]], dtype=float)
    assert np.allclose(apply(letterbox((200, 100), 64), corners), [[0, 16], [64, 16], [0, 48], [64, 48]])


def test_box_square_is_centred_and_square() -> None:
    matrix = box_square((100, 50, 140, 130), 64)
    assert np.allclose(apply(matrix, np.array([[120.0, 90.0]])), 32)
    assert np.isclose(matrix[0, 0], 64 / (geometry.BOX_FACTOR * 80)) and np.isclose(matrix[0, 1], 0)


@pytest.mark.parametrize("degrees", [0, 30, -90, 175])
def test_celeba_hq_brings_the_points_to_their_places(degrees: float) -> None:
    points = turned(CELEBA_HQ_POINTS, degrees, 300, (2000, -40))
    assert np.allclose(apply(celeba_hq(points, 512), points), CELEBA_HQ_POINTS * 512)


def test_celeba_hq_is_the_best_similarity() -> None:
    points = placed_points(30, 40, 200) + np.random.default_rng(0).normal(0, 8, (5, 2))
    best = celeba_hq(points, 128)
    error = np.square(apply(best, points) - CELEBA_HQ_POINTS * 128).sum()
    for change in np.random.default_rng(1).normal(0, 1e-3, (20, 2)):
        other = best.copy()
        other[0, 0] = other[1, 1] = best[0, 0] + change[0]
        other[1, 0] = best[1, 0] + change[1]
        other[0, 1] = -other[1, 0]
        assert np.square(apply(other, points) - CELEBA_HQ_POINTS * 128).sum() > error


@pytest.mark.facer
def test_celebm_is_facers_matrix() -> None:
    import_facer()
    from facer.transform import get_face_align_matrix_celebm

    rng = np.random.default_rng(0)
    for _ in range(20):
        points = turned(CELEBA_HQ_POINTS, rng.uniform(-180, 180), rng.uniform(30, 900), (rng.uniform(0, 2000), 300))
        points = (points + rng.normal(0, 5, (5, 2))).astype(np.float32)
        theirs = get_face_align_matrix_celebm(torch.from_numpy(points)[None], (448, 448))[0].numpy()
        ours = celebm(points, 448)
        assert np.allclose(ours[:2, :2], theirs[:2, :2], rtol=2e-5, atol=1e-6)
        corners = np.linalg.inv(ours) @ np.array([[0, 448, 0, 448], [0, 0, 448, 448], [1, 1, 1, 1]])
        assert np.allclose((theirs @ corners)[:2].T, [[0, 0], [448, 0], [0, 448], [448, 448]], atol=0.02)


def test_points_that_allow_no_crop_are_recognised() -> None:
    one_place = np.full((5, 2), 7.0)
    mirrored = placed_points(0, 0, 100)[[1, 0, 2, 4, 3]].astype(float)
    mirrored[:, 0] -= mirrored[:, 0].mean()
    assert not usable(celeba_hq(one_place, 64)) and not usable(celebm(one_place, 64))
    # eyes exchanged, as far apart as they lie from the mouth: facer's direction is zero and its matrix NaN
    exchanged = np.array([[50.0, 0], [0, 0], [25, 25], [50, 50], [0, 50]])
    assert not usable(celebm(exchanged, 64))
    assert usable(celeba_hq(placed_points(0, 0, 100), 64))


def test_crop_of_the_same_size_is_the_image() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    out = crop(Image.fromarray(pixels), letterbox((64, 64), 64), 64)
    assert out.dtype == torch.float32 and out.shape == (3, 64, 64)
    assert np.array_equal((out * 255).round().byte().permute(1, 2, 0).numpy(), pixels)


def test_crop_outside_the_image_is_black() -> None:
    white = Image.new("RGB", (100, 50), (255, 255, 255))
    out = crop(white, letterbox((100, 50), 64), 64)
    assert (out[:, :15] == 0).all() and (out[:, 49:] == 0).all() and (out[:, 17:47] == 1).all()
    assert (crop(white, box_square((500, 500, 520, 520), 64), 64) == 0).all()


def test_crop_of_a_fine_image_skips_no_pixels() -> None:
    pixels = np.zeros((1024, 1024, 3), dtype=np.uint8)
    pixels[::4, ::4] = 255  # sampled at single points this would be all black or all white
    out = crop(Image.fromarray(pixels), letterbox((1024, 1024), 64), 64)
    assert torch.allclose(out, torch.tensor(1 / 16), atol=0.01)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (7, 5)])
def test_extreme_sizes(size: tuple[int, int]) -> None:
    matrix = letterbox(size, 64)
    assert crop(Image.new("RGB", size, (255, 255, 255)), matrix, 64).max() <= 1
    logits = torch.zeros(NUM_PARTS, 64, 64)
    logits[3] = 5
    patch = paste(logits, grid_of(matrix, 64), window(matrix, 64, size), ALL)
    assert patch.labels.shape == size[::-1] and (patch.labels == 3).all()


def test_a_turned_face_comes_back_where_it_was() -> None:
    points = turned(CELEBA_HQ_POINTS, 25, 300, (250, 60))
    image, labels = drawn_face((700, 500), points)
    matrix = celeba_hq(points, 256)
    logits = ColourNetwork(256)(crop(image, matrix, 256)[None])[0]
    patch = paste(logits, grid_of(matrix, 256), window(matrix, 256, image.size), ALL)
    full = np.zeros_like(labels)
    full[patch.top : patch.top + patch.labels.shape[0], patch.left : patch.left + patch.labels.shape[1]] = patch.labels
    inside = np.abs(apply(matrix, np.indices(labels.shape)[::-1].reshape(2, -1).T + 0.5) - 128).max(axis=1) < 128
    inside = inside.reshape(labels.shape)
    assert (full[~inside] == 0).mean() > 0.99  # a fringe of half a logit belongs to the crop
    assert (full == labels)[inside].mean() > 0.97


def test_nothing_is_shifted_by_half_a_pixel() -> None:
    points = turned(CELEBA_HQ_POINTS, 25, 300, (250, 60))
    y, x = np.mgrid[:500, :700] + 0.5
    cx, cy = points[2] + (3.3, 7.9)
    labels = (np.hypot(x - cx, y - cy) < 60).astype(np.uint8)
    matrix = celeba_hq(points, 256)
    two = (0, 1)
    logits = ColourNetwork(256, two)(crop(paint(labels), matrix, 256)[None])[0]
    patch = paste(logits, grid_of(matrix, 256), window(matrix, 256, (700, 500)), two)
    row, column = np.argwhere(patch.labels == 1).mean(axis=0) + 0.5
    assert abs(patch.left + column - cx) < 0.1 and abs(patch.top + row - cy) < 0.1


def test_outside_of_the_crop_there_is_background_and_no_confidence() -> None:
    matrix = box_square((40, 40, 60, 60), 32)
    logits = torch.zeros(NUM_PARTS, 32, 32)
    logits[1] = 30.0
    patch = paste(logits, grid_of(matrix, 32), (0, 0, 200, 100), ALL)
    assert patch.labels.shape == (100, 200)
    assert 27**2 < (patch.labels == 1).sum() < 31**2 and (patch.labels[:, 80:] == 0).all()
    assert patch.confidence == pytest.approx(1.0)  # 1/19 of the other pixels is not in it
    nothing = paste(torch.zeros(NUM_PARTS, 32, 32), grid_of(matrix, 32), (0, 0, 200, 100), ALL)
    assert nothing.labels.max() == 0 and nothing.confidence == 0.0


def test_a_large_photo_is_never_held_as_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    real = geometry.F.grid_sample

    def watched(*args: torch.Tensor, **kwargs: object) -> torch.Tensor:
        out = real(*args, **kwargs)
        sizes.append(out.numel())
        return out

    monkeypatch.setattr(geometry.F, "grid_sample", watched)
    matrix = celeba_hq(placed_points(2000, 1000, 1200), 128)
    area = window(matrix, 128, (6000, 4000))
    patch = paste(torch.rand(NUM_PARTS, 128, 128), grid_of(matrix, 128), area, ALL)
    assert max(patch.labels.shape) < 1205 and min(patch.labels.shape) >= 1200
    assert max(sizes) <= NUM_PARTS * TILE * TILE and len(sizes) == 25


def test_the_template_is_that_of_real_masks(real_faces: Path) -> None:
    masks = sorted((real_faces / "celebamask_hq" / "masks").glob("*.png"))[:100]
    if not masks:
        pytest.skip("FACE_TEST_DATA has no celebamask_hq/masks")
    for part, point in ((5, 0), (4, 1)):  # r_eye lies on the picture's left
        middles = []
        for path in masks:
            where = np.argwhere(np.asarray(Image.open(path)) == part)
            if len(where):
                middles.append((where.mean(axis=0)[::-1] + 0.5) / 512)
        assert np.abs(np.mean(middles, axis=0) - CELEBA_HQ_POINTS[point]).max() < 0.025
