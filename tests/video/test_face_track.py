"""Boxes over time and the crops by them."""

from __future__ import annotations

import numpy as np
import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.labels import NO_MAP
from llava_face_plugin.maps.keys import PAD_COLOUR
from llava_face_plugin.parsing.detectors.base import Detection
from llava_face_plugin.video.track import crop_frames, crop_maps, follow, smooth_boxes, squares


def seen(*boxes: tuple[float, float, float, float]) -> Detection:
    return Detection(np.array(boxes, dtype=np.float32).reshape(-1, 4), None, np.ones(len(boxes), dtype=np.float32))


def test_one_person_is_followed() -> None:
    first, other = (10.0, 10.0, 30.0, 30.0), (60.0, 10.0, 90.0, 40.0)
    moved = (14.0, 10.0, 34.0, 30.0)
    track = follow([seen(), seen(first), seen(other, moved), seen(other), seen(other, moved)])
    assert np.isnan(track[0]).all() and np.isnan(track[3]).all(), "another person's face is not taken for it"
    assert track[[1, 2, 4]].tolist() == [list(first), list(moved), list(moved)]


def test_smoothing_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [np.nan] * 4, [4, 0, 14, 10.0]])
    times = np.array([0.0, 1.0, 2.0])
    assert smooth_boxes(boxes, times, 0)[1].tolist() == [2, 0, 12, 10]
    # sigma 1: the first frame weighs 1, exp(-1/2) and exp(-2) of the boxes at x = 0, 2 and 4
    a, b = np.exp(-0.5), np.exp(-2.0)
    assert smooth_boxes(boxes, times, 1.0)[0, 0] == pytest.approx((2 * a + 4 * b) / (1 + a + b))
    still = np.tile([3.0, 4, 9, 12], (5, 1))
    assert smooth_boxes(still, np.arange(5.0)) == pytest.approx(still)
    trembling = np.random.default_rng(0).normal(20, 2, (40, 4))
    calm = smooth_boxes(trembling, np.arange(40) / 25)
    assert np.abs(np.diff(calm, axis=0)).mean() < 0.2 * np.abs(np.diff(trembling, axis=0)).mean()
    with pytest.raises(FaceDataError, match="no frame has a face"):
        smooth_boxes(np.full((3, 4), np.nan), times)


def test_squares_have_one_side() -> None:
    found = squares(np.array([[10, 10, 20, 30], [50, 50, 54, 60.0]]), pad=0.25)
    assert found.tolist() == [[0, 5, 30, 35], [37, 40, 67, 70]]  # 20 x 1.5 = 30; centres 15 20 and 52 55


def test_frames_and_maps_are_cropped_alike() -> None:
    rng = np.random.default_rng(1)
    maps = rng.integers(0, 19, (2, 20, 24), dtype=np.uint8)
    pixels = np.repeat(maps[..., None], 3, axis=3)
    boxes = np.array([[4, 3, 14, 13], [-5, -5, 5, 5]])
    cut, cut_maps = crop_frames(pixels, boxes, 10), crop_maps(maps, boxes, 10)
    assert np.array_equal(cut[0], pixels[0, 3:13, 4:14]) and np.array_equal(cut_maps[0], maps[0, 3:13, 4:14])
    assert np.array_equal(cut[1, 5:, 5:], pixels[1, :5, :5]) and np.array_equal(cut_maps[1, 5:, 5:], maps[1, :5, :5])
    assert (cut[1, :5] == PAD_COLOUR).all() and (cut_maps[1, :5] == 0).all()
    smaller = crop_maps(maps, boxes, 4)
    assert smaller.shape == (2, 4, 4) and set(np.unique(smaller)) <= set(np.unique(maps)) | {0}
    unknown = crop_maps(np.full((1, 8, 8), NO_MAP, dtype=np.uint8), np.array([[-4, -4, 4, 4]]), 8)
    assert (unknown == NO_MAP).all()
    with pytest.raises(FaceDataError, match="2 boxes for 1 frames"):
        crop_frames(pixels[:1], boxes, 4)
