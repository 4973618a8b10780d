"""The tiny base: files, determinism, what the tokenizer and the random tower are good for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from llava_face_plugin.errors import FaceConfigError
from llava_face_plugin.tiny import build_tiny

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("tiny") / "base")


def test_same_arguments_write_the_same_bytes(base: Path, tmp_path: Path) -> None:
    again, other = build_tiny(tmp_path / "again"), build_tiny(tmp_path / "other", seed=1)
    files = sorted(p.relative_to(base) for p in base.rglob("*") if p.is_file())
    assert len(files) == 9
    assert [(base / f).read_bytes() for f in files] == [(again / f).read_bytes() for f in files]
    weights = [load_file(d / "model.safetensors")["lm_head.weight"] for d in (base, other)]
    assert not torch.equal(*weights)


def test_config_has_no_face_block_and_weights_are_half(base: Path) -> None:
    assert "face" not in json.loads((base / "config.json").read_text())
    assert {w.dtype for w in load_file(base / "model.safetensors").values()} == {torch.float16}


@pytest.mark.contract
def test_transformers_loads_every_weight(base: Path) -> None:
    transformers = pytest.importorskip("transformers")
    _, report = transformers.LlamaForCausalLM.from_pretrained(base, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    _, report = transformers.CLIPVisionModel.from_pretrained(base / "clip", output_loading_info=True)
    assert not report["missing_keys"]


@pytest.mark.contract
def test_tokenizer_is_equal_on_every_stack(base: Path) -> None:
    """Golden ids: the same on transformers 4.37.2, 4.57.6 and 5.23.0."""
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(base, use_fast=False)
    assert len(tokenizer) == 768
    assert tokenizer("Yes").input_ids == [1, 351] and tokenizer("No").input_ids == [1, 374]
    asked = "USER: Is the person wearing eyeglasses? Answer yes or no. ASSISTANT: Yes</s>"
    ids = tokenizer(f"{SYSTEM} {asked}USER:").input_ids
    digest = hashlib.sha1(repr(ids).encode()).hexdigest()
    assert (len(ids), digest) == (50, "47e19092eadae14fb7e7e07a2a24583e2e098cab")
    assert tokenizer.convert_ids_to_tokens(ids)[-6:] == ["▁ASSISTANT", ":", "▁Yes", "</s>", "USER", ":"]


@pytest.mark.contract
@pytest.mark.parametrize("turns", [1, 3])
def test_upstream_masks_the_questions_and_keeps_the_answers(base: Path, turns: int) -> None:
    """``preprocess_v1``'s accounting fits this tokenizer: else it drops the whole sample from the loss."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("llava")
    from llava_face_plugin.hosts import compat

    compat.apply("before_trainer")
    from llava import conversation
    from llava.train import train

    tokenizer = transformers.AutoTokenizer.from_pretrained(
        base, use_fast=False, model_max_length=2048, padding_side="right"
    )
    tokenizer.pad_token = tokenizer.unk_token
    talk = []
    for i in range(turns):
        image = "<image>\n" if i == 0 else ""
        talk += [
            {"from": "human", "value": f"{image}Is the person smiling? Answer yes or no."},
            {"from": "gpt", "value": "Yes"},
        ]
    before = conversation.default_conversation
    conversation.default_conversation = conversation.conv_templates["vicuna_v1"]
    try:
        made = train.preprocess_v1([talk], tokenizer, has_image=True)
    finally:
        conversation.default_conversation = before
    kept = made["labels"][0][made["labels"][0] != -100].tolist()
    assert kept == [351, 2] * turns


def test_tower_tells_pictures_and_places_apart(base: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tower = transformers.CLIPVisionModel.from_pretrained(base / "clip").eval()
    red = torch.zeros(3, 56, 56)
    red[0] = 1.5
    red_square = torch.zeros(3, 56, 56)
    red_square[0, :28, :28] = 1.5
    with torch.no_grad():
        seen = tower(torch.stack([red, red_square, -red]), output_hidden_states=True).hidden_states[-2][:, 1:]
    unit = torch.nn.functional.normalize(seen, dim=-1)
    assert (unit[0] * unit[2]).sum(-1).max() < 0.9, "red and its opposite look alike"
    inside, outside = unit[1, 0], unit[1, 15]
    assert (inside * outside).sum() < 0.9, "the square is not seen at its place"


@pytest.mark.parametrize(
    "sizes",
    [{"hidden": 60}, {"vision_hidden": 12}, {"image_size": 60}, {"vision_layers": 1}, {"image_size": 0}],
)
def test_sizes_that_do_not_fit_are_refused(tmp_path: Path, sizes: dict[str, int]) -> None:
    with pytest.raises(FaceConfigError, match=next(iter(sizes))):
        build_tiny(tmp_path / "base", **sizes)  # type: ignore[arg-type]
    assert not (tmp_path / "base").exists()


def test_a_path_that_llava_takes_for_mpt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FaceConfigError, match="mpt"):
        build_tiny(tmp_path / "prompts")


def test_own_corpus_reaches_the_tokenizer(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    model = build_tiny(tmp_path / "base", corpus=["zygomaticus"] * 3) / "tokenizer.model"
    encoded = sentencepiece.SentencePieceProcessor(model_file=str(model)).encode("zygomaticus", out_type=str)
    assert encoded == ["▁zygomaticus"]
