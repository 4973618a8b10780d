"""Asking a face model of LLaVA-NeXT: whole visuals, generation, maps found by the pixels, and loading by any name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from llava_face_plugin.hosts.llava.causal_lm import whole_visuals
from llava_face_plugin.labels import NO_MAP
from llava_face_plugin.switch import enable
from tests.hosts_next import next_models
from tests.hosts_next.conftest import Assets

pytestmark = pytest.mark.contract


def test_an_image_is_its_first_tile_and_a_video_the_mean_of_its_frames() -> None:
    """By hand: six tiles and frames of one token of width one, numbered."""
    tokens = torch.arange(6.0)[:, None, None]
    image, frames, text = torch.zeros(3, 4, 2, 2), torch.zeros(2, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    found = whole_visuals(tokens, [image, frames, text], ["image", "video", "text"])
    assert found.flatten().tolist() == [0.0, (3.0 + 4.0) / 2, 5.0]
    # Several images are handed over without a dimension for tiles; "image" alone stands for all of them.
    assert whole_visuals(tokens[:3], [image[0], image[0], image[0]], ["image"]).flatten().tolist() == [0.0, 1.0, 2.0]
    assert whole_visuals(tokens[:2], [frames], "video").flatten().tolist() == [0.5]
    stacked = torch.stack([frames, frames])  # as upstream takes equal shapes too: (B, T, C, H, W)
    assert whole_visuals(tokens[:4], stacked, ["video", "image"]).flatten().tolist() == [0.5, 2.0]
    assert torch.equal(whole_visuals(tokens[:2], frames, None), tokens[:2])  # (B, C, H, W): images as they are


@pytest.fixture(scope="module")
def face(assets: Assets) -> tuple[Any, Any, Any]:
    path = next_models.switched_on(next_models.plain(assets), assets.root / "llava-on-qwen-checkpoint")
    tokenizer, model, processor = next_models.load(path, assets)
    return tokenizer, next_models.open_gates(model), processor


@pytest.mark.parametrize("kind", ["images", "multi_image", "video", "text"])
def test_generate_equals_teacher_forcing(face: tuple[Any, Any, Any], assets: Assets, kind: str) -> None:
    from llava.constants import IMAGE_TOKEN_INDEX

    tokenizer, model, processor = face
    inputs = next_models.batch(model, tokenizer, processor, assets.data / f"{kind}.json")
    images = (inputs["input_ids"][0] == IMAGE_TOKEN_INDEX).nonzero()
    prompt = inputs["input_ids"][:1, : (int(images.max()) if len(images) else 40) + 20]
    visual = {key: inputs[key] for key in ("images", "image_sizes", "modalities")}
    count = {"multi_image": 2}.get(kind, 1)
    visual = {} if kind == "text" else {key: value[:count] for key, value in visual.items()}
    answer = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=5, use_cache=True,
        pad_token_id=0, eos_token_id=-1, **visual,
    )  # fmt: skip
    assert answer.shape == (1, 5)
    whole = torch.cat([prompt, answer], dim=1)
    with torch.no_grad():
        logits = model(input_ids=whole, attention_mask=torch.ones_like(whole), **visual).logits
    assert torch.equal(logits[0, -6:-1].argmax(-1), answer[0])


def test_a_map_of_any_tile_or_frame_matters(face: tuple[Any, Any, Any], assets: Assets) -> None:
    tokenizer, model, processor = face
    for kind in ("images", "video"):
        inputs = next_models.batch(model, tokenizer, processor, assets.data / f"{kind}.json")
        with torch.no_grad():
            before = model(**inputs).logits
            inputs["images"][0][-1, 3] = 13  # the last tile, or frame: all hair
            assert not torch.equal(model(**inputs).logits, before), kind


def test_probabilities_are_those_of_the_training(face: tuple[Any, Any, Any], assets: Assets) -> None:
    tokenizer, model, processor = face
    inputs = next_models.batch(model, tokenizer, processor, assets.data / "mixed.json")
    found = model.attribute_probabilities(inputs["images"], inputs["modalities"])
    assert tuple(found.shape) == (len(inputs["images"]), next_models.VOCABULARY)
    assert bool(((found >= 0) & (found <= 1)).all())
    alone = torch.cat([
        model.attribute_probabilities([image], [kind])
        for image, kind in zip(inputs["images"], inputs["modalities"], strict=True)
    ])  # fmt: skip
    assert torch.allclose(found, alone, atol=1e-5)


def test_maps_are_found_by_the_pixels(assets: Assets, tmp_path: Path, caplog: Any) -> None:
    from llava.mm_utils import process_images

    from llava_face_plugin.parsing.precomputed import index

    pairs = [(assets.data / "face0.png", assets.data / "maps" / "face0.png")]
    parser = {"type": "precomputed", "path": str(index(pairs, tmp_path).path)}
    out = tmp_path / "llava-qwen-asked"
    enable(next_models.plain(assets), knowledge="made", out=out, settings={"segmentation": {"parser": parser}})
    tokenizer, model, processor = next_models.load(out, assets)
    known, unknown = (Image.open(assets.data / f"face{i}.png") for i in (0, 2))
    first, second = process_images([known, unknown], processor, model.config)
    assert not bool((first[0, 3] == NO_MAP).any()) and bool((second[:, 3] == NO_MAP).all())
    data = tmp_path / "one.json"
    samples = json.loads((assets.data / "images.json").read_text())
    for sample in samples:
        sample["image"], sample["face_map"] = (str(assets.data / sample.get(k, "")) for k in ("image", "face_map"))
    data.write_text(json.dumps(samples[:1]))
    trained = next_models.batch(model, tokenizer, processor, data)["images"][0]
    assert torch.equal(first, trained)  # the very tiles that training made of the sample's face_map
    prompt = torch.tensor([[257, 10, -200, 12]])
    model.generate(prompt, images=[first], image_sizes=[known.size], max_new_tokens=1, do_sample=False, pad_token_id=0)
    assert "precomputed" in caplog.text


def test_a_directory_may_be_called_anything(assets: Assets, tmp_path: Path, caplog: Any) -> None:
    """Upstream goes by the name, and loads a Qwen2 as a Llama: with other logits, and without an error."""
    path = next_models.plain(assets)
    on = next_models.switched_on(path, tmp_path / "llava-run-7")
    _, model, processor = next_models.load(on, assets)
    assert type(model).__name__ == "LlavaFaceQwenForCausalLM" and "by its name" in caplog.text
    tokenizer, base, _ = next_models.load(path, assets)
    inputs = next_models.batch(model, tokenizer, processor, assets.data / "images.json")
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, base(**next_models.plain_inputs(inputs)).logits)


def test_a_frame_may_be_an_array_or_a_picture(face: tuple[Any, Any, Any], assets: Assets) -> None:
    """decord gives upstream (F, H, W, 3) arrays, a folder of frames PIL images."""
    _, _, processor = face
    frames = np.stack([np.asarray(Image.open(assets.data / "face0.png"))] * 2)
    arrays = processor.preprocess(frames, return_tensors="pt")["pixel_values"]
    pictures = processor.preprocess([Image.fromarray(f) for f in frames], return_tensors="pt")["pixel_values"]
    assert tuple(arrays.shape) == (2, 4, 56, 56) and torch.equal(arrays, pictures)
