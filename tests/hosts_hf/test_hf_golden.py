"""The stored branch computes in transformers' Llava families what it computes alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from llava_face_plugin.hosts import hf
from tests.golden import golden

from . import tiny_hf

pytestmark = pytest.mark.contract

CLASSES = {
    "llava": (hf.FaceLlavaConfig, hf.FaceLlavaForConditionalGeneration),
    "llava_next": (hf.FaceLlavaNextConfig, hf.FaceLlavaNextForConditionalGeneration),
    "llava_onevision": (hf.FaceLlavaOnevisionConfig, hf.FaceLlavaOnevisionForConditionalGeneration),
    "llava_next_video": (hf.FaceLlavaNextVideoConfig, hf.FaceLlavaNextVideoForConditionalGeneration),
}
TOWER = {"llava_onevision": "siglip"}
CASES = [
    (family, name)
    for family in CLASSES
    for name in golden.CASES
    if family == "llava" or "append" not in name  # refused with tiles
]


def build(family: str, name: str) -> Any:
    configuration, head = CLASSES[family]
    kind = TOWER.get(family, "clip")
    vision = {
        "model_type": f"{kind}_vision_model", "hidden_size": golden.VISION, "intermediate_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": golden.SIDE,
        "patch_size": golden.SIDE // golden.GRID,
    }  # fmt: skip
    text = {
        "model_type": "llama", "vocab_size": 32, "hidden_size": golden.LLM, "intermediate_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
    }  # fmt: skip
    tiles = {} if family == "llava" else {"image_grid_pinpoints": [[112, 112]]}
    model = head(configuration(vision_config=vision, text_config=text, face=golden.block(name), **tiles)).eval()
    model.model.vision_tower.forward = with_class_token if kind == "clip" else alone
    return model


def alone(pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
    features = golden.tower(pixel_values)
    return BaseModelOutputWithPooling(last_hidden_state=features, hidden_states=(features,) * 3)


def with_class_token(pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
    features = torch.nn.functional.pad(golden.tower(pixel_values), (0, 0, 1, 0))  # upstream drops it
    return BaseModelOutputWithPooling(last_hidden_state=features, hidden_states=(features,) * 3)


@pytest.mark.parametrize(("family", "name"), CASES)
def test_the_stored_branch(family: str, name: str) -> None:
    case = golden.Case(name, TOWER.get(family, "clip"))
    model = build(family, name)
    projector = model.model.multi_modal_projector
    plain = {key.replace("0.", "linear_1.").replace("2.", "linear_2."): v for key, v in case.projector.items()}
    projector.load_state_dict({**plain, **{f"face.{key}": value for key, value in case.branch.items()}})
    seen: list[Tensor] = []
    projector.register_forward_hook(lambda module, args, output: seen.append(output))
    inputs: dict[str, Tensor] = {"pixel_values": golden.images()}
    if family != "llava":  # one image of five tiles
        inputs = {"pixel_values": golden.images()[None], "image_sizes": torch.tensor([[112, 112]])}
    with torch.no_grad():
        model.get_input_embeddings().weight[: golden.WORDS] = case.embedding
        probabilities = model.attribute_probabilities(**inputs)
    case.check(seen[0], probabilities)


def test_every_family_is_there() -> None:
    assert set(CLASSES) == set(tiny_hf.FAMILIES)
