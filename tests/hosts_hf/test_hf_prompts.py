"""Fusions that read the prompt, on transformers' families: each image is shown with its own question, and no answer."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import Trainer

from llava_face_plugin.errors import FaceHostError
from llava_face_plugin.fusion import Prompt
from llava_face_plugin.hosts.hf import asked

from .test_hf_training import Mixed, PastTheHead, train
from .tiny_hf import (
    FACE,
    FAMILIES,
    FRAMES,
    IMAGE_TOKEN,
    SIDE,
    SIZES,
    VIDEO_FAMILIES,
    VIDEO_TOKEN,
    _anyres_tokens,
    build,
    load,
    open_gates,
    switched_on,
)

pytestmark = pytest.mark.contract

QUESTION, ANSWER = 5, 3
TILES = (5, 3, 3)
"""Of images of ``SIZES``, by hand: 2 x 2, 2 x 1 and 1 x 2 tiles behind the whole image."""
family_wise = pytest.mark.parametrize("family", FAMILIES)
fusion_wise = pytest.mark.parametrize("fusion", ["soft-gate", "text-query"])
TOLERANCE = 1e-5  # batches of another shape round otherwise


def model_of(family: str, root: Path, fusion: str = "text-query", opened: bool = True) -> Any:
    model = load(switched_on(family, root, "facial", fusion, None))
    if opened:
        open_gates(model)
    return model


def texts(
    family: str, kinds: tuple[str, ...] = ("image", "image", "image"), left: bool = True, seed: int = 0
) -> dict[str, Tensor]:
    """A text for each of ``kinds``, such as "image image video": those, a question of as many tokens, an answer.

    Labels at the answers.
    """
    random = torch.Generator().manual_seed(seed)
    ids, labels, images, videos = [], [], 0, 0
    for number, kind in enumerate(kinds):
        row = [torch.randint(5, 90, (2,), generator=random)]
        for word in kind.split():
            count, token = FRAMES * 4 + (family == "llava_onevision"), VIDEO_TOKEN
            if word == "image":
                count, token = 16 if family == "llava" else _anyres_tokens(family, *SIZES[images % 3]), IMAGE_TOKEN
            row.append(torch.full((count,), token))
            images, videos = images + (word == "image"), videos + (word == "video")
        row.append(torch.randint(5, 90, (QUESTION + number + ANSWER,), generator=random))
        ids.append(torch.cat(row))
        labels.append(torch.where(torch.arange(len(ids[-1])) < len(ids[-1]) - ANSWER, -100, ids[-1]))
    out = {
        "input_ids": padded(ids, 0, left),
        "attention_mask": padded([torch.ones_like(row) for row in ids], 0, left),
        "labels": padded(labels, -100, left),
    }
    if images:
        tiles = () if family == "llava" else (5,)
        out["pixel_values"] = torch.randn(images, *tiles, 3, SIDE, SIDE, generator=random)
        if tiles:
            out["image_sizes"] = torch.tensor([SIZES[i % 3] for i in range(images)])
    if videos:
        out["pixel_values_videos"] = torch.randn(videos, FRAMES, 3, SIDE, SIDE, generator=random)
    return out


def padded(rows: list[Tensor], value: int, left: bool) -> Tensor:
    length = max(map(len, rows))
    gaps = [(length - len(row), 0) if left else (0, length - len(row)) for row in rows]
    return torch.stack([nn.functional.pad(row, gap, value=value) for row, gap in zip(rows, gaps, strict=True)])


def places_of(inputs: dict[str, Tensor], answers: bool) -> Tensor:
    """(S, L) bool: the tokens of the answers, or else the words before them."""
    supervised, ids = inputs["labels"] != -100, inputs["input_ids"]
    words = (inputs["attention_mask"] == 1) & (ids != IMAGE_TOKEN) & (ids != VIDEO_TOKEN)
    return supervised if answers else words & ~supervised


def other(inputs: dict[str, Tensor], answers: bool, row: int | None = None) -> dict[str, Tensor]:
    """The batch with other words in the answers or questions, of one text or of all."""
    here = places_of(inputs, answers)
    if row is not None:
        here &= torch.arange(len(here))[:, None] == row
    ids = torch.where(here, (inputs["input_ids"] - 5 + 31) % 85 + 5, inputs["input_ids"])
    return {**inputs, "input_ids": ids, "labels": torch.where(inputs["labels"] == -100, -100, ids)}


def asking(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """As for generate: without the answers, padded on the left."""
    assert inputs["labels"][:, -ANSWER:].ne(-100).all()
    return {k: v[:, :-ANSWER] if v.ndim == 2 and k != "image_sizes" else v for k, v in inputs.items() if k != "labels"}


class Seen:
    """What goes into the projector, and what comes out."""

    def __init__(self) -> None:
        self.prompts: list[Prompt | None] = []
        self.tokens: list[Tensor] = []

    @property
    def rows(self) -> list[list[int]]:
        return [[] if p is None or p.rows is None else p.rows.tolist() for p in self.prompts]


@contextmanager
def watched(model: Any) -> Iterator[Seen]:
    seen = Seen()

    def note(module: nn.Module, args: Any, kwargs: dict[str, Any], tokens: Tensor) -> None:
        seen.prompts.append(kwargs["prompt"])
        seen.tokens.append(tokens.detach())

    projector = next(m for n, m in model.named_modules() if n.endswith("multi_modal_projector"))
    handle = projector.register_forward_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def tokens_of(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """(B, P, D) of all images, tiles and frames."""
    with watched(model) as seen, torch.no_grad():
        model(**inputs)
    return torch.cat(seen.tokens)


@family_wise
@fusion_wise
def test_an_image_is_shown_with_its_question_and_no_answer(root: Path, family: str, fusion: str) -> None:
    model, inputs = model_of(family, root, fusion), texts(family)
    rows = torch.tensor([0, 1, 2] if family == "llava" else [0] * 5 + [1] * 3 + [2] * 3)
    found = tokens_of(model, inputs)
    assert torch.equal(tokens_of(model, other(inputs, answers=True)), found)
    asked_otherwise = tokens_of(model, other(inputs, answers=False, row=1))
    changed = (asked_otherwise - found).abs().amax(dim=(1, 2)) > 1e-3
    assert changed.tolist() == (rows == 1).tolist()
    assert torch.allclose(asked_otherwise[rows != 1], found[rows != 1], atol=TOLERANCE)


@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_a_video_is_shown_with_its_question_and_no_answer(root: Path, family: str) -> None:
    model, inputs = model_of(family, root), texts(family, ("video", "video"))
    found = tokens_of(model, inputs)
    assert torch.equal(tokens_of(model, other(inputs, answers=True)), found)
    changed = (tokens_of(model, other(inputs, answers=False, row=1)) - found).abs().amax(dim=(1, 2)) > 1e-3
    assert changed.tolist() == [False] * FRAMES + [True] * FRAMES


@family_wise
@pytest.mark.parametrize("left", [True, False], ids=["left", "right"])
def test_images_beside_each_other_and_texts_without_any(root: Path, family: str, left: bool) -> None:
    model, inputs = model_of(family, root), texts(family, ("image image", "", "image", ""), left)
    with watched(model) as seen, torch.no_grad():
        model(**inputs)
    tiles = (1, 1, 1) if family == "llava" else TILES
    assert seen.rows == [[0] * (tiles[0] + tiles[1]) + [2] * tiles[2]]
    prompt = seen.prompts[0]
    assert prompt is not None
    # The words of each text before its answer, and none of them elsewhere.
    assert prompt.mask.sum(dim=1).tolist() == places_of(inputs, answers=False).sum(dim=1).tolist()
    words = inputs["input_ids"][2][places_of(inputs, answers=False)[2]]
    assert torch.equal(prompt.tokens[2][prompt.mask[2]], model.get_input_embeddings()(words))


@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_images_and_videos_in_one_batch(root: Path, family: str) -> None:
    model, inputs = model_of(family, root), texts(family, ("video image", "", "video", "image image"))
    with watched(model) as seen, torch.no_grad():
        model(**inputs)
    assert seen.rows == [[0] * TILES[0] + [3] * (TILES[1] + TILES[2]), [0] * FRAMES + [2] * FRAMES]


@pytest.mark.skipif(transformers.__version__.startswith("4.55."), reason="upstream flattens such an image there")
def test_onevision_does_not_cut_images_that_stand_beside_others(root: Path) -> None:
    model, inputs = model_of("llava_onevision", root), texts("llava_onevision", ("image",))
    two = torch.cat([torch.full((17,), IMAGE_TOKEN)] * 2)  # 16 patches and a newline each
    rows = [torch.cat([inputs["input_ids"][0, :2], two, torch.arange(10, 14)]), inputs["input_ids"][0]]
    batch = {
        "input_ids": padded(rows, 0, True),
        "attention_mask": padded([torch.ones_like(row) for row in rows], 0, True),
        "pixel_values": torch.randn(3, 5, 3, SIDE, SIDE),
        "image_sizes": torch.tensor([SIZES[1], SIZES[2], SIZES[0]]),
        "batch_num_images": torch.tensor([2, 1]),
    }
    with watched(model) as seen, torch.no_grad():
        model(**batch)
    assert seen.rows == [[0, 0, 1, 1, 1, 1, 1]]


@family_wise
def test_the_side_of_the_padding_does_not_matter(root: Path, family: str) -> None:
    model = model_of(family, root)
    left, right = (tokens_of(model, texts(family, left=side)) for side in (True, False))
    assert torch.equal(left, right)


@family_wise
def test_alone_and_in_a_batch(root: Path, family: str) -> None:
    model, inputs = model_of(family, root), texts(family)
    alone = {k: v[:1] for k, v in inputs.items()}
    kept = alone["attention_mask"][0].bool()
    alone |= {k: alone[k][:, kept] for k in ("input_ids", "attention_mask", "labels")}
    found = tokens_of(model, alone)
    assert torch.allclose(found, tokens_of(model, inputs)[: len(found)], atol=TOLERANCE)


@family_wise
def test_training_without_labels_is_refused(root: Path, family: str) -> None:
    model, inputs = model_of(family, root).train(), texts(family)
    unlabelled = {k: v for k, v in inputs.items() if k != "labels"}
    with pytest.raises(FaceHostError, match="where the answers begin"):
        model(**unlabelled)
    with pytest.raises(FaceHostError, match="where the answers begin"):
        model.model(**unlabelled)
    with torch.no_grad():
        model(**unlabelled)
    model(input_ids=inputs["input_ids"])  # no image, no question of whose it is
    model(**inputs).loss.backward()
    assert [n for n, p in model.named_parameters() if FACE in n and p.requires_grad and p.grad is None] == []


def test_embeddings_of_ones_own_are_no_text(root: Path) -> None:
    """At inference the neutral state; in training nobody could say where the answers begin."""
    model, inputs = model_of("llava", root), texts("llava")
    given = {k: v for k, v in inputs.items() if k != "input_ids"}
    given["inputs_embeds"] = model.get_input_embeddings()(inputs["input_ids"]).detach()
    with watched(model) as seen, torch.no_grad():
        model(**given)
        model.get_image_features(inputs["pixel_values"])
    assert seen.prompts == [None, None] and torch.equal(*seen.tokens)
    with pytest.raises(FaceHostError, match="where the answers begin"):
        model.train()(**given)


def test_places_and_images_must_add_up(root: Path) -> None:
    model, inputs = model_of("llava", root), texts("llava", ("image image", "image"))
    ids = inputs["input_ids"]
    first, last = (ids[0] == IMAGE_TOKEN).nonzero()[0], (ids[1] == IMAGE_TOKEN).nonzero()[-1] + 1
    ids[0, first], ids[1, last] = 7, IMAGE_TOKEN  # upstream counts over the whole batch only
    with pytest.raises(FaceHostError, match=r"do not add up.*\[31, 17\].*\[16, 16, 16\]"), torch.no_grad():
        model(**inputs)


@family_wise
def test_step_0_is_the_base_model(root: Path, family: str) -> None:
    model, inputs = model_of(family, root, opened=False), texts(family)
    base = load(build(family, root / family))
    with torch.no_grad():
        assert torch.allclose(model(**inputs).logits, base(**inputs).logits, atol=TOLERANCE)


@family_wise
@pytest.mark.parametrize("options", [{}, {"num_beams": 2, "num_return_sequences": 2}], ids=["greedy", "beams"])
def test_generate_reads_the_question(root: Path, family: str, options: dict[str, Any]) -> None:
    """The same visual tokens as the forward of training, which knows the labels; encoded before or after expansion."""
    model, inputs = model_of(family, root), texts(family)
    expected = tokens_of(model, inputs)
    with watched(model) as seen:
        out = model.generate(**asking(inputs), max_new_tokens=3, do_sample=False, eos_token_id=None, **options)
    assert out.shape[0] == 3 * options.get("num_return_sequences", 1) and len(seen.tokens) == 1
    found, rows = seen.tokens[0], seen.rows[0]
    if len(found) > len(expected):  # transformers 4 expands images and texts alike, and encodes then
        tiles = [1] * 3 if family == "llava" else TILES
        starts = [sum(tiles[:i]) for i in range(3)]
        index = [start + i for start, count in zip(starts, tiles, strict=True) for _ in range(2) for i in range(count)]
        expected = expected[index]
        assert rows == [2 * n + k for n in range(3) for k in range(2) for _ in range(tiles[n])]
    assert torch.allclose(found, expected, atol=TOLERANCE)


def test_an_answer_is_generated_as_it_is_scored(root: Path) -> None:
    """Token by token: the forward with the answer so far, and labels on it, says what comes next."""
    model, inputs = model_of("llava", root), asking(texts("llava"))
    out = model.generate(**inputs, max_new_tokens=4, do_sample=False, eos_token_id=None)
    start = inputs["input_ids"].shape[1]
    mask = torch.cat([inputs["attention_mask"], torch.ones_like(out[:, start:])], dim=1)
    labels = torch.where(torch.arange(out.shape[1]) < start, -100, out)
    with torch.no_grad():
        scored = model(out, pixel_values=inputs["pixel_values"], attention_mask=mask, labels=labels).logits
    assert torch.equal(scored[:, start - 1 : -1].argmax(-1), out[:, start:])


def test_guessed_tokens_are_not_read(root: Path) -> None:
    """Assisted decoding shows the first forward guesses behind the prompt; here they come from the prompt itself."""
    model, inputs = model_of("llava", root), {k: v[:1] for k, v in asking(texts("llava")).items()}
    inputs["input_ids"][:, -2:] = inputs["input_ids"][:, -4:-2]  # what was seen before is guessed to come again
    options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": 2}  # assisted decoding needs one
    with watched(model) as plain:
        expected = model.generate(**inputs, **options)
    with watched(model) as guessing:
        found = model.generate(**inputs, prompt_lookup_num_tokens=3, max_matching_ngram_size=2, **options)
    assert torch.equal(found, expected) and torch.equal(guessing.tokens[0], plain.tokens[0])


def test_a_static_cache(root: Path) -> None:
    model, inputs = model_of("llava", root), asking(texts("llava"))
    options = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None}
    expected = model.generate(**inputs, **options)
    with watched(model) as seen:
        found = model.generate(**inputs, cache_implementation="static", disable_compile=True, **options)
    assert torch.equal(found, expected)
    assert seen.prompts[0] is not None
    assert seen.prompts[0].mask.sum(dim=1).tolist() == [2 + QUESTION + n for n in range(3)]


def pool(family: str = "llava") -> list[dict[str, Tensor]]:
    made = texts(family)
    return [{key: value[row] for key, value in made.items()} for row in (0, 1, 2, 0)]


def test_trainers_that_go_past_the_head(root: Path, tmp_path: Path) -> None:
    _, expected = train(Trainer, model_of("llava", root), tmp_path / "1", data=pool())
    _, found = train(Mixed, model_of("llava", root), tmp_path / "2", data=pool())
    read = [name for name in expected.steps[0] if ".fusion.prompt.narrow." in name]
    assert read and expected.steps[0][read[0]].abs().sum() > 0
    for name, gradient in expected.steps[0].items():
        assert torch.allclose(found.steps[0][name], gradient, rtol=1e-3, atol=1e-6), name
    with pytest.raises(FaceHostError, match="FaceLossMixin"):
        train(PastTheHead, model_of("llava", root), tmp_path / "3", data=pool())


def test_trl(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trl")
    from . import test_hf_trl

    monkeypatch.setattr(test_hf_trl, "samples", pool)
    _, expected = train(Trainer, model_of("llava", root), tmp_path / "1", data=pool())
    _, found = test_hf_trl.sft(test_hf_trl.FaceSFTTrainer, model_of("llava", root), root, tmp_path / "2")
    for name, gradient in expected.steps[0].items():
        assert torch.allclose(found.steps[0][name], gradient, rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize("saved", ["multi_modal_projector", "face"])
def test_lora(root: Path, saved: str) -> None:
    peft = pytest.importorskip("peft")
    model, inputs = model_of("llava", root), texts("llava")
    expected = tokens_of(model, inputs)
    settings = peft.LoraConfig(target_modules=r".*language_model.*\.q_proj", r=2, modules_to_save=[saved])
    wrapped = peft.get_peft_model(model, settings)
    with watched(wrapped) as seen:
        wrapped.train()(**inputs).loss.backward()
        wrapped.eval().generate(**asking(inputs), max_new_tokens=1, do_sample=False, eos_token_id=None)
    assert all(torch.allclose(tokens, expected, atol=TOLERANCE) for tokens in seen.tokens) and len(seen.tokens) == 2
    assert any(".narrow." in n and p.grad is not None and p.grad.abs().sum() > 0 for n, p in wrapped.named_parameters())


def test_labels_on_everything_are_told(root: Path) -> None:
    model, inputs = model_of("llava", root).train(), texts("llava")
    everything = torch.where(places_of(inputs, True) | places_of(inputs, False), inputs["input_ids"], -100)
    with pytest.warns(UserWarning, match="labels supervise everything"):
        model(**{**inputs, "labels": everything})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(**inputs)


def test_nothing_of_it_runs_for_other_fusions(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a prompt was made")

    monkeypatch.setattr(asked, "prompt_of", refuse)
    monkeypatch.setattr(asked, "Texts", refuse)
    model, inputs = load(switched_on("llava", root)), texts("llava")
    model.train()(**{k: v for k, v in inputs.items() if k != "labels"})
    model.eval().generate(**asking(inputs), max_new_tokens=1)
