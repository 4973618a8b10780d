"""Prefix reuse and batching against transformers' own ``generate``, one question at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from face_llava_models import picture, write_transformers_llava

pytest.importorskip("transformers", minversion="4.52", reason="its own LLaVA is supported from there on")

from llava_face_plugin.evaluation.model import grouping, host_transformers
from llava_face_plugin.evaluation.model.arguments import Arguments
from llava_face_plugin.evaluation.model.caches import crop, mask_4d, new_cache
from llava_face_plugin.evaluation.model.decode import Branch, Prefixes
from llava_face_plugin.evaluation.model.engine import Answer, Engine
from llava_face_plugin.evaluation.model.generation import Generation
from llava_face_plugin.evaluation.model.questions import ImageRef, Question

WORDS = ("smiling", "angry", "happy and surprised", "old", "sad", "wearing eyeglasses", "B", "the person in the image")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_transformers_llava(tmp_path_factory.mktemp("decode") / "hf")


@pytest.fixture(scope="module")
def host(checkpoint: Path) -> Any:
    return host_transformers.load(Arguments(str(checkpoint)), torch.device("cpu"))


def engine(host: Any, **changes: Any) -> Engine:
    return Engine(host, Arguments("unused", **changes))


def image(seed: int) -> ImageRef:
    return ImageRef(str(seed), lambda: picture(seed))


def question(host: Any, text: str, images: Sequence[int] = (), **generation: Any) -> Question:
    refs = tuple(image(seed) for seed in images)
    return Question(host.render(text, len(refs)), refs, Generation.of({"max_new_tokens": 10, **generation}))


def many(host: Any) -> list[Question]:
    """240 questions about 15 images in mixed order, of every length."""
    out = []
    for number in range(240):
        text = f"Is {WORDS[number % 8]} {'x' * (number % 5)} {number}? Answer with A or B."
        out.append(question(host, text, [number * 7 % 15], max_new_tokens=1 + number % 12))
    return out


@pytest.fixture(scope="module")
def expected(host: Any) -> list[Answer]:
    """What ``generate`` answers to ``many``, one by one."""
    return engine(host, exact=True).answer(many(host))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"images_per_batch": 8},
        {"batch_size": 3, "images_per_batch": 2},
        {"images_per_batch": 1, "cache_mb": 0},
        {"batch_size": 256, "images_per_batch": 256},
    ],
    ids=str,
)
def test_240_greedy_answers_are_those_of_generate(host: Any, changes: dict[str, Any], expected: list[Answer]) -> None:
    questions = many(host)
    batched = engine(host, margin=0.0, **changes)
    answers = batched.answer(questions)
    assert answers == expected
    assert batched.encoded == 15 and batched.asked_again == batched.one_by_one == 0
    assert len({answer.text for answer in answers}) > 60  # the model does not say the same to everything
    ended = [a.output_tokens < q.generation.max_new_tokens for a, q in zip(answers, questions, strict=True)]
    assert 10 < sum(ended) < 230  # some end by themselves, some at their limit


def test_every_kind_of_prompt_in_one_call(host: Any) -> None:
    """Two images, one, none; the image in the middle or at the end; texts that share nothing; text longer than rows."""
    questions = [
        question(host, "Are these the same person? Yes No", [1, 2]),
        question(host, "Are these the same person? Answer.", [1, 2]),
        question(host, "Are these the same person? Yes No", [2, 1]),
        question(host, "Is the person smiling?", [1]),
        question(host, "Look: <image> Is the person smiling?", [1]),
        question(host, "Look: <image> Is the person angry?", [1]),
        question(host, "What does <image> show, and <image> too?", [3, 3]),
        question(host, "A" * 300, [4]),
        question(host, "What is a face?"),
        question(host, "zebra?"),
        question(host, "Is the person smiling?", [5]),
    ]
    questions += [question(host, f"Is the person in no image at all smiling? {n} " + "B " * n) for n in range(9)]
    ends = Question("USER: what is <image>", (image(6),), Generation(4))
    batched = engine(host, margin=0.0, images_per_batch=8)
    assert batched.answer([*questions, ends]) == engine(host, exact=True).answer([*questions, ends])
    assert batched.one_by_one == 1  # a prompt that ends in its image has no token of its own to go on from


def test_a_row_is_cut_into_chunks() -> None:
    """``batch_size`` questions, and 2,048 tokens with answers: here 2 + 500 each, so four; a longer one alone."""
    items = tuple(grouping.Item(n, (1, 2, 3, 4, 5), (), 500) for n in range(5))
    long = grouping.Item(5, (1, 2, 3, 4), (), 5000)
    row = grouping.Row((1, 2, 3), (), (*items, long))
    assert [[item.index for item in chunk] for chunk in row.chunks(64)] == [[0, 1, 2, 3], [4], [5]]
    assert [len(chunk) for chunk in row.chunks(2)] == [2, 2, 1, 1]
    assert row.suffix(long) == [4]
    assert [len(step) for step in grouping.steps_of([row, row], 8, 64)] == [1, 1]  # rows of several chunks come alone


def test_windows_keep_an_image_together(host: Any, expected: list[Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    """16 questions an image, in windows of 40 at most: two images each, so eight windows."""
    monkeypatch.setattr(grouping, "WINDOW", 40)
    assert [len(window) for window in grouping.windows_of(many(host))] == [32] * 7 + [16]
    batched = engine(host, cache_mb=0, images_per_batch=8)
    assert batched.answer(many(host)) == expected and batched.encoded == 15


def test_windows_bound_questions_without_images(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "WINDOW", 4)
    asked = [question(host, f"Who is {n}?", [1] if n in (0, 8) else []) for n in range(10)]
    assert list(grouping.windows_of(asked)) == [[0, 8, 1, 2], [3, 4, 5, 6], [7, 9]]


def test_one_image_is_encoded_once_within_the_memory_bound(host: Any) -> None:
    kept = engine(host, images_per_batch=1)
    questions = [question(host, "same?", pair) for pair in ([1, 2], [1, 3], [2, 3], [1, 1])]
    kept.answer(questions)
    kept.answer(questions)
    assert kept.encoded == 3
    dropped = engine(host, images_per_batch=1, cache_mb=0)
    dropped.answer(questions)
    assert dropped.encoded == 7  # pairs, each encoded anew: 2 + 2 + 2 + 1


def test_logits_differ_by_rounding_only(host: Any) -> None:
    """The first token's logits, batched among other branches and rows, against a forward of that prompt alone."""
    torch.manual_seed(0)
    prefixes = [torch.randn(length, 32) for length in (30, 7, 0)]
    suffixes = [[[5, 6, 7], [9], [10, 11, 12, 13, 14]], [[20, 21]], [[3, 4, 5]]]
    got: dict[tuple[int, int], torch.Tensor] = {}
    computed = Prefixes(host, prefixes)
    choose = computed._choose

    def spy(hidden: torch.Tensor, where: list[tuple[int, int]], branches: list[Branch]) -> None:
        if not got:
            places = [(row, index) for row, column in enumerate(suffixes) for index in range(len(column))]
            got.update({p: host.head(hidden[w]) for p, w in zip(places, where, strict=True)})
        choose(hidden, where, branches)

    computed._choose = spy  # type: ignore[method-assign]
    computed.answer([[Branch(ids, 2) for ids in row] for row in suffixes])
    with torch.inference_mode():
        for (row, index), logits in got.items():
            alone = torch.cat([prefixes[row], host.embed(torch.tensor(suffixes[row][index]))])
            expected = host.head(host.decoder(inputs_embeds=alone[None]).last_hidden_state[0, -1])
            assert (logits - expected).abs().max() <= 2e-6 * expected.abs().max()


def test_prefixes_can_be_asked_again(host: Any) -> None:
    torch.manual_seed(1)
    prefixes = Prefixes(host, [torch.randn(12, 32)])
    first, again = Branch([5, 6], 6), Branch([5, 6], 6)
    prefixes.answer([[first, Branch([8], 9)]])
    prefixes.answer([[again]])
    assert prefixes.cache.get_seq_length() == 12 and first.answer == again.answer


def test_near_ties_go_to_generate(host: Any, expected: list[Answer]) -> None:
    questions = many(host)[:40]
    careful = engine(host, margin=1.0)  # no two logits are further apart than the largest, so all are near
    assert careful.answer(questions) == expected[:40]
    assert careful.asked_again == 40
    half = host_transformers.load(Arguments(host.model.name_or_path, dtype="bfloat16"), torch.device("cpu"))
    assert engine(host).margin == 1e-4 and engine(half).margin == 0.0
    assert len(engine(half).answer(questions)) == 40


def test_stop_texts_cut_and_end_an_answer(host: Any) -> None:
    plain = question(host, "Is the person smiling?", [7])
    (whole,) = engine(host).answer([plain])
    stop = whole.text[2:4]
    told = question(host, "Is the person smiling?", [7], until=[stop, "never said"])
    (batched,) = engine(host, margin=0.0).answer([told])
    assert batched.text == whole.text.split(stop)[0] and batched.output_tokens < whole.output_tokens
    for changes in ({"exact": True}, {"margin": 1.0}):  # generate goes on, but the same tokens count
        assert engine(host, **changes).answer([told]) == [batched]


def test_tokens_that_count_end_with_the_stop_text() -> None:
    """Of "a", "b.", "c.", "d" with the stop text ".c" the first three: the third completes it."""
    words = {1: "a", 2: "b.", 3: "c.", 4: "d"}

    def text_of(ids: Sequence[int]) -> str:
        return "".join(words[token] for token in ids)

    assert Generation(9, (".c",)).ended([1, 2, 3, 4], text_of) == [1, 2, 3]
    assert Generation(9, ("x", "d")).ended([1, 2, 3, 4], text_of) == [1, 2, 3, 4]
    assert Generation(9, ("x",)).ended([1, 2], text_of) == [1, 2] and Generation(9).ended([1], text_of) == [1]


def test_sampling_and_beams_go_one_by_one(host: Any) -> None:
    questions = [
        question(host, "Is it?", [1], num_beams=2),
        question(host, "Is it?", [1], temperature=0.9, do_sample=True),
        question(host, "Is it?", [1], repetition_penalty=1.5),
        question(host, "Is it?", [1], temperature=0.9, do_sample=False),
        question(host, "Is it?", [1], temperature=0, do_sample=True, image_aspect_ratio="original"),
    ]
    asked = engine(host)
    answers = asked.answer(questions)
    assert asked.one_by_one == 3 and answers[3] == answers[4]
    pixels = host.processor(images=picture(1), text=questions[0].prompt, return_tensors="pt")
    beams = host.model.generate(
        **pixels, num_beams=2, do_sample=False, max_new_tokens=10, eos_token_id=1, pad_token_id=1
    )
    assert answers[0].text == host.tokenizer.decode(beams[0, pixels["input_ids"].shape[1] :], skip_special_tokens=True)


def test_prompts_beyond_the_limit_go_to_generate(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = question(host, "Is it?", [1]), question(host, "Is it? " * 40, [2])
    monkeypatch.setattr(host, "limit", 100)
    asked = engine(host)
    assert asked.answer([long, short]) == engine(host, exact=True).answer([long, short])
    assert asked.one_by_one == 1


def test_checkpoints_whose_greedy_decoding_is_changed_go_to_generate(host: Any, checkpoint: Path) -> None:
    other = host_transformers.load(Arguments(str(checkpoint)), torch.device("cpu"))
    other.model.generation_config.repetition_penalty = 1.3
    penal = host_transformers.TransformersLlava(other.model, other.processor, other.device, other.dtype, "x")
    asked = engine(penal)
    asked.answer([question(host, "Is it?", [1])])
    assert asked.one_by_one == 1


def test_places_and_images_must_agree(host: Any) -> None:
    from llava_face_plugin.errors import FaceDataError

    with pytest.raises(FaceDataError, match="2 places for images .* but 1 images"):
        engine(host).answer([question(host, "<image> and <image>?", [1])])


@pytest.mark.parametrize("cropped", [True, False], ids=["own", "of-4.37"])
def test_crop(cropped: bool) -> None:
    cache: Any
    if cropped:
        cache = new_cache()
        cache.update(torch.arange(12.0).view(1, 1, 6, 2), torch.ones(1, 1, 6, 2), 0)
        crop(cache, 4)
        assert cache.get_seq_length() == 4
        return

    class Old:
        key_cache = (torch.zeros(1, 1, 6, 2),)
        value_cache = (torch.zeros(1, 1, 6, 2),)

    cache = Old()
    crop(cache, 4)
    assert cache.key_cache[0].shape == cache.value_cache[0].shape == (1, 1, 4, 2) and cache.seen_tokens == 4


def test_a_mask_row_that_sees_nothing_is_finite() -> None:
    seen = torch.tensor([[[True, False], [False, False]]])
    mask = mask_4d(seen, torch.float32)
    assert mask.shape == (1, 1, 2, 2) and torch.isfinite(mask).all() and mask[0, 0, 0].argmax() == 0
