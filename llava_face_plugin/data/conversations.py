"""From what is known of a picture to LLaVA conversations, and to questions for upstream's ``model_vqa_loader.py``.

Four styles, each a conversation of its own, so that no answer is given away by an earlier turn of another style:
``closed`` (yes or no), ``list`` (which attributes apply), ``choice`` (one of the values of a closed-set label),
``describe`` (sentences in the order of FaceInsight's Fig. 1). What is asked, in which wording and order, is drawn by
the seed and the sample's id alone. The wording (``wording.py``) is our default.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import FaceDataError
from ..labels import prompt_of
from ..registry import unknown_name
from . import wording
from .face_description import REGIONS, describe
from .wording import ANSWER_HINT, QUESTIONS, choice_wordings, closed_wordings, key_of, question, words

__all__ = [
    "ANSWER_HINT", "QUESTIONS", "STYLES", "Plan", "Sample", "choice_rows", "closed_questions", "conversations",
    "question", "question_rows", "rarity", "row_of", "text_only_rows",
]  # fmt: skip

# Text-only samples (no picture), for mixing.
_ABOUT_FACES: tuple[tuple[str, str], ...] = (
    ("Which part of the face lies between the nose and the upper lip?", "The philtrum."),
    ("What is the colored part of the eye called?", "The iris."),
    ("Which part of the face is used to smell?", "The nose."),
    ("What grows above the eyes?", "The eyebrows."),
    ("Where are earrings usually worn?", "On the ears, most often on the earlobes."),
    ("What joins the head to the body?", "The neck."),
    ("What is hair that covers the forehead called?", "Bangs."),
    ("What is hair between the nose and the upper lip called?", "A mustache."),
    ("What is a beard that covers only the chin called?", "A goatee."),
    ("Is a hat a part of the face? Answer yes or no.", "No"),
    ("Does a face have two eyebrows? Answer yes or no.", "Yes"),
    ("Can a bald person have bangs? Answer yes or no.", "No"),
)


@dataclass(frozen=True)
class Sample:
    """One picture with what is known of it; paths are relative to one ``--image_folder``, or absolute."""

    id: str
    image: str
    attributes: Mapping[str, int] = field(default_factory=dict)  # 0 or 1; a missing name is unknown
    face_map: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)  # closed-set column -> value; a missing one is unknown
    age: float | None = None  # years
    also: Mapping[str, int] = field(default_factory=dict)  # more for face_attributes, about which nothing is asked
    video: bool = False  # ``image`` names a clip: a video file or a folder of frames

    @property
    def media(self) -> dict[str, str]:
        """The key under which rows name the picture or the clip."""
        return {"video" if self.video else "image": self.image}


@dataclass(frozen=True)
class Plan:
    """How samples become conversations.

    ``k``: closed or choice questions an image. ``classes``: the values of every closed-set column. ``weights``: see
    ``rarity``; None asks about every attribute alike. ``varied``: several wordings, or only the plain one.
    """

    styles: tuple[str, ...] = ("closed",)
    k: int = 4
    seed: int = 0
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    weights: Mapping[str, tuple[float, float]] | None = None
    varied: bool = True

    def __post_init__(self) -> None:
        for style in self.styles:
            if style not in STYLES:
                raise FaceDataError(f"styles: {unknown_name('style', style, STYLES)}")
        if not self.styles or len(set(self.styles)) < len(self.styles):
            raise FaceDataError(f"styles: expected some of {', '.join(STYLES)}, each once, got {list(self.styles)}")


Turns = list[tuple[str, str]]
"""Questions and their answers."""


def conversations(sample: Sample, plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    """(style, LLaVA training row) for every style of the plan that fits what is known of the sample.

    A row's id is the sample's, with the style after a colon where it is not the plan's first one.
    """
    for number, style in enumerate(plan.styles):
        turns = STYLES[style](sample, plan)
        if turns:
            yield style, row_of(sample, turns, f":{style}" if number else "")


def closed_questions(sample: Sample, *, k: int = 4, seed: int = 0) -> dict[str, Any] | None:
    """One LLaVA training row: a conversation of up to ``k`` yes/no questions about known attributes, plainly worded.

    Which questions are asked, and their order, depends on ``seed`` and the sample's id alone. None if no
    attribute is known.
    """
    return next((row for _, row in conversations(sample, Plan(k=k, seed=seed, varied=False))), None)


def question_rows(samples: Iterable[Sample], *, k: int | None = None, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Rows of a question file for ``model_vqa_loader.py``: ``question_id`` (unique), ``image``, ``text``.

    Extra keys, which upstream ignores: ``attribute``, ``answer`` ("yes" or "no"), ``sample``. ``k``
    questions a sample, drawn as in ``closed_questions``; None asks about every known attribute, in
    vocabulary order.
    """
    number = 0
    for sample in samples:
        asked = list(sample.attributes) if k is None else _asked(sample, Plan(k=k, seed=seed))
        for attribute in asked:
            yield {
                "question_id": number,
                **sample.media,
                "text": closed_wordings(attribute)[0],
                "attribute": attribute,
                "answer": "yes" if sample.attributes[attribute] else "no",
                "sample": sample.id,
            }
            number += 1


def choice_rows(
    samples: Iterable[Sample], classes: Mapping[str, tuple[str, ...]], *, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """Rows as in ``question_rows``, one for every known closed-set label.

    Extra keys: ``column``, ``options`` (in the order asked), ``answer`` (one of them), ``sample``.
    """
    number = 0
    for sample in samples:
        for column, value in sample.labels.items():
            options = _options(classes[column], random.Random(f"{seed}:{sample.id}:{column}"))
            yield {
                "question_id": number, **sample.media, "text": choice_wordings(column, options)[0],
                "column": column, "options": options, "answer": words(value), "sample": sample.id,
            }  # fmt: skip
            number += 1


def text_only_rows(n: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """``n`` training rows without a picture: a question about faces in general and its answer."""
    rng = random.Random(f"{seed}:text")
    rows = []
    for i in range(n):
        turns = [rng.choice(_ABOUT_FACES)]
        rows.append({"id": f"text-{i:06d}", "conversations": _turns(turns)})
    return rows


def rarity(vocabulary: Sequence[str], attributes: np.ndarray) -> dict[str, tuple[float, float]]:
    """Weights of "no" and "yes" by which ``Plan.weights`` chooses attributes: 1 / number of such images.

    ``attributes``: (N, A) int8 of the images that are asked about. So every attribute, and yes and no of it, is
    asked about equally often as far as the images allow (our default).
    """
    counts = np.stack([(attributes == value).sum(axis=0) for value in (0, 1)], axis=1)
    weights = 1.0 / np.maximum(counts, 1)
    return {name: (float(no), float(yes)) for name, (no, yes) in zip(vocabulary, weights, strict=True)}


def _closed(sample: Sample, plan: Plan) -> Turns:
    rng = random.Random(f"{plan.seed}:{sample.id}:closed")
    return [
        (rng.choice(texts) if plan.varied else texts[0], "Yes" if sample.attributes[attribute] else "No")
        for attribute in _asked(sample, plan)
        for texts in (closed_wordings(attribute),)
    ]


def _list(sample: Sample, plan: Plan) -> Turns:
    """All that apply, then what applies of one region of the face of which several things are known."""
    if not sample.attributes:
        return []
    rng = random.Random(f"{plan.seed}:{sample.id}:list")
    text = rng.choice(wording.LISTS) if plan.varied else wording.LISTS[0]
    turns = [(text, _applying(sample.attributes))]
    by_key = {key_of(name): name for name in sample.attributes}
    regions = [(r.topic, [by_key[a] for a in r.attributes if a in by_key]) for r in REGIONS]
    several = [(topic, names) for topic, names in regions if len(names) > 1]
    if several:
        topic, names = rng.choice(several)
        rng.shuffle(names)
        options = ", ".join(map(prompt_of, names))
        asked = {name: sample.attributes[name] for name in names}
        turns.append((wording.LIST_OF.format(topic=topic, options=options), _applying(asked)))
    return turns


def _choice(sample: Sample, plan: Plan) -> Turns:
    rng = random.Random(f"{plan.seed}:{sample.id}:choice")
    turns = []
    for column in rng.sample(list(sample.labels), min(plan.k, len(sample.labels))):
        texts = choice_wordings(column, _options(plan.classes[column], rng))
        turns.append((rng.choice(texts) if plan.varied else texts[0], words(sample.labels[column])))
    return turns


def _describe(sample: Sample, plan: Plan) -> Turns:
    rng = random.Random(f"{plan.seed}:{sample.id}:describe")
    text = rng.choice(wording.DESCRIPTIONS) if plan.varied else wording.DESCRIPTIONS[0]
    said = describe(sample.attributes, sample.labels, sample.age, rng)
    return [(text, said)] if said else []


STYLES: dict[str, Callable[[Sample, Plan], Turns]] = {
    "closed": _closed, "list": _list, "choice": _choice, "describe": _describe,
}  # fmt: skip
"""Name -> the turns of that style, none where it does not fit."""


def _asked(sample: Sample, plan: Plan) -> list[str]:
    known = list(sample.attributes)
    # A string seed is hashed with sha512: the same on every machine and Python version.
    rng = random.Random(f"{plan.seed}:{sample.id}")
    n = min(plan.k, len(known))
    if plan.weights is None:
        return rng.sample(known, n)
    # Weighted sampling without replacement (Efraimidis and Spirakis, 2006): the n least of exponential times.
    times = {a: -math.log(1.0 - rng.random()) / plan.weights[a][sample.attributes[a]] for a in known}
    return sorted(known, key=times.__getitem__)[:n]


def _applying(attributes: Mapping[str, int]) -> str:
    return ", ".join(prompt_of(a) for a, value in attributes.items() if value) or wording.NOTHING


def _options(values: Sequence[str], rng: random.Random) -> list[str]:
    options = [words(v) for v in values]
    rng.shuffle(options)
    return options


def row_of(sample: Sample, turns: Turns, suffix: str = "") -> dict[str, Any]:
    """One LLaVA training row: these questions and answers about the sample, its id with ``suffix``."""
    row: dict[str, Any] = {"id": sample.id + suffix, **sample.media}
    if sample.face_map is not None:
        row["face_map"] = sample.face_map
    row["face_attributes"] = {**{a: int(v) for a, v in sample.attributes.items()}, **sample.also}
    row["conversations"] = _turns([("<image>\n" + turns[0][0], turns[0][1]), *turns[1:]])
    return row


def _turns(turns: Turns) -> list[dict[str, str]]:
    return [{"from": who, "value": text} for pair in turns for who, text in zip(("human", "gpt"), pair, strict=True)]
