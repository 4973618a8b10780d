"""The stored branch computes on LLaVA 1.5's package what it computes alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.golden import golden

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def tower_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return golden.save_clip(tmp_path_factory.mktemp("clip"))


def build(name: str, tower_path: Path) -> Any:
    from llava.model.language_model.llava_llama import LlavaConfig

    from llava_face_plugin.hosts import llava_v1

    config = LlavaConfig(
        vocab_size=32, hidden_size=golden.LLM, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, mm_vision_tower=str(tower_path), mm_hidden_size=golden.VISION, mm_vision_select_layer=-2,
        mm_vision_select_feature="patch", mm_projector_type="mlp2x_gelu", face=golden.block(name),
    )  # fmt: skip
    llava_v1.activate()
    model = llava_v1.face_class()(config).eval()
    tower = model.get_vision_tower()
    tower.load_model()
    tower.forward = golden.tower
    return model


@pytest.mark.parametrize("name", golden.CASES)
def test_the_stored_branch(name: str, tower_path: Path) -> None:
    case = golden.Case(name, "clip")
    model = build(name, tower_path)
    projector = model.get_model().mm_projector
    projector.load_state_dict({**case.projector, **{f"face.{key}": value for key, value in case.branch.items()}})
    with torch.no_grad():
        model.get_model().embed_tokens.weight[: golden.WORDS] = case.embedding
        case.check(model.encode_images(golden.images()), model.attribute_probabilities(golden.images()))
