"""LLaVA 1.5's own checkpoints and transformers' say the same, whichever was made from the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from checkpoint_models import asked_hf, asked_v1, llava_v1, load_hf, load_v1, question
from PIL import Image
from safetensors.torch import load_file, save_file

from llava_face_plugin.checkpoints import convert
from llava_face_plugin.errors import FaceConfigError
from llava_face_plugin.model_files import read_config, write_config

pytestmark = pytest.mark.contract

CASES: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "face": {},
    "knowledge": {"knowledge": "made"},
    "palette": {"settings": {"segmentation": {"encoder": "vit-palette"}, "fusion": {"type": "channel"}}},
    "append": {"settings": {"fusion": {"type": "append"}}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("convert")


def made(tiny_base: Path, folder: Path, case: str) -> tuple[Path, Path, Path]:
    """LLaVA's checkpoint, transformers' of it, and LLaVA's of that; made once."""
    first, second, third = folder / f"llava-{case}", folder / f"{case}-hf", folder / f"llava-{case}-back"
    if not first.exists():
        llava_v1(tiny_base, first, CASES[case])
        convert(first, second, "hf")
        convert(second, third, "llava")
    return first, second, third


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
def test_logits_are_equal_both_ways(tiny_base: Path, folder: Path, case: str, dtype: torch.dtype) -> None:
    first, second, third = made(tiny_base, folder, case)
    ids, pixels = question()
    if case == "plain":
        pixels = pixels[:, :3]
    tokens = 32 if case == "append" else 16
    here, there = load_v1(first, dtype), load_hf(second, dtype)
    expected = asked_v1(here, ids, pixels)
    found = asked_hf(there, ids, pixels, tokens)
    width = expected.shape[1]
    # One ulp of the dtype at these logits, below 1: the same operations, perhaps in another order.
    tolerance = 1e-5 if dtype is torch.float32 else 2**-7
    assert torch.allclose(found[:, :width], expected, atol=tolerance, rtol=0)
    assert torch.equal(asked_v1(load_v1(third, dtype), ids, pixels), expected)
    assert found[:, width:].max(dim=1).values.lt(found[:, :width].max(dim=1).values).all(), "a new token is preferred"
    if case != "plain":
        changed = pixels.clone()
        changed[:, 3] = 4
        assert not torch.equal(asked_v1(here, ids, changed), expected), "the map does not count"
        assert torch.allclose(
            asked_hf(there, ids, changed, tokens)[:, :width], asked_v1(here, ids, changed), atol=tolerance, rtol=0
        )


def test_attributes_are_read_alike(tiny_base: Path, folder: Path) -> None:
    first, second, _ = made(tiny_base, folder, "knowledge")
    _, pixels = question()
    expected = load_v1(first).attribute_probabilities(pixels)
    assert torch.allclose(load_hf(second).attribute_probabilities(pixels), expected, atol=1e-6)


def test_there_and_back_is_the_same_model(tiny_base: Path, folder: Path) -> None:
    first, _, third = made(tiny_base, folder, "knowledge")
    before, after = load_file(first / "model.safetensors"), load_file(third / "model.safetensors")
    kept = {name: t for name, t in before.items() if ".vision_tower." not in name}  # it lies in a folder of its own
    assert kept.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in kept.items())
    configs = [json.loads((folder / "config.json").read_text()) for folder in (first, third)]
    assert {k: v for k, v in configs[1].items() if k in configs[0] and configs[0][k] != v}.keys() <= {
        "architectures", "mm_vision_tower", "torch_dtype",
    }  # fmt: skip
    assert configs[0]["face"] == configs[1]["face"]
    assert (first / "tokenizer.model").read_bytes() == (third / "tokenizer.model").read_bytes()


@pytest.mark.parametrize("face", [False, True])
def test_anyres_tiles_are_laid_out_alike(tiny_base: Path, folder: Path, face: bool) -> None:
    from llava.mm_utils import get_anyres_image_grid_shape

    # Not symmetric: LLaVA has (width, height), transformers (height, width).
    pinpoints = [[56, 112], [112, 112], [168, 56], [224, 56]]
    first, second, third = (folder / f"llava-tiles-{face}{end}" for end in ("", "-hf", "-back"))
    llava_v1(
        tiny_base, first, {"knowledge": "made"} if face else None, image_aspect_ratio="anyres",
        mm_patch_merge_type="spatial_unpad", image_grid_pinpoints=pinpoints,
    )  # fmt: skip
    assert convert(first, second, "hf").family == "llava_next"
    convert(second, third, "llava")
    here, there, back = load_v1(first), load_hf(second), load_v1(third)
    assert back.config.image_grid_pinpoints == pinpoints
    for width, height in ((60, 100), (200, 50), (56, 56)):
        columns, rows = get_anyres_image_grid_shape((width, height), pinpoints, 56)
        ids, pixels = question((1 + columns * rows,))
        pixels = pixels if face else pixels[:, :, :3]
        expected = asked_v1(here, ids, pixels, image_sizes=[(width, height)])
        assert torch.equal(asked_v1(back, ids, pixels, image_sizes=[(width, height)]), expected)
        found = asked_hf(
            there, ids, pixels, len(expected) - ids.shape[1] + 1, image_sizes=torch.tensor([[height, width]])
        )
        assert torch.allclose(found[:, : expected.shape[1]], expected, atol=1e-5), (width, height)


def test_the_processor_prepares_what_llava_prepares(tiny_base: Path, folder: Path) -> None:
    from llava.conversation import conv_templates
    from llava.mm_utils import process_images, tokenizer_image_token
    from transformers import AutoProcessor, AutoTokenizer

    first, second, _ = made(tiny_base, folder, "knowledge")
    processor = AutoProcessor.from_pretrained(second)
    model = load_v1(first)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8))
    said = [("user", "Is the person smiling?"), ("assistant", "Yes"), ("user", "Why?")]
    messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in said]
    messages[0]["content"].insert(0, {"type": "image"})  # type: ignore[attr-defined]
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
    conversation = conv_templates["vicuna_v1"].copy()
    for n, (_, text) in enumerate([*said, ("assistant", None)]):
        conversation.append_message(conversation.roles[n % 2], ("<image>\n" + text) if n == 0 else text)
    assert prompt == conversation.get_prompt()
    inputs = processor(images=[image], text=[prompt], return_tensors="pt")
    pixels = process_images([image], model.get_vision_tower().image_processor, model.config)
    assert torch.allclose(inputs["pixel_values"], pixels, atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(first, use_fast=False)
    ids = tokenizer_image_token(prompt, tokenizer, -200)
    # LLaVA tokenises what follows the image as a text of its own, which puts a blank ("▁") in front of it.
    own = ids[: ids.index(-200)] + ids[ids.index(-200) + 2 :]
    image_id = processor.tokenizer.convert_tokens_to_ids("<image>")
    assert [i for i in inputs["input_ids"][0].tolist() if i != image_id] == own


def test_the_tokens_of_transformers_come_and_go(tiny_base: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    first, second, third = made(tiny_base, folder, "plain")
    sizes = [len(AutoTokenizer.from_pretrained(path)) for path in (first, second, third)]
    assert sizes == [768, 770, 768]
    embeddings = load_file(second / "model.safetensors")["language_model.model.embed_tokens.weight"]
    assert embeddings.shape[0] == 832  # 770 padded to a multiple of 64
    assert torch.allclose(embeddings[768:].float(), embeddings[:768].float().mean(0), atol=1e-3)


@pytest.mark.skipif(
    transformers.__version__.startswith("5."), reason="llava 1.2.2 cannot load a trained tower on transformers 5"
)
def test_a_trained_tower_is_the_checkpoints_own(tiny_base: Path, folder: Path) -> None:
    """``unfreeze_mm_vision_tower``: LLaVA then reads the tower from the checkpoint, and not from its directory."""
    first, second = folder / "llava-tower", folder / "tower-hf"
    llava_v1(tiny_base, first)
    prefix, name = "model.vision_tower.vision_tower.", "vision_model.embeddings.class_embedding"
    trained = load_file(tiny_base / "clip" / "model.safetensors")
    trained[name] = trained[name] + 1
    weights = load_file(first / "model.safetensors") | {prefix + n: t for n, t in trained.items()}
    save_file(weights, first / "model.safetensors", metadata={"format": "pt"})
    write_config(first, read_config(first) | {"unfreeze_mm_vision_tower": True})
    convert(first, second, "hf")
    ids, pixels = question()
    expected = asked_v1(load_v1(first), ids, pixels[:, :3])
    found = asked_hf(load_hf(second), ids, pixels[:, :3], 16)
    assert torch.allclose(found[:, : expected.shape[1]], expected, atol=1e-5)
    assert torch.equal(load_file(second / "model.safetensors")[f"vision_tower.{name}"], trained[name])
    # A name for the configuration: the trained weights then are in the checkpoint, and are what is loaded.
    convert(second, folder / "llava-tower-back", "llava", vision_tower=str(tiny_base / "clip"))
    assert not (folder / "llava-tower-back" / "vision_tower").exists()
    assert torch.equal(asked_v1(load_v1(folder / "llava-tower-back"), ids, pixels[:, :3]), expected)


def test_a_stopped_conversion_goes_on(
    tiny_base: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llava_face_plugin.checkpoints import shards

    first, second, _ = made(tiny_base, folder, "face")
    monkeypatch.setattr(shards, "SHARD_BYTES", 200_000)
    written: list[Path] = []
    plain = shards.write_safetensors

    def write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        plain(path, tensors)

    monkeypatch.setattr(shards, "write_safetensors", write)
    with pytest.raises(KeyboardInterrupt):
        convert(first, tmp_path / "out", "hf")
    assert not (tmp_path / "out").exists()
    work = tmp_path / ".out.converting"
    kept = {p: p.stat().st_mtime_ns for p in work.glob("*.safetensors")}
    assert len(kept) == 2
    monkeypatch.setattr(shards, "write_safetensors", plain)
    done = convert(first, tmp_path / "out", "hf")
    assert done.shards > 3 and sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    assert {(tmp_path / "out" / p.name).stat().st_mtime_ns for p in kept} == set(kept.values())
    whole = load_file(second / "model.safetensors")
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == whole.keys()
    for file in set(index["weight_map"].values()):
        for name, tensor in load_file(tmp_path / "out" / file).items():
            assert torch.equal(tensor, whole[name])


def test_work_on_another_source_starts_anew(tiny_base: Path, folder: Path, tmp_path: Path) -> None:
    first, _, _ = made(tiny_base, folder, "face")
    work = tmp_path / ".out.converting"
    work.mkdir()
    (work / "conversion.json").write_text(json.dumps({"to": "something else"}))
    (work / "model.safetensors").write_text("half of another conversion")
    convert(first, tmp_path / "out", "hf")
    assert load_file(tmp_path / "out" / "model.safetensors")
    (tmp_path / ".next.converting").mkdir()
    (tmp_path / ".next.converting" / "thesis.tex").write_text("mine")
    with pytest.raises(FaceConfigError, match="in the way"):
        convert(first, tmp_path / "next", "hf")
    assert (tmp_path / ".next.converting" / "thesis.tex").exists()


def test_real_faces_are_read_alike(tiny_base: Path, folder: Path, real_faces: Path) -> None:
    """Photographs with their annotated maps, each through its own host: pixels, attributes, logits and an answer."""
    from llava.mm_utils import process_images
    from transformers import AutoProcessor

    images = sorted((real_faces / "celebamask_hq" / "images").glob("*.jpg"))[:4]
    if not images:
        pytest.skip("no celebamask_hq in FACE_TEST_DATA")
    first, second, _ = made(tiny_base, folder, "knowledge")
    here, there, processor = load_v1(first), load_hf(second), AutoProcessor.from_pretrained(second)
    seen = []
    for path in images:
        image = Image.open(path).convert("RGB")
        mask = real_faces / "celebamask_hq" / "masks" / f"{path.stem}.png"
        prompt = processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Is the person smiling?"}]}],
            add_generation_prompt=True,
        )
        inputs = processor(images=[image], text=[prompt], segmentation_maps=[mask], return_tensors="pt")
        own = process_images([image], here.get_vision_tower().image_processor, here.config)
        assert torch.allclose(inputs["pixel_values"][:, :3], own[:, :3], atol=1e-5)
        assert inputs["pixel_values"][:, 3].unique().numel() > 4, "the annotated map is not there"
        pixels = inputs["pixel_values"]
        probabilities = here.attribute_probabilities(pixels)
        assert torch.allclose(there.attribute_probabilities(pixels), probabilities, atol=1e-6)
        seen.append(probabilities)
        ids, _ = question()
        expected = asked_v1(here, ids, pixels)
        assert torch.allclose(asked_hf(there, ids, pixels, 16)[:, : expected.shape[1]], expected, atol=1e-5)
        answer = there.generate(**inputs, max_new_tokens=5, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        image_id = there.config.image_token_index
        asked = [i for i in inputs["input_ids"][0].tolist() if i != image_id]
        place = inputs["input_ids"][0].tolist().index(image_id)
        with_image = torch.tensor([[*asked[:place], -200, *asked[place:]]])
        said = here.generate(with_image, images=pixels, max_new_tokens=5, do_sample=False)[0, -len(answer) :]
        assert said.tolist() == answer.tolist()
    assert not torch.allclose(seen[0], seen[1], atol=1e-4), "the faces are not told apart"
