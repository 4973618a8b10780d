"""The facer parser on the real pyfacer code: equal to facer where facer works, whole where it breaks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from llava_face_plugin.errors import FaceConfigError, FaceDataError, FaceHostError
from llava_face_plugin.labels import NUM_PARTS
from llava_face_plugin.maps.vocabularies import TO_CANONICAL, by_image_side
from llava_face_plugin.parser_config import ParserConfig
from llava_face_plugin.parsing import extras, geometry
from llava_face_plugin.parsing.facer import FILES, VOCABULARY, FacerParser, sample
from tests.parsing.standins import (
    L_EYE,
    R_EYE,
    ColourNetwork,
    ScriptedDetector,
    detection_of,
    drawn_face,
    import_facer,
    placed_points,
    traced,
)  # fmt: skip

CELEBM, LAPA = "farl/celebm/448", "farl/lapa/448"
OUTPUT = {CELEBM: 512, LAPA: 448}

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def facer() -> ModuleType:
    return import_facer()


def config_of(tmp_path: Path, model: str, **settings: object) -> ParserConfig:
    """A config with a random stand-in for the network's file."""
    path, sha256 = traced(tmp_path / "net.pt", len(TO_CANONICAL[VOCABULARY[model]]), OUTPUT[model], seed=3)
    return ParserConfig(type="facer", model=model, path=path, sha256=sha256, **settings)


def photo(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Smooth noise, without white (see test_rounding_above_one_breaks_facer_and_not_us)."""
    few = np.random.default_rng(seed).integers(0, 251, (12, 12, 3)).astype(np.uint8)
    return Image.fromarray(few).resize(size, Image.Resampling.BILINEAR)


def facers_logits(facer: ModuleType, config: ParserConfig, image: Image.Image, points: np.ndarray) -> Tensor:
    """(C, H, W) as facer itself gives them."""
    parser = facer.face_parser(config.model, torch.device("cpu"), model_path=config.path)
    pixels = facer.hwc2bchw(torch.from_numpy(np.array(image)))
    faces = {"points": torch.from_numpy(points)[None], "image_ids": torch.zeros(1, dtype=torch.long)}
    return parser(pixels, faces)["seg"]["logits"][0]


@pytest.mark.facer
@pytest.mark.parametrize("model", [CELEBM, LAPA])
@pytest.mark.parametrize("size", [(178, 218), (700, 520)])
def test_labels_are_facers(facer: ModuleType, tmp_path: Path, model: str, size: tuple[int, int]) -> None:
    config, image = config_of(tmp_path, model), photo(size)
    angle = placed_points(0.3 * size[0], 0.2 * size[1], 0.5 * size[0])
    points = (angle + np.random.default_rng(1).normal(0, 4, (5, 2))).astype(np.float32)
    (parsed,) = FacerParser(ScriptedDetector([detection_of([points])]), config).parse([image])
    logits = facers_logits(facer, config, image, points)
    theirs = np.asarray(TO_CANONICAL[VOCABULARY[model]], dtype=np.uint8)[logits.argmax(dim=0).numpy()]
    assert parsed.labels is not None and len(np.unique(theirs)) > 3
    best, second = logits.topk(2, dim=0).values
    clear = ((best - second) > 0.02).numpy()
    inside = (logits != 0).any(dim=0).numpy()
    assert inside.all() if model == LAPA else 0.05 < inside.mean() < 0.9
    assert clear[inside].mean() > 0.97
    assert np.array_equal(parsed.labels[clear & inside], by_image_side(theirs)[clear & inside])
    assert (parsed.labels[~inside] == 0).all()
    probability = logits.softmax(dim=0).amax(dim=0).numpy()[inside & (parsed.labels != 0)]
    assert parsed.faces[0].confidence == pytest.approx(float(probability.mean()), abs=2e-3)


@pytest.mark.facer
def test_real_face_has_facers_labels(facer: ModuleType, tmp_path: Path, real_faces: Path) -> None:
    from llava_face_plugin.parsing.detectors.retinaface import RetinaFace

    weights = real_faces / "detectors" / "RetinaFace_mobilenet025.pth"
    if not weights.is_file() or not (real_faces / "samples" / "sideface.jpg").is_file():
        pytest.skip("FACE_TEST_DATA has no detectors/ or samples/")
    config = config_of(tmp_path, CELEBM)
    detector = RetinaFace("mobilenet", str(weights), 0.6, torch.device("cpu"))
    image = Image.open(real_faces / "samples" / "sideface.jpg").convert("RGB")
    (found,) = detector.detect([image])
    (parsed,) = FacerParser(detector, config).parse([image])
    assert found.points is not None and len(found.boxes) == 1 and parsed.labels is not None
    logits = facers_logits(facer, config, image, found.points[0])
    theirs = by_image_side(np.asarray(TO_CANONICAL["celebm"], dtype=np.uint8)[logits.argmax(dim=0).numpy()])
    best, second = logits.topk(2, dim=0).values
    clear = ((best - second) > 0.02).numpy()
    assert np.array_equal(parsed.labels[clear], theirs[clear]) and clear.mean() > 0.1


@pytest.mark.facer
def test_several_images_and_faces_are_as_each_alone(facer: ModuleType, tmp_path: Path) -> None:
    images = [photo((300, 200)), photo((90, 260), 1), photo((64, 64), 2)]
    found = [
        detection_of([placed_points(20, 10, 120), placed_points(160, 60, 90)]),
        detection_of([]),
        detection_of([placed_points(5, 5, 50)]),
    ]
    config = config_of(tmp_path, CELEBM, faces="all", batch_size=2)
    together = FacerParser(ScriptedDetector(found), config).parse(images)
    assert [len(parsed.faces) for parsed in together] == [2, 0, 1] and together[1].labels is None
    for image, one, expected in zip(images, found, together, strict=True):
        (alone,) = FacerParser(ScriptedDetector([one]), config).parse([image])
        assert alone.faces == expected.faces
        assert np.array_equal(alone.labels, expected.labels) if expected.labels is not None else alone.labels is None


@pytest.mark.facer
def test_an_image_without_a_face_breaks_facer_and_not_us(facer: ModuleType, tmp_path: Path) -> None:
    config = config_of(tmp_path, CELEBM)
    empty = {"points": torch.Tensor(), "image_ids": torch.Tensor()}
    with pytest.raises(IndexError):
        facer.face_parser(CELEBM, torch.device("cpu"), model_path=config.path)(torch.zeros(1, 3, 9, 9), empty)
    (parsed,) = FacerParser(ScriptedDetector([detection_of([])]), config).parse([photo((9, 9))])
    assert parsed.labels is None and parsed.faces == ()


@pytest.mark.facer
@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("model", [CELEBM, LAPA])
def test_black_frames_are_parsed(facer: ModuleType, tmp_path: Path, model: str, level: int) -> None:
    config, points = config_of(tmp_path, model), placed_points(20.3, 11.7, 71.9)
    image = Image.new("RGB", (120, 100), (level,) * 3)
    with pytest.raises(AssertionError):  # facer takes a uint8 image without a value above 1 for floats
        facers_logits(facer, config, image, points)
    (parsed,) = FacerParser(ScriptedDetector([detection_of([points])]), config).parse([image])
    assert parsed.labels is not None and len(parsed.faces) == 1


@pytest.mark.facer
def test_rounding_above_one_breaks_facer_and_not_us(facer: ModuleType, tmp_path: Path) -> None:
    """Interpolation between white pixels can give 1.0000001: facer then takes the crop for bytes and asserts."""
    parser = FacerParser(
        ScriptedDetector([detection_of([placed_points(30.3, 20.7, 101.9)])]), config_of(tmp_path, LAPA)
    )
    crops = torch.full((1, 3, 448, 448), 1.0000001)
    with pytest.raises(AssertionError):
        parser.network.parser.forward_warped(crops)
    assert parser.network(crops).shape == (1, 11, 448, 448)
    (parsed,) = parser.parse([Image.new("RGB", (178, 218), (255, 255, 255))])
    assert parsed.labels is not None and len(parsed.faces) == 1


@pytest.mark.facer
def test_outside_of_celebms_crop_there_is_no_class(facer: ModuleType, tmp_path: Path) -> None:
    config, points = config_of(tmp_path, CELEBM), placed_points(150, 150, 60)
    (parsed,) = FacerParser(ScriptedDetector([detection_of([points])]), config).parse([photo((400, 400))])
    outside = facers_logits(facer, config, photo((400, 400)), points).abs().amax(dim=0) == 0
    assert parsed.labels is not None and float(outside.float().mean()) > 0.7
    assert (parsed.labels[outside.numpy()] == 0).all()
    assert parsed.faces[0].confidence > 0.15  # the share of 1/19 that facer's logits give there would be 0.05


@pytest.mark.facer
@pytest.mark.parametrize("model", [CELEBM, LAPA])
def test_a_large_photo_is_never_held_as_floats(
    facer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    from facer.transform import _meshgrid

    found = ScriptedDetector([detection_of([placed_points(1500, 900, 1400)])])
    parser, largest, real = FacerParser(found, config_of(tmp_path, model)), [0], geometry.F.grid_sample

    def watched(*args: Tensor, **kwargs: object) -> Tensor:
        out = real(*args, **kwargs)
        largest[0] = max(largest[0], out.numel())
        return out

    monkeypatch.setattr(geometry.F, "grid_sample", watched)
    _meshgrid.cache_clear()
    (parsed,) = parser.parse([photo((6000, 4000))])
    assert parsed.labels is not None and parsed.labels.shape == (4000, 6000)
    assert 0 < largest[0] <= NUM_PARTS * geometry.TILE**2
    assert _meshgrid.cache_info().currsize <= 2  # facer keeps a grid for ever for each size it is asked for


@pytest.mark.facer
def test_results_are_no_inference_tensors(facer: ModuleType, tmp_path: Path) -> None:
    found = ScriptedDetector([detection_of([placed_points(5, 5, 50)])])
    (parsed,) = FacerParser(found, config_of(tmp_path, LAPA)).parse([photo((64, 64))])
    assert parsed.labels is not None
    weight = torch.ones(1, requires_grad=True)
    (torch.from_numpy(parsed.labels).float() * weight).sum().backward()  # facer's own output cannot do this
    assert weight.grad is not None


@pytest.mark.facer
def test_facer_sides_follow_the_picture(facer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, _ = drawn_face((260, 260), placed_points(20, 20, 220))
    for picture, points in (
        (image, placed_points(20, 20, 220)),
        (ImageOps.mirror(image), placed_points(20, 20, 220)),
    ):
        parser = FacerParser(ScriptedDetector([detection_of([points])]), config_of(tmp_path, CELEBM))
        colours = ColourNetwork(448, TO_CANONICAL["celebm"])
        monkeypatch.setattr(parser.network.parser, "forward_warped", lambda x, net=colours, **_: net(x))
        (parsed,) = parser.parse([picture])
        assert parsed.labels is not None
        columns = [np.argwhere(parsed.labels == part)[:, 1].mean() for part in (R_EYE, L_EYE)]
        assert columns[0] < 130 < columns[1]


@pytest.mark.facer
def test_the_other_networks_file_is_named(facer: ModuleType, tmp_path: Path) -> None:
    path, sha256 = traced(tmp_path / "lapa.pt", 11, 448)
    config = ParserConfig(type="facer", model=CELEBM, path=path, sha256=sha256)
    parser = FacerParser(ScriptedDetector([detection_of([placed_points(5, 5, 50)])]), config)
    with pytest.raises(FaceConfigError, match=r"11 classes, vocabulary 'celebm' has 19"):
        parser.parse([photo((64, 64))])


@pytest.mark.facer
def test_files_are_checked_before_they_are_run(
    facer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_load(*args: object, **kwargs: object) -> None:
        raise AssertionError("the file was run")

    path, _ = traced(tmp_path / "net.pt", 19, 512)
    monkeypatch.setattr(torch.jit, "load", no_load)
    with pytest.raises(FaceDataError, match="TorchScript file is code"):
        FacerParser(ScriptedDetector([]), ParserConfig(type="facer", path=path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FaceDataError, match=r"celebm.main_ema_181500_jit.pt: no such file.*https://github"):
        FacerParser(ScriptedDetector([]), ParserConfig(type="facer"))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / FILES[CELEBM]).write_bytes(b"half")
    with pytest.raises(FaceDataError, match="incomplete"):
        FacerParser(ScriptedDetector([]), ParserConfig(type="facer"))


def test_sampling_by_channel_is_sampling_of_all() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3)).astype(np.uint8)
    grid = torch.rand(20, 30, 2, generator=torch.Generator().manual_seed(0)) * 2.6 - 1.3
    image = torch.from_numpy(pixels).permute(2, 0, 1).float()[None] / 255
    expected = torch.nn.functional.grid_sample(image, grid[None], align_corners=False)[0]
    assert torch.allclose(sample(Image.fromarray(pixels), grid), expected, atol=1e-6)


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "facer", None)
    with pytest.raises(FaceHostError, match=r"pip install '\.\[facer\]'` in the project's folder"):
        extras.import_extra("facer", "facer")


def test_a_torchvision_of_another_torch_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_facer.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(FaceHostError, match=r"does not fit this torch.*torchvision::nms.*index") as error:
        extras.import_extra("broken_facer", "facer")
    assert isinstance(error.value.__cause__, RuntimeError)


@pytest.mark.facer
def test_the_real_broken_pair_gives_one_clear_message() -> None:
    """In a process of its own, without the tests' cure: here facer may import (a fitting torchvision) or not."""
    code = "from llava_face_plugin.parsing.extras import import_extra; import_extra('facer', 'facer')"
    import_facer()
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    if done.returncode == 0:
        pytest.skip("this torchvision fits its torch")
    assert "FaceHostError: facer cannot be imported: torchvision is installed but does not fit" in done.stderr
