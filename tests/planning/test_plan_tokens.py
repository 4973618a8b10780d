"""Tokens of images and videos: by hand, and against transformers' own processors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from llava_face_plugin.errors import FaceConfigError
from llava_face_plugin.planning.catalogue import MODELS
from llava_face_plugin.planning.tokens import best_canvas, of_image, of_tiles, of_video

NEXT, ONEVISION = MODELS["next-7b"], MODELS["onevision-7b"]
SIZES = ((1024, 1024), (640, 480), (480, 640), (178, 218), (3000, 500), (333, 2000), (1, 1), (4000, 3000))


def test_llava_15_has_one_view_whatever_the_image() -> None:
    assert of_image(MODELS["7b"], 4000, 300) == (1, 576)


def test_next_by_hand() -> None:
    # 672 x 672 of 2 x 2 tiles: 24 tokens a side and tile, no padding, a newline for each of 48 rows
    assert of_image(NEXT, 672, 672) == (5, 576 + 48 * 48 + 48)
    # 640 x 320 fills half of a 672 x 336 canvas' tiles: 2 tiles side by side, 24 rows of 48
    assert of_image(NEXT, 640, 320) == (3, 576 + 24 * 48 + 24)
    assert of_tiles(NEXT, 3) == (3, 3 * 576)


def test_onevision_by_hand() -> None:
    assert of_image(ONEVISION, 768, 768) == (5, 729 + 54 * 54 + 54)
    # 6 x 6 tiles: 162 x 162 tokens shrink by sqrt(162 * 162 / (9 * 729)) = 2 to 81 x 81
    assert of_image(ONEVISION, 2304, 2304) == (37, 729 + 81 * 81 + 81)
    assert of_video(ONEVISION, 32) == (32, 32 * 14 * 14 + 1)


def test_a_family_without_video_says_so() -> None:
    with pytest.raises(FaceConfigError, match="takes no video"):
        of_video(MODELS["7b"], 8)


def test_the_best_canvas_keeps_most_then_wastes_least() -> None:
    assert best_canvas(100, 100, ((336, 672), (672, 672), (672, 336))) == (336, 672)  # all keep it whole
    assert best_canvas(900, 300, NEXT.pinpoints) == (336, 1008)


@pytest.mark.contract
@pytest.mark.parametrize("size", SIZES)
def test_next_counts_as_transformers_does(size: tuple[int, int]) -> None:
    transformers = pytest.importorskip("transformers")
    processor = SimpleNamespace(
        image_processor=SimpleNamespace(image_grid_pinpoints=[list(p) for p in NEXT.pinpoints]), patch_size=14,
        num_additional_image_tokens=0, vision_feature_select_strategy="default",
    )  # fmt: skip
    cls = getattr(transformers, "LlavaNextProcessor", None)
    if not hasattr(cls, "_get_number_of_features"):
        pytest.skip("this transformers has no LLaVA-NeXT, or counts elsewhere")
    processor._get_unpadded_features = lambda *a: cls._get_unpadded_features(processor, *a)
    width, height = size
    assert of_image(NEXT, width, height).tokens == cls._get_number_of_features(processor, height, width, 336, 336)


@pytest.mark.contract
@pytest.mark.parametrize("size", SIZES)
def test_onevision_counts_as_transformers_does(size: tuple[int, int]) -> None:
    module = pytest.importorskip("transformers.models.llava_onevision.processing_llava_onevision")
    processor = SimpleNamespace(
        image_processor=SimpleNamespace(image_grid_pinpoints=[list(p) for p in ONEVISION.pinpoints]),
        num_image_tokens=729, vision_aspect_ratio="anyres_max_9",
    )  # fmt: skip
    cls = module.LlavaOnevisionProcessor
    processor._get_unpadded_features = lambda *a: cls._get_unpadded_features(processor, *a)
    width, height = size
    assert of_image(ONEVISION, width, height).tokens == cls._get_number_of_features(processor, height, width, 384, 384)
