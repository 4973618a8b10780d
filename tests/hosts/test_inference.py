"""Asking a face model: maps, keywords, offloading, an own ViT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from llava_face_plugin.errors import FaceHostError
from llava_face_plugin.hosts.llava.gate import unwrap
from llava_face_plugin.labels import NO_MAP
from llava_face_plugin.switch import enable

from . import upstream
from .models import COMBINATIONS, FACE, batch, load, switched_on

pytestmark = pytest.mark.contract


def test_upstreams_generate_takes_the_map_channel(checkpoint: Path, root: Path) -> None:
    model = load(switched_on(checkpoint, root / "llava-part-embedding-gated_add"))
    inputs = batch(model, size=2)
    prompt = inputs["input_ids"][:1]
    arguments = {"do_sample": False, "max_new_tokens": 4, "use_cache": True}
    with_map = model.generate(prompt, images=inputs["images"][:1], **arguments)
    plain = load(checkpoint).generate(prompt, images=inputs["images"][:1, :3], **arguments)
    assert torch.equal(with_map, plain)  # gates are closed
    torch.nn.init.constant_(model.get_model().mm_projector.face.fusion.gate, 1.0)
    other = inputs["images"].clone()
    other[0, 3] = 13  # all hair
    with torch.no_grad():
        tokens = [model.encode_images(images[:1]) for images in (inputs["images"], other, inputs["images"][:, :3])]
    assert not torch.equal(tokens[0], tokens[1]) and not torch.equal(tokens[0], tokens[2])


def test_from_pretrained_takes_keywords_as_upstream_does(checkpoint: Path, root: Path) -> None:
    from llava.model import LlavaLlamaForCausalLM

    face = switched_on(checkpoint, root / "llava-part-embedding-gated_add")
    for path in (checkpoint, face):
        model = LlavaLlamaForCausalLM.from_pretrained(pretrained_model_name_or_path=str(path), use_cache=False)
        assert model.config.use_cache is False
    with pytest.raises((OSError, ValueError), match="nowhere"):
        LlavaLlamaForCausalLM.from_pretrained(str(root / "nowhere"))
    with pytest.raises(FaceHostError, match="llm_int8_skip_modules"):
        LlavaLlamaForCausalLM.from_pretrained(str(face), load_in_4bit=True)


def test_an_offloaded_projector_still_works(checkpoint: Path, root: Path) -> None:
    """``device_map="auto"`` may keep the projector elsewhere and bring it in for each call."""
    from accelerate import cpu_offload

    for encoder, fusion in COMBINATIONS:
        model = load(switched_on(checkpoint, root / f"llava-{encoder}-{fusion}", encoder, fusion))
        inputs = batch(model)
        with torch.no_grad():
            expected = model.encode_images(inputs["images"])
            cpu_offload(model.get_model().mm_projector, execution_device=torch.device("cpu"))
            assert torch.equal(model.encode_images(inputs["images"]), expected)


def test_the_palette_can_have_a_vit_of_its_own(base: Path, faces: Path, root: Path) -> None:
    source = root / "base-own-vit"
    enable(
        base, knowledge="made", out=source,
        settings={"segmentation": {"encoder": "vit-palette", "vision_tower": str(base / "clip")}},
    )  # fmt: skip
    out = root / "llava-own-vit"
    trainer = upstream.train(upstream.flags(source, base / "clip", faces, out))
    trained = unwrap(trainer.model).eval()
    assert trained._own_vit is not None
    names = [name for name, _ in trained.named_parameters() if FACE in name]
    assert names and not any("vision_model" in name or "encoder.layers" in name for name in names)
    again = load(out)
    for model in (trained, again):
        model.get_vision_tower().half().float()
    inputs = batch(trained)
    with torch.no_grad():
        expected = trained(**inputs).logits
        assert torch.equal(expected, again(**inputs).logits)
        moved = {**inputs, "images": inputs["images"].clone()}
        moved["images"][0, 3] = 13  # all hair
        assert not torch.equal(expected, again(**moved).logits)


def test_inference_finds_the_map_by_the_images_pixels(checkpoint: Path, faces: Path, root: Path, caplog: Any) -> None:
    from llava.mm_utils import process_images
    from llava.model.builder import load_pretrained_model
    from PIL import Image

    from llava_face_plugin.hosts.label_channel import square, through_processor
    from llava_face_plugin.maps.files import read_map

    out = root / "llava-parser"
    parser = {"parser": {"type": "precomputed", "path": str(faces / "index.json")}}
    enable(checkpoint, knowledge="made", out=out, settings={"segmentation": parser})
    _, model, processor, _ = load_pretrained_model(str(out), None, "llava-parser", device="cpu", device_map=None)
    sample = next(s for s in json.loads((faces / "train.json").read_text()) if "image" in s)
    picture = Image.open(faces / sample["image"]).convert("RGB")
    assert model.config.image_aspect_ratio == "pad"
    images = process_images([picture], processor, model.config)
    expected = through_processor(square(read_map(faces / sample["face_map"])), processor)
    assert images.shape[1] == 4 and torch.equal(images[0, 3], expected.float())
    assert len(expected.unique()) > 5
    stranger = process_images([Image.new("RGB", (40, 30), (9, 9, 9))], processor, model.config)
    assert bool((stranger[0, 3] == NO_MAP).all())
    prompt = batch(model)["input_ids"][:1]
    with caplog.at_level("WARNING", logger="llava_face_plugin"):
        for _ in range(2):
            model.generate(prompt, images=images.half(), do_sample=False, max_new_tokens=1)
    said = [r.getMessage() for r in caplog.records if r.name == "llava_face_plugin"]
    assert said == ["face mode: label maps come from the parser 'precomputed', or with the images"]
