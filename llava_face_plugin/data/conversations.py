"""From attributes to LLaVA conversations and to questions for upstream's ``llava/eval/model_vqa_loader.py``.

The wording of questions and answers is our default.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import FaceDataError
from ..registry import unknown_name

ANSWER_HINT = "Answer yes or no."

QUESTIONS: dict[str, str] = {
    "5_o_Clock_Shadow": "Does the person have a five o'clock shadow?",
    "Arched_Eyebrows": "Does the person have arched eyebrows?",
    "Attractive": "Would annotators call the person attractive?",
    "Bags_Under_Eyes": "Does the person have bags under the eyes?",
    "Bald": "Is the person bald?",
    "Bangs": "Does the person have bangs?",
    "Big_Lips": "Does the person have big lips?",
    "Big_Nose": "Does the person have a big nose?",
    "Black_Hair": "Is the person's hair black?",
    "Blond_Hair": "Is the person's hair blond?",
    "Blurry": "Is the picture blurry?",
    "Brown_Hair": "Is the person's hair brown?",
    "Bushy_Eyebrows": "Does the person have bushy eyebrows?",
    "Chubby": "Is the person chubby?",
    "Double_Chin": "Does the person have a double chin?",
    "Eyeglasses": "Is the person wearing eyeglasses?",
    "Goatee": "Does the person have a goatee?",
    "Gray_Hair": "Is the person's hair gray?",
    "Heavy_Makeup": "Is the person wearing heavy make-up?",
    "High_Cheekbones": "Does the person have high cheekbones?",
    "Male": "Is the person male?",
    "Mouth_Slightly_Open": "Is the person's mouth slightly open?",
    "Mustache": "Does the person have a mustache?",
    "Narrow_Eyes": "Does the person have narrow eyes?",
    "No_Beard": "Is the person without a beard?",
    "Oval_Face": "Does the person have an oval face?",
    "Pale_Skin": "Does the person have pale skin?",
    "Pointy_Nose": "Does the person have a pointy nose?",
    "Receding_Hairline": "Does the person have a receding hairline?",
    "Rosy_Cheeks": "Does the person have rosy cheeks?",
    "Sideburns": "Does the person have sideburns?",
    "Smiling": "Is the person smiling?",
    "Straight_Hair": "Is the person's hair straight?",
    "Wavy_Hair": "Is the person's hair wavy?",
    "Wearing_Earrings": "Is the person wearing earrings?",
    "Wearing_Hat": "Is the person wearing a hat?",
    "Wearing_Lipstick": "Is the person wearing lipstick?",
    "Wearing_Necklace": "Is the person wearing a necklace?",
    "Wearing_Necktie": "Is the person wearing a necktie?",
    "Young": "Is the person young?",
}

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


def question(attribute: str) -> str:
    """The closed question about one attribute. Raises ``FaceDataError`` if there is no wording for it."""
    if attribute not in QUESTIONS:
        raise FaceDataError(unknown_name("attribute", attribute, QUESTIONS))
    return f"{QUESTIONS[attribute]} {ANSWER_HINT}"


def closed_questions(sample: Sample, *, k: int = 4, seed: int = 0) -> dict[str, Any] | None:
    """One LLaVA training row: a conversation of up to ``k`` yes/no questions about known attributes.

    Which questions are asked, and their order, depends on ``seed`` and the sample's id alone. None if no
    attribute is known.
    """
    asked = _asked(sample, k, seed)
    if not asked:
        return None
    turns: list[dict[str, str]] = []
    for i, attribute in enumerate(asked):
        turns.append({"from": "human", "value": ("<image>\n" if i == 0 else "") + question(attribute)})
        turns.append({"from": "gpt", "value": "Yes" if sample.attributes[attribute] else "No"})
    row: dict[str, Any] = {"id": sample.id, "image": sample.image}
    if sample.face_map is not None:
        row["face_map"] = sample.face_map
    row["face_attributes"] = {a: int(v) for a, v in sample.attributes.items()}
    row["conversations"] = turns
    return row


def question_rows(samples: Iterable[Sample], *, k: int | None = None, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Rows of a question file for ``model_vqa_loader.py``: ``question_id`` (unique), ``image``, ``text``.

    Extra keys, which upstream ignores: ``attribute``, ``answer`` ("yes" or "no"), ``sample``. ``k``
    questions a sample, drawn as in ``closed_questions``; None asks about every known attribute, in
    vocabulary order.
    """
    number = 0
    for sample in samples:
        asked = list(sample.attributes) if k is None else _asked(sample, k, seed)
        for attribute in asked:
            yield {
                "question_id": number,
                "image": sample.image,
                "text": question(attribute),
                "attribute": attribute,
                "answer": "yes" if sample.attributes[attribute] else "no",
                "sample": sample.id,
            }
            number += 1


def text_only_rows(n: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """``n`` training rows without a picture: a question about faces in general and its answer."""
    rng = random.Random(f"{seed}:text")
    rows = []
    for i in range(n):
        asked, answer = rng.choice(_ABOUT_FACES)
        turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
        rows.append({"id": f"text-{i:06d}", "conversations": turns})
    return rows


def _asked(sample: Sample, k: int, seed: int) -> list[str]:
    known = list(sample.attributes)
    # A string seed is hashed with sha512: the same on every machine and Python version.
    return random.Random(f"{seed}:{sample.id}").sample(known, min(k, len(known)))
