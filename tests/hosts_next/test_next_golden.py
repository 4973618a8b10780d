"""The stored branch computes on LLaVA-NeXT's package what it computes alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.golden import golden

LANGUAGE_MODELS = ("Qwen", "Llama")


@pytest.fixture(scope="module")
def tower_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return golden.save_clip(tmp_path_factory.mktemp("clip"))


def build(language_model: str, name: str, tower_path: Path) -> Any:
    import llava.model as models

    from llava_face_plugin.hosts import llava_next

    upstream = getattr(models, f"Llava{language_model}ForCausalLM")
    config = upstream.config_class(
        vocab_size=32, hidden_size=golden.LLM, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, mm_vision_tower=str(tower_path), mm_hidden_size=golden.VISION, mm_vision_select_layer=-2,
        mm_vision_select_feature="patch", mm_projector_type="mlp2x_gelu", face=golden.block(name),
    )  # fmt: skip
    llava_next.activate()
    model = llava_next.face_class(upstream)(config).eval()
    tower = model.get_vision_tower()
    if not tower.is_loaded:
        tower.load_model()
    tower.forward = golden.tower
    return model


@pytest.mark.parametrize("language_model", LANGUAGE_MODELS)
@pytest.mark.parametrize("name", golden.CASES)
def test_the_stored_branch(name: str, language_model: str, tower_path: Path) -> None:
    case = golden.Case(name, "clip")
    model = build(language_model, name, tower_path)
    projector = model.get_model().mm_projector
    projector.load_state_dict({**case.projector, **{f"face.{key}": value for key, value in case.branch.items()}})
    images = golden.images()
    with torch.no_grad():
        model.get_model().embed_tokens.weight[: golden.WORDS] = case.embedding
        tokens = model.encode_images(images)
        case.check(tokens, model.attribute_probabilities(images))
        tiles = [images[:3], images[3:4]]
        case.check(tokens, model.attribute_probabilities(tiles)[:1])  # the first tile is looked at
