"""CropParser: the right face at the right place, whatever the batch, the size and the number of faces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from llava_face_plugin.errors import FaceHostError
from llava_face_plugin.labels import NUM_PARTS
from llava_face_plugin.maps.overlay import paint
from llava_face_plugin.maps.vocabularies import TO_CANONICAL
from llava_face_plugin.parser_config import ParserConfig
from llava_face_plugin.parsing.base import Parser
from llava_face_plugin.parsing.cropped import CropParser, framing
from llava_face_plugin.parsing.detectors.base import Detection
from llava_face_plugin.parsing.detectors.whole import WholeImage
from tests.parsing.standins import (
    L_EYE,
    NOSE,
    R_EYE,
    ColourNetwork,
    ScriptedDetector,
    detection_of,
    drawn_face,
    drawn_map,
    placed_points,
)

NOBODY = detection_of([])


def parser_of(detections: list[Detection] | None, network: ColourNetwork | None = None, **settings: object) -> Parser:
    """A CropParser on drawn faces; without detections the whole image is one face."""
    detector = {"detector": "yunet", "detector_path": "y"} if detections is not None else {}
    config = ParserConfig(type="torchscript", path="x", size=64, **{**detector, **settings})
    found = WholeImage() if detections is None else ScriptedDetector(detections)
    return CropParser("torchscript", found, network or ColourNetwork(), framing(config.align), config)


def middle(labels: np.ndarray, part: int) -> np.ndarray:
    """Median (x, y) of a part's pixels."""
    return np.median(np.argwhere(labels == part)[:, ::-1] + 0.5, axis=0)


@pytest.mark.parametrize("align", ["whole", "box", "celeba-hq", "celebm"])
def test_every_alignment_finds_the_parts_where_they_are(align: str) -> None:
    points = placed_points(150, 60, 320)
    image, labels = drawn_face((600, 450), points)
    (parsed,) = parser_of([detection_of([points])], align=align).parse([image])
    assert parsed.labels is not None and parsed.labels.shape == (450, 600) and parsed.labels.dtype == np.uint8
    for part in (NOSE, L_EYE, R_EYE):
        assert np.abs(middle(parsed.labels, part) - middle(labels, part)).max() <= 1
    assert (parsed.labels == labels)[parsed.labels != 0].mean() > 0.9
    (face,) = parsed.faces
    assert face.score == pytest.approx(0.9) and 0.9 < face.confidence <= 1.0
    assert face.box[0] < points[0, 0] < face.box[2] and face.box[1] < points[0, 1] < face.box[3]


def test_no_face_means_nothing_is_known() -> None:
    image = Image.new("RGB", (40, 30))
    network = ColourNetwork()
    (parsed,) = parser_of([NOBODY], network).parse([image])
    assert parsed.labels is None and parsed.faces == () and network.batches == []
    assert parser_of([]).parse([]) == []


def test_points_that_allow_no_crop_are_no_face() -> None:
    mirrored = np.array([[50.0, 0], [0, 0], [25, 25], [50, 50], [0, 50]], dtype=np.float32)
    (parsed,) = parser_of([detection_of([mirrored])], align="celebm").parse([Image.new("RGB", (60, 60))])
    assert parsed.labels is None and parsed.faces == ()


def two_faces() -> tuple[Image.Image, np.ndarray, Detection]:
    small, large = placed_points(20, 40, 120), placed_points(220, 20, 320)
    labels = drawn_map((560, 360), large)
    other = drawn_map((560, 360), small)
    labels[other != 0] = other[other != 0]
    return paint(labels), labels, detection_of([small, large])


def test_the_main_face_is_the_one_with_the_largest_box() -> None:
    image, labels, found = two_faces()
    (parsed,) = parser_of([found]).parse([image])
    assert parsed.labels is not None and len(parsed.faces) == 1
    assert (parsed.labels[:, :200] == 0).all()
    assert parsed.faces[0].box[0] > 200
    assert (parsed.labels == labels)[:, 260:].mean() > 0.95


def test_all_faces_are_in_one_map_up_to_max_faces() -> None:
    image, labels, found = two_faces()
    (parsed,) = parser_of([found], faces="all").parse([image])
    assert parsed.labels is not None and [face.box[0] > 200 for face in parsed.faces] == [True, False]
    assert np.abs(middle(parsed.labels[:, :200], NOSE) - middle(labels[:, :200], NOSE)).max() <= 1
    (limited,) = parser_of([found], faces="all", max_faces=1).parse([image])
    (main,) = parser_of([found]).parse([image])
    assert np.array_equal(limited.labels, main.labels) and len(limited.faces) == 1


def test_where_faces_overlap_the_larger_box_wins() -> None:
    points = placed_points(40, 40, 300)
    inner = points.mean(axis=0) + 0.3 * (points - points.mean(axis=0))
    image, _ = drawn_face((400, 400), points)
    (both,) = parser_of([detection_of([inner, points])], faces="all").parse([image])
    (large,) = parser_of([detection_of([points])]).parse([image])
    assert both.labels is not None and large.labels is not None and len(both.faces) == 2
    covered = large.labels != 0
    assert np.array_equal(both.labels[covered], large.labels[covered])


def test_sides_are_decided_for_each_face() -> None:
    """A network that exchanges the eyes of every face is put right, also where the faces stand side by side."""
    image, labels, found = two_faces()
    swapped = list(range(NUM_PARTS))
    swapped[L_EYE], swapped[R_EYE] = R_EYE, L_EYE
    network = ColourNetwork()
    network.to_canonical = tuple(swapped)  # the colours are read right, then named wrongly
    (parsed,) = parser_of([found], network, faces="all").parse([image])
    assert parsed.labels is not None
    for part in (L_EYE, R_EYE):
        for columns in (slice(0, 200), slice(200, 560)):
            gap = middle(parsed.labels[:, columns], part) - middle(labels[:, columns], part)
            assert np.abs(gap).max() <= 1


def test_a_mirrored_picture_gives_the_mirrored_map_with_sides_by_the_picture() -> None:
    points = placed_points(20, 30, 200)
    image, labels = drawn_face((260, 260), points)
    (parsed,) = parser_of(None).parse([ImageOps.mirror(image)])
    assert parsed.labels is not None
    assert middle(parsed.labels, L_EYE)[0] > middle(parsed.labels, R_EYE)[0]
    assert np.abs(middle(parsed.labels, NOSE)[0] - (260 - middle(labels, NOSE)[0])) <= 1


def pictures() -> tuple[list[Image.Image], list[Detection]]:
    images, found = [], []
    for i, size in enumerate([(300, 200), (64, 64), (90, 400), (300, 200), (512, 512), (31, 17), (200, 200)]):
        sides = [0.5 * min(size), 0.8 * min(size)] if i % 3 else [0.7 * min(size)]
        points = [placed_points(3 * n, 0.1 * size[1], side) for n, side in enumerate(sides)]
        images.append(drawn_face(size, points[-1])[0])
        found.append(NOBODY if i == 3 else detection_of(points))
    return images, found


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batches_and_order_change_nothing(batch_size: int) -> None:
    images, found = pictures()
    network = ColourNetwork(128)
    together = parser_of(found, network, faces="all", batch_size=batch_size).parse(images)
    assert max(network.batches) == min(batch_size, sum(len(d.boxes) for d in found))
    for i in range(len(images)):
        (alone,) = parser_of([found[i]], ColourNetwork(128), faces="all").parse([images[i]])
        assert np.array_equal(alone.labels, together[i].labels) and alone.faces == together[i].faces
    backwards = parser_of(found[::-1], ColourNetwork(128), faces="all", batch_size=batch_size).parse(images[::-1])
    for one, other in zip(together, backwards[::-1], strict=True):
        assert np.array_equal(one.labels, other.labels) and one.faces == other.faces


def test_on_a_cpu_faces_go_one_by_one_unless_told_otherwise() -> None:
    images, network = [Image.new("RGB", (20, 20))] * 3, ColourNetwork(64)
    parser_of(None, network).parse(images)
    parser_of(None, network, batch_size=2).parse(images)
    assert network.batches == [1, 1, 1, 2, 1]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
@pytest.mark.parametrize("size", [(1, 1), (2, 700), (700, 2), (5, 5)])
def test_images_of_any_size_and_mode(mode: str, size: tuple[int, int]) -> None:
    (parsed,) = parser_of(None).parse([Image.new(mode, size)])
    assert parsed.labels is not None and parsed.labels.shape == size[::-1]
    assert parsed.faces[0].box == (0.0, 0.0, float(size[0]), float(size[1])) and parsed.faces[0].score == 1.0


def test_results_are_plain_and_carry_no_graph() -> None:
    class Trained(ColourNetwork):
        def __call__(self, crops: torch.Tensor) -> torch.Tensor:
            return super().__call__(crops) * torch.nn.Parameter(torch.ones(1))

    (parsed,) = parser_of(None, Trained()).parse([Image.new("RGB", (9, 9), (204, 0, 0))])
    assert type(parsed.labels) is np.ndarray and type(parsed.faces[0].confidence) is float
    assert parsed.labels.flags.writeable and not torch.is_inference_mode_enabled()


def test_a_network_that_gives_nan_is_said() -> None:
    class Broken(ColourNetwork):
        def __call__(self, crops: torch.Tensor) -> torch.Tensor:
            return super().__call__(crops) * torch.nan

    with pytest.raises(FaceHostError, match="NaN"):
        parser_of(None, Broken()).parse([Image.new("RGB", (9, 9))])


@pytest.mark.parametrize("vocabulary", list(TO_CANONICAL))
def test_every_vocabulary_ends_in_canonical_ids(vocabulary: str) -> None:
    points = placed_points(20, 20, 220)
    image, labels = drawn_face((260, 260), points)
    (parsed,) = parser_of(None, ColourNetwork(256, TO_CANONICAL[vocabulary])).parse([image])
    assert parsed.labels is not None and (parsed.labels == labels).mean() > 0.97


def test_digest_tells_what_decides_the_map_and_nothing_else() -> None:
    base = parser_of(None)
    assert base.digest == parser_of(None, batch_size=1).digest and len(base.digest) == 64
    others = [
        parser_of(None, faces="all"), parser_of(None, min_score=0.7), parser_of(None, ColourNetwork(128)),
        parser_of(None, ColourNetwork(256, TO_CANONICAL["bisenet"])), parser_of([NOBODY], align="celebm"),
        parser_of([NOBODY], align="celeba-hq"),
    ]  # fmt: skip
    assert len({base.digest, *(parser.digest for parser in others)}) == 7
    assert isinstance(base, Parser)
