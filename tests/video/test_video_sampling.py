"""Which frames are chosen: by hand, and against the line of LLaVA-NeXT that does the same."""

from __future__ import annotations

import numpy as np
import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.parsing.detectors.base import Detection
from llava_face_plugin.video.faces import best_faces, best_of_parts, frontal
from llava_face_plugin.video.sampling import Sampling, by_rate, uniform


def test_uniform_is_what_upstream_takes() -> None:
    for total, n in ((48, 5), (100, 16), (17, 16), (16, 16), (1, 1)):
        assert uniform(total, n).tolist() == np.linspace(0, total - 1, n, dtype=int).tolist()
    assert uniform(3, 16).tolist() == [0, 1, 2]  # upstream would repeat frames
    assert uniform(9, 1).tolist() == [0]


def test_by_rate() -> None:
    times = np.arange(25) / 10  # 2.4 seconds at 10 a second
    assert by_rate(times, 2.0, 16).tolist() == [0, 5, 10, 15, 20]
    assert by_rate(times, 4.0, 16).tolist() == [0, 3, 5, 8, 10, 13, 15, 18, 20, 23]
    assert by_rate(times, 2.0, 3).tolist() == [0, 12, 24], "more than n: over the whole clip, not its beginning"
    assert by_rate(times, 1000.0, 100).tolist() == list(range(25)), "no frame twice"
    assert by_rate(np.array([0.0, 1 / 3, 2 / 3, 0.9999999]), 3.0, 9).tolist() == [0, 1, 2, 3], "rounded clocks"
    assert by_rate(np.array([0.0, 5.0, 5.1]), 1.0, 9).tolist() == [0, 1], "a gap in the clock"
    assert by_rate(np.array([0.0, 1e9]), 2.0, 9).tolist() == [0, 1], "a broken clock"
    assert by_rate(np.zeros(0), 2.0, 9).tolist() == []


def test_sampling_from_text() -> None:
    assert Sampling.parse("uniform:8") == Sampling("uniform", 8)
    assert Sampling.parse("fps:1.5:32") == Sampling("fps", 32, 1.5)
    assert Sampling.parse("fps") == Sampling("fps", 16, 2.0)
    assert Sampling.parse("face:4") == Sampling("face", 4)
    for text in ("uniform:0", "uniform:x", "fps:0:4", "fps:1:2:3", "every:2", "face:1:2", "", "fps:nan"):
        with pytest.raises(FaceDataError, match="sampling"):
            Sampling.parse(text)
    with pytest.raises(FaceDataError, match="did you mean 'uniform'"):
        Sampling.parse("unifrom:3")


def points(nose: float) -> np.ndarray:
    """Eyes at x = 10 and 30, the nose at ``nose``."""
    return np.array([[10, 0], [30, 0], [nose, 10], [12, 20], [28, 20]], dtype=np.float32)


def faces(*sides_and_noses: tuple[float, float]) -> Detection:
    boxes = np.array([[0, 0, side, side] for side, _ in sides_and_noses], dtype=np.float32).reshape(-1, 4)
    marks = np.array([points(nose) for _, nose in sides_and_noses], dtype=np.float32).reshape(-1, 5, 2)
    return Detection(boxes, marks, np.ones(len(boxes), dtype=np.float32))


def test_frontal_by_hand() -> None:
    assert frontal(np.stack([points(20), points(25), points(30), points(40)])).tolist() == [1.0, 0.5, 0.0, 0.0]
    assert frontal(None) == 1.0


def test_the_best_face_of_each_part() -> None:
    clip = [faces((50, 20)), faces((100, 20)), faces(), faces(), faces((100, 25), (80, 20)), faces((100, 30))]
    scores, boxes = best_faces(clip)
    assert scores.tolist() == [0.5, 1.0, 0.0, 0.0, 0.8, 0.0]
    assert boxes[4].tolist() == [0, 0, 80, 80], "the frontal one, though a larger one is there"
    assert np.isnan(boxes[2]).all() and not np.isnan(boxes[5]).any()
    assert best_of_parts(scores, 3).tolist() == [1, 3, 4], "a part without a face: its middle"
    assert best_of_parts(scores, 1).tolist() == [1]
    assert best_of_parts(scores, 99).tolist() == [0, 1, 2, 3, 4, 5]
    nobody, none = best_faces([faces(), faces()])
    assert nobody.tolist() == [0, 0] and np.isnan(none).all()
