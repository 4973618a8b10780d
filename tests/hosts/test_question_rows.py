"""Which text an image is shown with, and which of its tokens are the prompt. By hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llava_face_plugin.errors import FaceHostError
from llava_face_plugin.fusion import Prompt
from llava_face_plugin.hosts.llava.causal_lm import rows_of_visuals
from llava_face_plugin.hosts.prompts import Texts, prompt_of, rows_of

NO = -100
PLACE = -200


@pytest.mark.parametrize(
    ("places", "lengths", "rows"),
    [
        ([1, 1, 1], [1, 1, 1], [0, 1, 2]),
        ([10, 0, 7], [4, 6, 7], [0, 0, 2]),
        ([0, 8, 0, 12, 0], [8, 5, 7], [1, 3, 3]),
        ([0, 0], [], []),
    ],
)
def test_images_fill_the_texts_in_order(places: list[int], lengths: list[int], rows: list[int]) -> None:
    assert rows_of(places, lengths) == rows


@pytest.mark.parametrize(
    ("places", "lengths"),
    [([4, 4], [4]), ([4], [4, 4]), ([5, 3], [4, 4]), ([3, 5], [4, 4]), ([0], [1]), ([9], [3, 3, 2])],
)
def test_images_that_do_not_fill_the_texts_are_refused(places: list[int], lengths: list[int]) -> None:
    with pytest.raises(FaceHostError, match="do not add up"):
        rows_of(places, lengths)


def table(values: Tensor) -> Tensor:
    """A vocabulary whose embedding of id n is (n, -n)."""
    return torch.stack([values, -values], dim=-1).float()


def prompt(ids: Any, mask: Any = None, labels: Any = None, training: bool = False, rows: Any = (0,)) -> Prompt:
    made = [None if each is None else torch.tensor(each) for each in (ids, mask, labels)]
    found = prompt_of(Texts(*made), rows, [PLACE], table, training)
    assert found is not None
    return found


def words(found: Prompt) -> list[list[int]]:
    """The ids that are read of each text."""
    return [row[:, 0][known].int().tolist() for row, known in zip(found.tokens, found.mask, strict=True)]


def test_places_padding_and_answers_are_not_read() -> None:
    found = prompt(
        [[5, PLACE, 6, 7, 8, 9], [5, 6, 7, 8, 0, 0], [PLACE, 5, 6, 7, 8, 9]],
        [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]],
        [[NO, NO, NO, NO, 8, 9], [NO, NO, NO, 8, NO, NO], [NO, NO, 6, NO, NO, 9]],
        training=True,
        rows=(0, 0, 2),
    )
    assert words(found) == [[5, 6, 7], [5, 6, 7], [5]]  # of several rounds the first question
    assert found.tokens.shape == (3, 3, 2) and found.rows is not None and found.rows.tolist() == [0, 0, 2]


def test_the_longest_prompt_decides_wherever_it_stands() -> None:
    ids, mask = [[0, 0, 0, 5, 6, PLACE], [0, 5, PLACE, 6, 7, 8]], [[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1]]
    left = prompt(ids, mask)
    right = prompt([[5, 6, PLACE, 0, 0, 0], [5, PLACE, 6, 7, 8, 0]], [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]])
    assert left.tokens.shape[1] == 4 and torch.equal(left.tokens, right.tokens) and torch.equal(left.mask, right.mask)


def test_of_a_text_without_an_answer_nothing_is_read() -> None:
    """LLaVA masks a whole sample that it could not tokenise: its answer stands somewhere in there."""
    assert words(prompt([[5, 6, 7], [5, 6, 7]], None, [[NO, NO, NO], [NO, NO, 7]], training=True)) == [[], [5, 6]]


def test_a_labelled_padding_is_no_answer() -> None:
    assert words(prompt([[0, 0, 5, 6, 9]], [[0, 0, 1, 1, 1]], [[0, 0, NO, NO, 9]])) == [[5, 6]]


def test_only_ids_of_the_vocabulary_are_embedded() -> None:
    """LLaVA's placeholder is -200; a table of a model would raise."""
    embed = nn.Embedding(10, 4)
    found = prompt_of(
        Texts(torch.tensor([[PLACE, 3, 4, 99]]), None, torch.tensor([[NO, NO, NO, 99]])), [0], [PLACE], embed, False
    )
    assert found is not None and torch.equal(found.tokens[0], embed.weight[[3, 4]]) and not found.tokens.requires_grad


def test_a_text_of_places_only_has_no_words() -> None:
    found = prompt([[PLACE, PLACE]])
    assert found.tokens.shape == (1, 0, 2) and found.mask.shape == (1, 0)


def test_the_part_of_a_mask_that_belongs_to_these_tokens() -> None:
    """A cache holds the first two; a 4D mask of two columns more than there are tokens."""
    assert words(prompt([[5, 6, 7]], [[1, 1, 0, 1, 1]])) == [[6, 7]]
    seen = torch.zeros(1, 1, 3, 5, dtype=torch.bool)
    seen[0, 0, 2, 1:3] = True
    for mask in (seen, torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)):
        found = prompt_of(Texts(torch.tensor([[5, 6, 7]]), mask, None), [0], [PLACE], table, False)
        assert found is not None and words(found) == [[6, 7]]


def test_training_needs_ids_and_labels() -> None:
    ids = torch.tensor([[5, 6]])
    for texts in (Texts(ids, None, None), Texts(None, None, ids)):
        with pytest.raises(FaceHostError, match="where the answers begin"):
            prompt_of(texts, [0], [PLACE], table, True)
    assert prompt_of(Texts(None, None, None), [], [PLACE], table, False) is None
    with pytest.raises(FaceHostError, match=r"labels \(1, 3\)"):
        prompt_of(Texts(ids, None, torch.tensor([[NO, NO, 5]])), [0], [PLACE], table, True)


def test_nothing_to_read_is_told_in_training_only() -> None:
    with pytest.warns(UserWarning, match="supervise everything"):
        prompt([[PLACE, 5, 6]], None, [[NO, 5, 6]], training=True)
    prompt([[PLACE, 5, 6]], None, [[NO, 5, 6]])


def visuals(ids: Any, images: Any, mask: Any = None) -> list[int]:
    texts = Texts(torch.tensor(ids), None if mask is None else torch.tensor(mask), None)
    return rows_of_visuals(texts, images)


def test_a_text_without_an_image_has_a_black_one_of_its_own() -> None:
    ids = [[PLACE, 5, PLACE], [5, 6, 7], [5, PLACE, 6]]
    assert visuals(ids, torch.zeros(4, 3, 2, 2)) == [0, 0, 1, 2]
    # Tiles, frames, and an image without a dimension for them.
    images = [torch.zeros(3, 3, 2, 2), torch.zeros(2, 3, 2, 2), torch.zeros(3, 2, 2), torch.zeros(4, 3, 2, 2)]
    assert visuals(ids, images) == [0, 0, 0, 0, 0, 1, 2, 2, 2, 2]
    assert visuals([[PLACE], [PLACE]], torch.zeros(2, 3, 3, 2, 2)) == [0, 0, 0, 1, 1, 1]


def test_padding_has_no_image() -> None:
    assert visuals([[PLACE, 5, PLACE]], torch.zeros(1, 3, 2, 2), [[1, 1, 0]]) == [0]
    with pytest.raises(FaceHostError, match=r"\[2\] places .* takes \[1\]"):
        visuals([[PLACE, 5, PLACE]], torch.zeros(1, 3, 2, 2))
