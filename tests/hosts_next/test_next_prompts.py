"""Fusions that read the prompt, on LLaVA-NeXT: tiles, videos and text-only samples have their own question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from llava_face_plugin.errors import FaceHostError
from llava_face_plugin.hosts.llava.gate import unwrap
from llava_face_plugin.hosts.llava_next.templates import markup_of
from llava_face_plugin.switch import enable
from tests.core.standin import FUSION_BLOCKS, encoder_blocks, open_gates
from tests.hosts_next import next_models
from tests.hosts_next.conftest import Assets
from tests.hosts_next.test_next_training import EXACT, train
from tests.shown_prompts import tokens_of, watched

pytestmark = pytest.mark.contract

NO, PLACE = -100, -200
TOLERANCE = 1e-5


def directory(source: Path, out: Path, fusion: str) -> Path:
    if not out.exists():
        settings = {**encoder_blocks("facial"), "fusion": FUSION_BLOCKS[fusion]}
        enable(source, knowledge="made", settings=settings, out=out)
    return out


@pytest.fixture(scope="module", params=["soft-gate", "text-query"])
def face(assets: Assets, request: pytest.FixtureRequest) -> tuple[Any, Any, Any]:
    out = directory(next_models.plain(assets), assets.root / f"llava-asked-{request.param}", request.param)
    tokenizer, model, processor = next_models.load(out, assets)
    next_models.dataset(assets.data / "text.json", tokenizer, processor)  # sets upstream's template
    model.markup = markup_of(tokenizer)  # as the trainer does
    open_gates(model.get_model().mm_projector.face)
    return tokenizer, model, processor


def from_answer_on(model: Any, inputs: dict[str, Any]) -> Tensor:
    """(S, L) bool: from the first supervised token on that is not markup, which upstream supervises everywhere."""
    markup = torch.isin(inputs["input_ids"], torch.tensor(sorted(model.markup)))
    return ((inputs["labels"] != NO) & ~markup).cumsum(dim=1) > 0


def other(inputs: dict[str, Any], here: Tensor) -> dict[str, Any]:
    """The batch with other words in these places."""
    ids, labels = inputs["input_ids"], inputs["labels"]
    changed = torch.where(here & (ids != PLACE), (ids + 7) % 60 + 5, ids)
    return {**inputs, "input_ids": changed, "labels": torch.where(labels == NO, NO, changed)}


@pytest.mark.parametrize("kind", ["images", "multi_image", "video", "frames", "mixed"])
def test_an_image_is_shown_with_its_question_and_no_answer(
    face: tuple[Any, Any, Any], assets: Assets, kind: str
) -> None:
    tokenizer, model, processor = face
    inputs = next_models.batch(model, tokenizer, processor, assets.data / f"{kind}.json")
    found, answers = tokens_of(model, inputs), from_answer_on(model, inputs)
    assert torch.equal(tokens_of(model, other(inputs, answers)), found)
    visuals = [1 if image.ndim == 3 else len(image) for image in inputs["images"]]
    own = sum(visuals[: len(visuals) // 2])  # of the first sample
    last = inputs["attention_mask"] & ~answers & (torch.arange(2)[:, None] == 1)
    changed = (tokens_of(model, other(inputs, last)) - found).abs().amax(dim=(1, 2)) > 1e-4
    assert changed.tolist() == [False] * own + [True] * (len(found) - own) and 0 < own < len(found)


def test_tiles_frames_and_texts_without_an_image(face: tuple[Any, Any, Any], assets: Assets) -> None:
    """Two images, two more, then two images in a sample and a video, then a video and a text."""
    tokenizer, model, processor = face
    found = []
    for inputs in next_models.face_batches(model, tokenizer, processor, assets.data / "mixed.json"):
        with watched(model) as seen, torch.no_grad():
            model(**inputs)
        ((prompt, _),) = seen
        assert prompt is not None and prompt.rows is not None
        counts = [1 if image.ndim == 3 else len(image) for image in inputs["images"]]
        found.append((prompt.rows.tolist(), counts))
        words = inputs["attention_mask"] & (inputs["input_ids"] != PLACE) & ~from_answer_on(model, inputs)
        assert prompt.mask.sum(dim=1).tolist() == words.sum(dim=1).tolist()
    assert [rows for rows, _ in found[:2]] == [[0] * a + [1] * b for _, (a, b) in found[:2]]
    assert found[2] == ([0, 0] + [1] * 4, [1, 1, 4]) and found[3] == ([0] * 4 + [1], [4, 1])
    assert found[0][1][0] > 1  # it was cut into tiles


@pytest.mark.parametrize("kind", ["images", "video"])
def test_generate_reads_the_question(face: tuple[Any, Any, Any], assets: Assets, kind: str) -> None:
    tokenizer, model, processor = face
    inputs = next_models.batch(model, tokenizer, processor, assets.data / f"{kind}.json")
    length = int((~from_answer_on(model, inputs)[0]).sum())
    question = inputs["input_ids"][:1, :length]
    visual = {key: inputs[key][:1] for key in ("images", "image_sizes", "modalities")}
    with watched(model) as seen:
        model.generate(
            question, attention_mask=torch.ones_like(question), do_sample=False, num_beams=2, max_new_tokens=2,
            pad_token_id=0, eos_token_id=-1, **visual,
        )  # fmt: skip
    ((_, tokens),) = seen
    assert torch.allclose(tokens, tokens_of(model, inputs)[: len(tokens)], atol=TOLERANCE)


def test_training_without_labels_is_refused(face: tuple[Any, Any, Any], assets: Assets) -> None:
    tokenizer, model, processor = face
    inputs = next_models.batch(model, tokenizer, processor, assets.data / "mixed.json")
    try:
        with pytest.raises(FaceHostError, match="where the answers begin"):
            model.train()(**{**inputs, "labels": None})
        model(**inputs).loss.backward()
    finally:
        model.eval()
    branch = model.get_model().mm_projector.face
    assert [name for name, p in branch.named_parameters() if p.requires_grad and p.grad is None] == []


def test_images_by_themselves_have_no_question(face: tuple[Any, Any, Any], assets: Assets) -> None:
    tokenizer, model, processor = face
    inputs = next_models.batch(model, tokenizer, processor, assets.data / "mixed.json")
    with watched(model) as seen:
        model.attribute_probabilities(inputs["images"], inputs["modalities"])
        with pytest.raises(FaceHostError, match="do not add up"):
            model(**{**inputs, "images": inputs["images"][:1]})
    assert [prompt for prompt, _ in seen] == [None]


def test_the_prompt_ends_at_the_answer(face: tuple[Any, Any, Any], assets: Assets) -> None:
    """By its words: Qwen's template supervises line breaks and turn marks in every turn."""
    tokenizer, model, processor = face
    inputs = next_models.batch(model, tokenizer, processor, assets.data / "images.json")
    assert (inputs["labels"][0] != NO).nonzero()[0] < (inputs["input_ids"][0] == PLACE).nonzero()[0]
    words = inputs["input_ids"][0][~from_answer_on(model, inputs)[0]]
    text = tokenizer.decode(words[words != PLACE])
    assert "Is the person smiling?" in text and "Yes" not in text and text.rstrip().endswith("<|im_start|>")


@pytest.mark.parametrize("lm", ["qwen", "vicuna"])
def test_upstreams_training_reads_the_question(assets: Assets, lm: str) -> None:
    """Its trainer brings the tokenizer, by which the template's markup is told from answers."""
    found = []

    def look(model: Any) -> None:
        face = model.get_model().mm_projector.face
        found.append(face.fusion.prompt.narrow.weight.grad.abs().sum().item())

    source = directory(getattr(assets, lm), assets.root / f"asked-{lm}", "text-query")
    trainer, _ = train(assets, source, f"llava-asked-trained-{lm}", on_step=look, max_steps=2, **EXACT)
    assert found[0] == 0.0 and found[1] > 0  # at first behind a closed gate
    specials = unwrap(trainer.model).markup - {198}
    turns = {"<|im_start|>", "<|im_end|>"} if lm == "qwen" else set()
    assert {trainer.tokenizer.convert_ids_to_tokens(one) for one in specials} == turns


class Words:
    """A tokenizer of a few words, with the assistant's name in one token as in Qwen's and Llama 3's."""

    additional_special_tokens_ids = (7, 8)

    def __init__(self, *names: int) -> None:
        self.names = list(names)

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert text == "assistant" and not add_special_tokens
        return {"input_ids": self.names}

    def convert_tokens_to_ids(self, words: list[str]) -> list[int]:
        return [100 + len(word) for word in words]


@pytest.mark.parametrize(
    ("template", "names", "expected"),
    [
        ("qwen_1_5", [9], {198, 7, 8, 9}),
        ("qwen_1_5", [9, 10], {198, 7, 8}),
        ("llava_llama_3", [9], {9, 117, 119, 110, 102}),  # 100 and the lengths of its five marks
        ("v1", [9], set()),
    ],
)
def test_markup(template: str, names: list[int], expected: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    from llava import conversation

    monkeypatch.setattr(conversation, "default_conversation", conversation.conv_templates[template])
    assert markup_of(Words(*names)) == expected
