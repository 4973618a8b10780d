"""From the configuration to a working parser, and what it says where the two do not fit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from llava_face_plugin.errors import FaceConfigError, FaceDataError, FaceHostError
from llava_face_plugin.maps.overlay import paint
from llava_face_plugin.parser_config import ParserConfig
from llava_face_plugin.parsing.base import Parser
from llava_face_plugin.parsing.build import build_parser
from tests.parsing.standins import drawn_face, import_facer, placed_points, traced

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def network(tmp_path: Path) -> dict[str, Any]:
    path, sha256 = traced(tmp_path / "net.pt", 19, 64)
    return {"type": "torchscript", "path": path, "sha256": sha256, "size": 64}


def test_torchscript_on_whole_images(network: dict[str, Any]) -> None:
    parser = build_parser(ParserConfig(**network))
    assert isinstance(parser, Parser) and parser.name == "torchscript"
    image, _ = drawn_face((120, 90), placed_points(10, 5, 80))
    first, second = parser.parse([image, Image.new("L", (33, 44))], ["a.jpg", "b.jpg"])
    assert first.labels is not None and first.labels.shape == (90, 120) and len(first.faces) == 1
    assert second.labels is not None and second.labels.shape == (44, 33)


def test_digest_is_of_weights_and_settings_not_of_place(network: dict[str, Any], tmp_path: Path) -> None:
    base = build_parser(ParserConfig(**network)).digest
    moved = tmp_path / "elsewhere.pt"
    moved.write_bytes(Path(network["path"]).read_bytes())
    assert build_parser(ParserConfig(**network | {"path": str(moved), "batch_size": 3})).digest == base
    assert build_parser(ParserConfig(**network | {"size": 96})).digest != base
    path, sha256 = traced(tmp_path / "other.pt", 19, 64, seed=1)
    assert build_parser(ParserConfig(**network | {"path": path, "sha256": sha256})).digest != base


def test_errors_name_what_to_change(network: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(FaceDataError, match="TorchScript file is code"):
        build_parser(ParserConfig(**{k: v for k, v in network.items() if k != "sha256"}))
    with pytest.raises(FaceConfigError, match="19 classes, vocabulary 'lapa' has 11"):
        build_parser(ParserConfig(**network, vocabulary="lapa"))
    with pytest.raises(FaceConfigError, match="device 'gpu'"):
        build_parser(ParserConfig(**network, device="gpu"))
    with pytest.raises(FaceDataError, match="no such file"):
        build_parser(ParserConfig(**network, detector="yunet", detector_path=str(tmp_path / "none.onnx")))
    if not torch.cuda.is_available():
        with pytest.raises(FaceHostError, match="0 CUDA devices"):
            build_parser(ParserConfig(**network, device="cuda"))


def test_defaults_that_follow_the_detector() -> None:
    assert ParserConfig(type="facer").min_score == 0.8 and ParserConfig(type="facer").detector == "retinaface"
    assert ParserConfig(type="facer", min_score=0.5).min_score == 0.5
    assert ParserConfig(type="facer", detector="yunet", detector_path="y.onnx").min_score == 0.6


def test_precomputed_maps_need_no_network(tmp_path: Path) -> None:
    from llava_face_plugin.maps.files import write_map

    image, labels = drawn_face((40, 30), placed_points(5, 2, 25))
    write_map(tmp_path / "a.png", labels)
    parser = build_parser(ParserConfig(type="precomputed", path=str(tmp_path)))
    (parsed,) = parser.parse([image], ["a.jpg"])
    assert isinstance(parser, Parser) and np.array_equal(parsed.labels, labels)


def test_compact_is_built_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(FaceDataError, match=r"net.safetensors"):
        build_parser(ParserConfig(type="compact", path=str(tmp_path / "net.safetensors")))


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys; import llava_face_plugin.parsing.build, llava_face_plugin.parsing.cropped;"
        "print([m for m in ('cv2', 'facer', 'transformers', 'pyarrow', 'torchvision') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_yunet_and_a_network_on_a_real_face(network: dict[str, Any], real_faces: Path) -> None:
    pytest.importorskip("cv2")
    path, photo = real_faces / "detectors" / "yunet_n_640_640.onnx", real_faces / "samples" / "twogirls.jpg"
    if not path.is_file() or not photo.is_file():
        pytest.skip("FACE_TEST_DATA has no detectors/ or samples/")
    parser = build_parser(ParserConfig(**network, detector="yunet", detector_path=str(path), faces="all"))
    found, nothing = parser.parse([Image.open(photo), Image.new("RGB", (99, 99))])
    assert len(found.faces) == 2 and found.labels is not None and found.labels.shape == (408, 612)
    assert nothing.labels is None and nothing.faces == ()


@pytest.mark.facer
@pytest.mark.parametrize(("model", "classes"), [("farl/celebm/448", 19), ("farl/lapa/448", 11)])
def test_facer_end_to_end_on_a_real_face(tmp_path: Path, real_faces: Path, model: str, classes: int) -> None:
    import_facer()
    weights, photo = real_faces / "detectors" / "RetinaFace_mobilenet025.pth", real_faces / "samples" / "girl.jpg"
    if not weights.is_file() or not photo.is_file():
        pytest.skip("FACE_TEST_DATA has no detectors/ or samples/")
    path, sha256 = traced(tmp_path / "net.pt", classes, 448)
    config = ParserConfig(type="facer", model=model, path=path, sha256=sha256, detector_path=str(weights))
    parser = build_parser(config)
    with Image.open(photo) as picture:
        found, nothing = parser.parse([picture, paint(np.zeros((50, 60), dtype=np.uint8))])
    assert isinstance(parser, Parser) and parser.name == "facer"
    assert len(found.faces) == 1 and found.labels is not None and found.labels.shape == (800, 1200)
    assert nothing.labels is None
