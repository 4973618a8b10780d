"""Fusions that read the prompt, on LLaVA 1.5's package: each image is shown with its own question, and no answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from llava_face_plugin.errors import FaceHostError
from llava_face_plugin.hosts.llava import causal_lm
from llava_face_plugin.switch import enable
from tests.core.standin import FUSION_BLOCKS, encoder_blocks, open_gates
from tests.shown_prompts import tokens_of, watched

from . import upstream
from .models import load, switched_on

pytestmark = pytest.mark.contract

NO, PLACE = -100, -200
LENGTH, FIRST_ANSWER, SIDE = 12, 8, 56
TOLERANCE = 1e-5
fusion_wise = pytest.mark.parametrize("fusion", ["soft-gate", "text-query"])


def directory(source: Path, out: Path, fusion: str) -> Path:
    if not out.exists():
        settings = {**encoder_blocks("facial"), "fusion": FUSION_BLOCKS[fusion]}
        enable(source, knowledge="made", settings=settings, out=out)
    return out


def model_of(checkpoint: Path, root: Path, fusion: str = "text-query") -> Any:
    model = load(directory(checkpoint, root / f"llava-asked-{fusion}", fusion))
    open_gates(model.get_model().mm_projector.face)
    return model


def texts(places: tuple[int, ...] = (1, 1, 1), seed: int = 0) -> dict[str, Tensor]:
    """Texts with so many places for images each, all right-padded but the last; labels at the answers. An image for
    each place and each text without one."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 300, (len(places), LENGTH), generator=random)
    for row, count in zip(ids, places, strict=True):
        row[1 : 1 + count] = PLACE
    mask = torch.ones_like(ids)
    mask[:-1, -1] = 0
    labels = torch.where((torch.arange(LENGTH) < FIRST_ANSWER) | (mask == 0), NO, ids)
    images = torch.randn(sum(max(1, count) for count in places), 3, SIDE, SIDE, generator=random)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "images": images}


def other(inputs: dict[str, Tensor], answers: bool, row: int | None = None) -> dict[str, Tensor]:
    """The batch with other words in the answers or questions, of one text or of all."""
    ids, labels = inputs["input_ids"], inputs["labels"]
    here = (labels != NO) if answers else (labels == NO) & (ids != PLACE) & (inputs["attention_mask"] == 1)
    if row is not None:
        here &= torch.arange(len(here))[:, None] == row
    changed = torch.where(here, (ids - 3 + 101) % 297 + 3, ids)
    return {**inputs, "input_ids": changed, "labels": torch.where(labels == NO, NO, changed)}


@fusion_wise
def test_an_image_is_shown_with_its_question_and_no_answer(checkpoint: Path, root: Path, fusion: str) -> None:
    model, inputs = model_of(checkpoint, root, fusion), texts()
    found = tokens_of(model, inputs)
    assert torch.equal(tokens_of(model, other(inputs, answers=True)), found)
    asked_otherwise = tokens_of(model, other(inputs, answers=False, row=1))
    assert ((asked_otherwise - found).abs().amax(dim=(1, 2)) > 1e-3).tolist() == [False, True, False]


def test_images_beside_each_other_and_texts_without_any(checkpoint: Path, root: Path) -> None:
    model, inputs = model_of(checkpoint, root), texts((2, 0, 1))
    with watched(model) as seen, torch.no_grad():
        model(**inputs)
    ((prompt, _),) = seen
    assert prompt is not None and prompt.rows is not None and prompt.rows.tolist() == [0, 0, 1, 2]
    assert prompt.mask.sum(dim=1).tolist() == [FIRST_ANSWER - 2, FIRST_ANSWER, FIRST_ANSWER - 1]


def test_tiles(checkpoint: Path, root: Path) -> None:
    """A list of images, (tiles, C, H, W) each, as the anyres mode hands them over."""
    model, inputs = model_of(checkpoint, root), texts((1, 1))
    images = [torch.randn(3, 3, SIDE, SIDE), torch.randn(2, 3, SIDE, SIDE)]
    with watched(model) as seen, torch.no_grad():
        model(**{**inputs, "images": images})
    ((prompt, tokens),) = seen
    assert prompt is not None and prompt.rows is not None and prompt.rows.tolist() == [0, 0, 0, 1, 1]
    one = {name: value[:1] for name, value in inputs.items()}
    assert torch.allclose(tokens_of(model, {**one, "images": images[0][2:]})[0], tokens[2], atol=TOLERANCE)


def test_padding_of_either_side_does_not_matter(checkpoint: Path, root: Path) -> None:
    model, inputs = model_of(checkpoint, root), texts((1, 1))
    left = {name: value.roll(1, dims=1) if name != "images" else value for name, value in inputs.items()}
    left = {name: torch.cat([value[:1], inputs[name][1:]]) for name, value in left.items()}
    assert left["attention_mask"][0].tolist() == [0] + [1] * (LENGTH - 1)
    assert torch.equal(tokens_of(model, left), tokens_of(model, inputs))


@pytest.mark.parametrize("beams", [1, 2])
def test_generate_reads_the_question(checkpoint: Path, root: Path, beams: int) -> None:
    model, inputs = model_of(checkpoint, root), texts((1,))
    question = inputs["input_ids"][:, :FIRST_ANSWER]
    with watched(model) as seen:
        out = model.generate(
            question, images=inputs["images"], do_sample=False, num_beams=beams, num_return_sequences=beams,
            max_new_tokens=3,
        )  # fmt: skip
    ((_, tokens),) = seen
    assert len(out) == beams and torch.allclose(tokens, tokens_of(model, inputs), atol=TOLERANCE)


def test_training_without_labels_is_refused(checkpoint: Path, root: Path) -> None:
    model, inputs = model_of(checkpoint, root).train(), texts()
    unlabelled = {**inputs, "labels": None}
    with pytest.raises(FaceHostError, match="where the answers begin"):
        model(**unlabelled)
    with torch.no_grad():
        model(**unlabelled)
    model(**inputs).loss.backward()
    face = model.get_model().mm_projector.face
    assert [name for name, p in face.named_parameters() if p.requires_grad and p.grad is None] == []


def test_images_by_themselves_have_no_question(checkpoint: Path, root: Path) -> None:
    model, inputs = model_of(checkpoint, root), texts()
    with watched(model) as seen:
        model.attribute_probabilities(inputs["images"])
        with pytest.raises(FaceHostError, match="do not add up"):
            model(**{**inputs, "images": inputs["images"][:2]})
        with torch.no_grad():
            model.encode_images(inputs["images"])
    assert [prompt for prompt, _ in seen] == [None, None]


@fusion_wise
def test_upstreams_training_reads_the_question(base: Path, faces: Path, root: Path, fusion: str) -> None:
    """With gradient checkpointing, as its scripts have it, and text-only samples among the others."""
    found = []

    def look(trainer: Any, model: Any) -> None:
        face = next(module for name, module in model.named_modules() if name.endswith("mm_projector.face"))
        found.append({name: p.grad.abs().sum().item() for name, p in face.named_parameters() if p.requires_grad})

    path = directory(base, root / f"vicuna-asked-{fusion}", fusion)
    upstream.train(upstream.flags(path, path / "clip", faces, root / f"llava-trained-{fusion}"), look)
    assert found[0]["fusion.gate"] > 0 and found[0]["fusion.prompt.narrow.weight"] == 0.0  # behind a closed gate
    assert found[1]["fusion.prompt.narrow.weight"] > 0


def test_nothing_of_it_runs_for_other_fusions(checkpoint: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a prompt was made")

    monkeypatch.setattr(causal_lm, "prompt_of", refuse)
    model = load(switched_on(checkpoint, root / "llava-part-embedding-gated_add"))
    model.train()(**{**texts(), "labels": None})
