"""Which questions are answered together: rows of questions that share a prefix, and steps of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .host import IMAGE
from .questions import ImageRef, Question, keys

ROW_TOKENS = 2048
"""Most columns that the branches of a row may take in one step, their answers at full length included (our default).
Every branch's attention runs over all of them, so that wide rows waste work; a single branch may be longer."""


WINDOW = 8192
"""Questions that are tokenized at a time, or all of an image's if these are more (our default): a bound of memory."""


@dataclass(frozen=True)
class Item:
    """A question that has been tokenized."""

    index: int
    ids: tuple[int, ...]
    """With ``host.IMAGE`` in place of images, and never at the end."""
    images: tuple[ImageRef, ...]
    max_new_tokens: int


@dataclass(frozen=True)
class Row:
    """Questions with a common prefix; ``items`` are never empty."""

    prefix: tuple[int, ...]
    images: tuple[ImageRef, ...]
    items: tuple[Item, ...]

    def suffix(self, item: Item) -> list[int]:
        """The item's own tokens, at least one."""
        return list(item.ids[len(self.prefix) :])

    def chunks(self, batch_size: int) -> list[tuple[Item, ...]]:
        """The items in order, as many at a time as fit into one step."""
        out: list[list[Item]] = [[]]
        used = 0
        for item in self.items:
            size = len(item.ids) - len(self.prefix) + item.max_new_tokens
            if out[-1] and (len(out[-1]) == batch_size or used + size > ROW_TOKENS):
                out.append([])
                used = 0
            out[-1].append(item)
            used += size
        return [tuple(chunk) for chunk in out]


def windows_of(questions: Sequence[Question]) -> Iterator[list[int]]:
    """Indices of questions, those with the same images side by side, in windows that split no image's questions.

    Questions without an image are not kept together: they share no image that would be encoded twice.
    """
    groups: dict[tuple[str, ...] | int, list[int]] = {}
    for index, question in enumerate(questions):
        groups.setdefault(keys(question.images) or index, []).append(index)
    window: list[int] = []
    for group in groups.values():
        if window and len(window) + len(group) > WINDOW:
            yield window
            window = []
        window += group
    if window:
        yield window


def rows_of(items: Sequence[Item]) -> list[Row]:
    """Items with the same images after the same text become one row. So do items without images, if what they share
    is at least as long as what they do not.

    Any other item is a row of its own, and rows are batched as usual. Rows come in the order of their first items,
    those with more images later: a step's rows are padded to the longest.
    """
    groups: dict[tuple[tuple[str, ...], tuple[int, ...]], list[Item]] = {}
    for item in items:
        groups.setdefault((keys(item.images), _through_last_image(item.ids)), []).append(item)
    rows = [row for group in groups.values() for row in _rows(group)]
    return sorted(rows, key=lambda row: len(row.images))


def steps_of(rows: Sequence[Row], images_per_batch: int, batch_size: int) -> Iterator[list[Row]]:
    """Rows that are computed together. A row that takes more than one chunk comes alone."""
    step: list[Row] = []
    questions = 0
    for row in rows:
        whole = len(row.chunks(batch_size)) == 1
        full = len(step) == images_per_batch or questions + len(row.items) > batch_size
        if step and (full or not whole):
            yield step
            step, questions = [], 0
        if not whole:
            yield [row]
            continue
        step.append(row)
        questions += len(row.items)
    if step:
        yield step


def _rows(group: list[Item]) -> list[Row]:
    shared = _common_prefix(group)
    longest = max(len(item.ids) for item in group) - len(shared)
    images = group[0].images
    # An image is hundreds of tokens: worth sharing however long the questions are.
    if len(group) > 1 and (images or len(shared) >= longest):
        return [Row(shared, images, tuple(group))]
    return [Row(item.ids[:-1], item.images, (item,)) for item in group]


def _through_last_image(ids: tuple[int, ...]) -> tuple[int, ...]:
    places = [place for place, token in enumerate(ids) if token == IMAGE]
    return ids[: places[-1] + 1] if places else ()


def _common_prefix(group: list[Item]) -> tuple[int, ...]:
    """The longest that leaves each item a token of its own."""
    first, last = min(item.ids for item in group), max(item.ids for item in group)
    length = min(len(item.ids) for item in group) - 1
    for place in range(length):
        if first[place] != last[place]:  # the least and the greatest differ first where any two do
            return first[:place]
    return first[:length]
