"""Detectors: boxes and points in the image's own pixels, the largest face first, whatever the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.parsing.detectors.base import Detection, Detector
from llava_face_plugin.parsing.detectors.bounded import COARSE, FINE, bounded, detection, two_looks
from llava_face_plugin.parsing.detectors.whole import WholeImage
from tests.parsing.standins import import_facer

FIVE = np.array([(10, 10), (20, 10), (15, 15), (11, 20), (19, 20)], dtype=float)


def faces_of(boxes: Sequence[Sequence[float]], size: tuple[int, int] = (5000, 5000)) -> Detection:
    count = len(boxes)
    return detection(np.array(boxes, dtype=float).reshape(-1, 4), np.stack([FIVE] * count) if count else FIVE[:0],
                     np.linspace(0.9, 0.8, count), size, 0.5)  # fmt: skip


def test_bounded_keeps_small_images_and_scales_large_ones() -> None:
    pixels, scale = bounded(Image.new("L", (300, 200)), 640)
    assert pixels.shape == (200, 300, 3) and pixels.dtype == np.uint8 and scale == 1.0
    pixels, scale = bounded(Image.new("RGB", (6400, 10)), 640)
    assert pixels.shape == (1, 640, 3) and scale == pytest.approx(0.1)


def test_faces_come_largest_first_and_only_usable_ones() -> None:
    boxes = np.array(
        [
            [0, 0, 10, 10],
            [-5, -5, 30, 20],
            [0, 0, 40, 40],
            [5, 5, 5, 9],
            [0, 0, np.nan, 9],
            [70, 0, 90, 9],
            [1, 1, 9, 9],
        ]
    )
    points = np.stack([FIVE] * 7)
    points[6] = 3.0  # all five in one place
    found = detection(boxes, points, np.array([0.9, 0.8, 0.3, 0.9, 0.9, 0.9, 0.9]), (60, 50), 0.5)
    assert found.boxes.tolist() == [[0, 0, 30, 20], [0, 0, 10, 10]]  # cut off at the edge; 40x40 scores too little
    assert found.scores.tolist() == pytest.approx([0.8, 0.9])
    assert found.points is not None and found.points.shape == (2, 5, 2)
    assert (found.boxes.dtype, found.points.dtype, found.scores.dtype) == (np.float32,) * 3
    none = faces_of([])
    assert none.boxes.shape == (0, 4) and none.points is not None and none.points.shape == (0, 5, 2)


def looks(answers: dict[int, Detection]) -> tuple[Callable[[Sequence[Image.Image], int], list[Detection]], list[int]]:
    asked: list[int] = []

    def look(images: Sequence[Image.Image], longest: int) -> list[Detection]:
        asked.append(longest)
        return [answers[longest] for _ in images]

    return look, asked


def test_pieces_of_a_large_face_are_no_faces_and_small_faces_are_added() -> None:
    large, piece, small = [100, 100, 1100, 1100], [300, 300, 700, 800], [1200, 100, 1230, 130]
    look, asked = looks({COARSE: faces_of([large]), FINE: faces_of([piece, small])})
    (found,) = two_looks([Image.new("RGB", (1600, 1600))], look, every=True)
    assert found.boxes.tolist() == [large, small] and asked == [COARSE, FINE]
    (main,) = two_looks([Image.new("RGB", (1600, 1600))], look, every=False)
    assert main.boxes.tolist() == [large]


def test_the_second_look_is_for_large_images_without_a_face() -> None:
    look, asked = looks({COARSE: faces_of([]), FINE: faces_of([[5, 5, 25, 25]])})
    found = two_looks([Image.new("RGB", (640, 90)), Image.new("RGB", (641, 90))], look, every=False)
    assert [len(one.boxes) for one in found] == [0, 1] and asked == [COARSE, FINE]
    two_looks([Image.new("RGB", (640, 90))], look, every=True)
    assert asked == [COARSE, FINE, COARSE]


def test_the_whole_image_is_one_face() -> None:
    first, second = WholeImage().detect([Image.new("RGB", (7, 3)), Image.new("L", (1, 1))])
    assert first.boxes.tolist() == [[0, 0, 7, 3]] and second.boxes.tolist() == [[0, 0, 1, 1]]
    assert first.points is None and first.scores.tolist() == [1.0]


def yunet(real_faces: Path, **settings: object) -> Detector:
    pytest.importorskip("cv2")
    from llava_face_plugin.parsing.detectors.yunet import YuNet

    path = real_faces / "detectors" / "yunet_n_640_640.onnx"
    if not path.is_file():
        pytest.skip("FACE_TEST_DATA has no detectors/yunet_n_640_640.onnx")
    return YuNet(str(path), 0.6, **settings)


def retinaface(real_faces: Path, **settings: object) -> Detector:
    import_facer()
    from llava_face_plugin.parsing.detectors.retinaface import RetinaFace

    path = real_faces / "detectors" / "RetinaFace_mobilenet025.pth"
    if not path.is_file():
        pytest.skip("FACE_TEST_DATA has no detectors/RetinaFace_mobilenet025.pth")
    return RetinaFace("mobilenet", str(path), 0.6, torch.device("cpu"), **settings)


BOTH = [pytest.param(yunet, id="yunet"), pytest.param(retinaface, id="retinaface", marks=pytest.mark.facer)]


@pytest.mark.parametrize("make", BOTH)
def test_real_photos(make: Callable[..., Detector], real_faces: Path) -> None:
    detector = make(real_faces)
    names = {"girl.jpg": 1, "sideface.jpg": 1, "twogirls.jpg": 2}
    if not (real_faces / "samples").is_dir():
        pytest.skip("FACE_TEST_DATA has no samples/")
    images = [Image.open(real_faces / "samples" / name).convert("RGB") for name in names]
    found = detector.detect(images)
    assert [len(one.boxes) for one in found] == list(names.values())
    for image, one in zip(images, found, strict=True):
        areas = np.prod(one.boxes[:, 2:] - one.boxes[:, :2], axis=1)
        assert (np.diff(areas) <= 0).all() and (one.scores >= 0.6).all() and (one.boxes >= 0).all()
        assert (one.boxes[:, 2:] <= image.size).all()
        assert one.points is not None
        for (x0, y0, x1, y1), five in zip(one.boxes, one.points, strict=True):
            assert (five > (x0 - 9, y0 - 9)).all() and (five < (x1 + 9, y1 + 9)).all()
            assert five[0, 0] < five[1, 0] and five[3, 0] < five[4, 0] and five[0, 1] < five[3, 1]  # upright


@pytest.mark.parametrize("make", BOTH)
def test_a_face_is_at_the_same_place_at_any_scale(make: Callable[..., Detector], real_faces: Path) -> None:
    detector = make(real_faces)
    paths = sorted((real_faces / "celebamask_hq" / "images").glob("*.jpg"))[:3]
    if not paths:
        pytest.skip("FACE_TEST_DATA has no celebamask_hq/images")
    images = [Image.open(path).convert("RGB") for path in paths]  # 512 pixels wide
    large = detector.detect([image.resize((2560, 2560), Image.Resampling.BICUBIC) for image in images])
    for one, other in zip(detector.detect(images), large, strict=True):
        assert len(one.boxes) == len(other.boxes) == 1 and one.points is not None and other.points is not None
        assert np.abs(other.points[0] / 5 - one.points[0]).max() < 20


@pytest.mark.parametrize("make", BOTH)
def test_images_of_any_size_mode_and_brightness(make: Callable[..., Detector], real_faces: Path) -> None:
    images = [Image.new("RGB", size) for size in ((1, 1), (1, 900), (900, 1), (33, 65))]
    images += [Image.new("RGB", (64, 64), (level,) * 3) for level in (1, 255)] + [Image.new("L", (50, 40), 99)]
    found = make(real_faces).detect(images)
    assert [len(one.boxes) for one in found] == [0] * len(images)
    assert make(real_faces).detect([]) == []


@pytest.mark.parametrize("make", BOTH)
def test_batches_change_nothing(make: Callable[..., Detector], real_faces: Path) -> None:
    images = [Image.open(path).convert("RGB") for path in sorted((real_faces / "celeba").glob("*/*.jpg"))[:6]]
    if not images:
        pytest.skip("FACE_TEST_DATA has no celeba/img_align_celeba")
    images.insert(2, images[0].resize((97, 130)))
    detector = make(real_faces)
    for image, together in zip(images, detector.detect(images), strict=True):
        (alone,) = detector.detect([image])
        assert np.allclose(alone.boxes, together.boxes, atol=1e-2) and np.allclose(alone.scores, together.scores)


def test_no_onnx_file_is_named(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    from llava_face_plugin.parsing.detectors.yunet import YuNet

    (tmp_path / "net.onnx").write_bytes(b"no network")
    with pytest.raises(FaceDataError, match=r"net.onnx: OpenCV cannot read it"):
        YuNet(str(tmp_path / "net.onnx"), 0.6)
    with pytest.raises(FaceDataError, match="no such file"):
        YuNet(str(tmp_path / "none.onnx"), 0.6)


def test_yunet_is_made_in_silence_and_holds_no_module(real_faces: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cv2 = pytest.importorskip("cv2")
    level = cv2.utils.logging.getLogLevel()
    detector = yunet(real_faces)
    detector.detect([Image.new("RGB", (64, 48))])
    assert capfd.readouterr().err == ""
    assert cv2.utils.logging.getLogLevel() == level
    assert not any(isinstance(value, ModuleType) for value in vars(detector).values())


@pytest.fixture
def random_retinaface(tmp_path: Path) -> tuple[ModuleType, Path]:
    """A state dict of facer's own RetinaFace with random weights."""
    import_facer()
    from facer.face_detection import retinaface as module

    torch.manual_seed(0)
    path = tmp_path / "random.pth"
    torch.save(module.RetinaFace(module.cfg_mnet, "test").state_dict(), path)
    return module, path


@pytest.mark.facer
@pytest.mark.parametrize("benchmark", [False, True])
def test_retinaface_leaves_cudnn_as_it_was(random_retinaface: tuple[ModuleType, Path], benchmark: bool) -> None:
    from llava_face_plugin.parsing.detectors.retinaface import RetinaFace

    before = torch.backends.cudnn.benchmark
    try:
        torch.backends.cudnn.benchmark = benchmark
        RetinaFace("mobilenet", str(random_retinaface[1]), 0.6, torch.device("cpu"))
        assert torch.backends.cudnn.benchmark is benchmark
    finally:
        torch.backends.cudnn.benchmark = before


@pytest.mark.facer
def test_retinaface_refuses_other_weights(random_retinaface: tuple[ModuleType, Path], tmp_path: Path) -> None:
    from llava_face_plugin.parsing.detectors.retinaface import RetinaFace

    weights = torch.load(random_retinaface[1], weights_only=True)
    del weights["BboxHead.0.conv1x1.weight"]
    torch.save(weights, tmp_path / "part.pth")
    with pytest.raises(FaceDataError, match=r"lacks \['BboxHead.0.conv1x1.weight'\]"):  # facer would load it
        RetinaFace("mobilenet", str(tmp_path / "part.pth"), 0.6, torch.device("cpu"))
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(FaceDataError, match="no weights of RetinaFace"):
        RetinaFace("mobilenet", str(tmp_path / "other.pth"), 0.6, torch.device("cpu"))
    with pytest.raises(FaceDataError, match="expects"):
        RetinaFace("mobilenet", str(random_retinaface[1]), 0.6, torch.device("cpu"), "0" * 64)
