"""Questions in, answers out, in the same order: images encoded once, prefixes computed once, the rest batched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import FaceDataError
from .arguments import Arguments
from .decode import Branch, Prefixes
from .grouping import Item, Row, rows_of, steps_of, windows_of
from .host import IMAGE, Host
from .questions import ImageRef, Question
from .visual_cache import VisualCache

MARGIN = 1e-4
"""Default of ``margin`` in float32: some hundred times what batching was seen to change (docs/eval_model.md)."""


@dataclass(frozen=True)
class Answer:
    """An answer's text, cut at the stop texts, and token counts."""

    text: str
    input_tokens: int
    """Those of images included."""
    output_tokens: int
    """Those through the end token, or through the one that completes a stop text."""


class Engine:
    """Answers questions on one host. Not for several threads at once."""

    def __init__(self, host: Host, arguments: Arguments) -> None:
        self.host = host
        self.arguments = arguments
        self.cache = VisualCache(arguments.cache_mb)
        self.images = arguments.images_per_batch or (1 if host.device.type == "cpu" else 8)
        default = MARGIN if host.dtype == torch.float32 else 0.0
        self.margin = default if arguments.margin is None else arguments.margin
        self.encoded = 0
        """Images that went through the vision tower for batched answers."""
        self.asked_again = 0
        """Answers that were so close to a tie that ``generate`` decided them."""
        self.one_by_one = 0
        """Answers that went to ``generate`` at once: sampling, beams, overlong prompts, images that are read with the
        question."""

    def answer(self, questions: Sequence[Question], done: Callable[[int], object] = lambda count: None) -> list[Answer]:
        """One answer a question. ``done`` is told how many more questions are answered.

        Raises ``FaceDataError`` for images that cannot be read and prompts whose places do not fit their images.
        """
        answers: dict[int, Answer] = {}
        for window in windows_of(questions):
            batched: list[Item] = []
            for index in window:
                question = questions[index]
                ids = self._tokenized(question)
                if self._batches(question, ids):
                    batched.append(Item(index, ids, question.images, question.generation.max_new_tokens))
                else:
                    answers[index] = self._one_by_one(question)
                    done(1)
            for step in steps_of(rows_of(batched), self.images, self.arguments.batch_size):
                answers |= self._step(step, questions, done)
        return [answers[index] for index in range(len(questions))]

    def _batches(self, question: Question, ids: tuple[int, ...]) -> bool:
        """Whether our decoding applies: greedy, images that questions can share, and text at the end to decode from."""
        greedy = question.generation.greedy and self.host.plain_greedy
        shared = not (self.host.reads_prompt and question.images)
        return greedy and shared and not self.arguments.exact and ids[-1:] not in ((), (IMAGE,))

    def _tokenized(self, question: Question) -> tuple[int, ...]:
        ids = tuple(self.host.tokenize(question.prompt))
        places = ids.count(IMAGE)
        if places != len(question.images):
            raise FaceDataError(
                f"a prompt has {places} places for images (<image>), but {len(question.images)} images came with it: "
                f"{question.prompt[-200:]!r}"
            )
        return ids

    def _step(self, step: list[Row], questions: Sequence[Question], done: Callable[[int], object]) -> dict[int, Answer]:
        visual = self._visual([image for row in step for image in row.images])
        sizes = {key: len(tokens) for key, tokens in visual.items()}
        answers: dict[int, Answer] = {}
        fitting = [row for row in step if max(_length(item, sizes) for item in row.items) <= self.host.limit]
        for row in step:
            if row not in fitting:  # generate knows what its host does with a prompt that is too long
                answers |= {item.index: self._one_by_one(questions[item.index]) for item in row.items}
                done(len(row.items))
        if not fitting:
            return answers
        prefixes = Prefixes(self.host, [self._embedded(row, visual) for row in fitting])
        chunks = [row.chunks(self.arguments.batch_size) for row in fitting]
        for turn in range(max(map(len, chunks))):
            items = [column[turn] for column in chunks]  # several rows have one chunk each
            branches = [
                [self._branch(row, item, questions) for item in column]
                for row, column in zip(fitting, items, strict=True)
            ]
            prefixes.answer(branches)
            for column, answered in zip(items, branches, strict=True):
                for item, branch in zip(column, answered, strict=True):
                    answers[item.index] = self._finished(item, branch, questions[item.index], sizes)
                done(len(column))
        return answers

    def _branch(self, row: Row, item: Item, questions: Sequence[Question]) -> Branch:
        generation = questions[item.index].generation
        stopped = (lambda ids: generation.stopped(self.host.text_of(ids))) if generation.until else None
        return Branch(row.suffix(item), generation.max_new_tokens, stopped)

    def _finished(self, item: Item, branch: Branch, question: Question, sizes: dict[str, int]) -> Answer:
        if branch.margin < self.margin:
            self.asked_again += 1
            return self._by_generate(question)
        text = question.generation.cut(self.host.text_of(branch.answer))
        return Answer(text, _length(item, sizes), len(branch.answer))

    def _one_by_one(self, question: Question) -> Answer:
        self.one_by_one += 1
        return self._by_generate(question)

    def _by_generate(self, question: Question) -> Answer:
        generation = question.generation
        options = {"max_new_tokens": generation.max_new_tokens, "do_sample": False, **generation.options}
        images = [image.open() for image in question.images]
        ids: Sequence[int]
        ids, length = self.host.generate(question.prompt, images, options)
        ids = generation.ended(ids, self.host.text_of)
        return Answer(generation.cut(self.host.text_of(ids)), length, len(ids))

    def _visual(self, images: Sequence[ImageRef]) -> dict[str, Tensor]:
        """Image key -> (P, D), encoded where it is not kept."""
        found: dict[str, Tensor] = {}
        missing: dict[str, ImageRef] = {}
        for image in images:
            tokens = self.cache.get(image.key)
            if tokens is None:
                missing[image.key] = image
            else:
                found[image.key] = tokens
        waiting = list(missing.values())
        for start in range(0, len(waiting), self.images):
            some = waiting[start : start + self.images]
            self.encoded += len(some)
            for image, tokens in zip(some, self.host.visual([image.open() for image in some]), strict=True):
                found[image.key] = tokens
                self.cache.put(image.key, tokens)
        return found

    @torch.inference_mode()
    def _embedded(self, row: Row, visual: dict[str, Tensor]) -> Tensor:
        """(P, D): the prefix of a row with its images in place."""
        ids = torch.tensor(row.prefix, dtype=torch.long, device=self.host.device)
        embedded = self.host.embed(ids.clamp(min=0))
        places = [place for place, token in enumerate(row.prefix) if token == IMAGE]
        pieces, start = [], 0
        for place, image in zip(places, row.images, strict=True):
            pieces += [embedded[start:place], visual[image.key].to(embedded)]
            start = place + 1
        return torch.cat([*pieces, embedded[start:]])


def _length(item: Item, sizes: dict[str, int]) -> int:
    return len(item.ids) - len(item.images) + sum(sizes[image.key] for image in item.images)
