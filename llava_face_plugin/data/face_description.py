"""FaceInsight-style descriptions, put together from the known attributes alone.

The order is that of the answers in Fig. 1 of the paper: race and gender, age; face shape, forehead, chin; hair,
expression; eyebrows; eyes, bags, eyewear; nose; mouth; beard; accessories. The sentences are our default: the paper
shows a figure, no templates. ``Attractive`` and ``Blurry`` are judgements of taste and of the picture, not of the face,
and are left out.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .wording import ACTIONS, key_of, words


@dataclass(frozen=True)
class Region:
    """What a sentence speaks of. Keys are (attribute as ``wording.key_of`` spells it, its value)."""

    topic: str
    head: str = ""
    """The noun that adjectives stand before; with ``{}`` where it takes an article."""
    adjectives: Mapping[str, str] = field(default_factory=dict)
    phrases: Mapping[tuple[str, int], str] = field(default_factory=dict)

    @functools.cached_property
    def attributes(self) -> tuple[str, ...]:
        """The keys of all attributes of this region."""
        return tuple(dict.fromkeys((*self.adjectives, *(name for name, _ in self.phrases))))


FACE = Region(
    "face",
    "{} face",
    {"oval_face": "oval", "square_face": "square", "round_face": "round", "chubby": "chubby"},
    {
        ("pale_skin", 1): "pale skin", ("shiny_skin", 1): "shiny skin", ("rosy_cheeks", 1): "rosy cheeks",
        ("high_cheekbones", 1): "high cheekbones", ("fully_visible_forehead", 1): "a fully visible forehead",
        ("obstructed_forehead", 1): "a covered forehead", ("round_jaw", 1): "a round jaw",
        ("partially_visible_forehead", 1): "a partially visible forehead", ("double_chin", 1): "a double chin",
    },
)  # fmt: skip
HAIR = Region(
    "hair",
    "hair",
    {
        "long_hair": "long", "straight_hair": "straight", "wavy_hair": "wavy", "curly_hair": "curly",
        "black_hair": "black", "blond_hair": "blond", "blonde_hair": "blond", "brown_hair": "brown",
        "gray_hair": "gray",
    },
    {("bald", 1): "a bald head", ("bangs", 1): "bangs", ("receding_hairline", 1): "a receding hairline"},
)  # fmt: skip
EYEBROWS = Region("eyebrows", "eyebrows", {"bushy_eyebrows": "bushy", "arched_eyebrows": "arched"})
EYES = Region(
    "eyes",
    "eyes",
    {"narrow_eyes": "narrow", "brown_eyes": "brown"},
    {("bags_under_eyes", 1): "bags under the eyes"},
)
NOSE = Region("nose", "{} nose", {"big_nose": "big", "pointy_nose": "pointy"})
MOUTH = Region(
    "mouth",
    "lips",
    {"big_lips": "big"},
    {
        ("mouth_slightly_open", 1): "a slightly open mouth", ("mouth_slightly_open", 0): "a closed mouth",
        ("mouth_wide_open", 1): "a wide open mouth", ("mouth_closed", 1): "a closed mouth",
        ("mouth_closed", 0): "an open mouth",
    },
)  # fmt: skip
BEARD = Region(
    "beard",
    phrases={
        ("no_beard", 1): "no beard", ("no_beard", 0): "a beard", ("mustache", 1): "a mustache",
        ("goatee", 1): "a goatee", ("sideburns", 1): "sideburns",
        ("5_o_clock_shadow", 1): "a five o'clock shadow",
    },
)  # fmt: skip
EYEWEAR = Region(
    "eyewear",
    phrases={
        ("eyeglasses", 1): "eyeglasses", ("sunglasses", 1): "sunglasses", ("eyeglasses", 0): "no eyeglasses",
        ("no_eyewear", 1): "no eyewear",
    },
)  # fmt: skip
ACCESSORIES = Region(
    "accessories and make-up",
    phrases={
        ("heavy_makeup", 1): "heavy make-up", ("wearing_lipstick", 1): "lipstick", ("wearing_hat", 1): "a hat",
        ("wearing_mask", 1): "a mask", ("wearing_earrings", 1): "earrings", ("wearing_necklace", 1): "a necklace",
        ("wearing_necktie", 1): "a necktie",
    },
)  # fmt: skip
REGIONS = (FACE, HAIR, EYEBROWS, EYES, EYEWEAR, NOSE, MOUTH, BEARD, ACCESSORIES)

_COLOUR = {"asian": "Asian", "white": "white", "black": "black", "indian": "Indian"}
_AGE = {"young": "young", "youth": "young", "middle_aged": "middle-aged", "senior": "old"}
CHILD_AGE = 13
"""Who is younger is a boy, a girl or a child (our default)."""
_NOUNS = {"adult": {"male": "man", "female": "woman"}, "child": {"male": "boy", "female": "girl"}, "either": {}}
_PLAIN = {"adult": "person", "child": "child", "either": "person"}
_NO_RACE = ("other", "others", "unknown")
# Left out where another phrase says it already, or the labels contradict each other.
_SAID = {
    "no eyeglasses": ("no eyewear", "sunglasses"),
    "no eyewear": ("eyeglasses", "sunglasses"),
    "no beard": ("a mustache", "a goatee", "sideburns"),
    "a closed mouth": ("a wide open mouth", "an open mouth"),
    "an open mouth": ("a slightly open mouth", "a wide open mouth", "a closed mouth"),
}


LEADS = ("The picture shows", "This is")


def describe(
    attributes: Mapping[str, int],
    labels: Mapping[str, str],
    age: float | None,
    rng: random.Random,
    leads: tuple[str, ...] = LEADS,
) -> str | None:
    """Some sentences about a person, or None if less than two things are known to say.

    ``attributes``: known ones, 0 or 1. ``labels``: closed-set column -> value. ``age`` in years. ``rng`` chooses
    between ways to begin a sentence, nothing else: the first one among ``leads``.
    """
    known = {key_of(name): value for name, value in attributes.items()}
    subject = Subject(known, labels, age, rng)
    if subject.noun not in ("man", "person"):
        known.pop("no_beard", None)  # true, but not worth saying
    said = [subject.introduction(leads)] if subject.facts else []
    for region in REGIONS:
        verb = "wear" if region in (EYEWEAR, ACCESSORIES) else "have"
        if things := _things(region, known):
            said.append(subject.says(verb, listed(things)))
        if region is HAIR and (expression := _expression(known, labels)):
            said.append(expression)
    if doing := [text for name, text in ACTIONS.items() if known.get(name) == 1 and name != "smile"]:
        said.append(subject.says("be", listed(doing)))
    return " ".join(said) if len(said) > 1 or subject.facts > 1 else None


class Subject:
    """Who is spoken of, and how."""

    def __init__(
        self, known: Mapping[str, int], labels: Mapping[str, str], age: float | None, rng: random.Random
    ) -> None:
        gender = labels.get("gender", "").lower()
        if not gender and "male" in known:
            gender = "male" if known["male"] else "female"
        self.gendered = gender in ("male", "female")
        stage = _stage_of(known, labels, age)
        self.noun = _NOUNS[stage].get(gender, _PLAIN[stage])
        self.pronoun = {"male": "He", "female": "She"}.get(gender, "They")
        race = words(labels.get("race", ""))
        self.race = "" if race.lower() in _NO_RACE else race or _one_of(_COLOUR, known)
        self.years = _years(age) if age is not None else words(labels.get("age_group", ""))
        self.years += " years" if self.years and age is None else ""
        self.stage = "" if self.years else _one_of(_AGE, known)
        self.rng = rng

    @property
    def facts(self) -> int:
        """How many things the introduction says."""
        return sum(bool(fact) for fact in (self.race, self.years, self.stage, self.gendered))

    def introduction(self, leads: tuple[str, ...] = LEADS) -> str:
        """Who it is: ``This is a young woman.``"""
        who = " ".join(word for word in (self.stage, self.race, self.noun) if word)
        lead = self.rng.choice(leads)
        return f"{lead} {_with_article(who)}" + (f", {self.years} old." if self.years else ".")

    def says(self, verb: str, what: str) -> str:
        """``She has``, ``wears`` or ``is`` something; ``verb``: have, wear or be."""
        pronoun = self.rng.choice((*[self.pronoun] * 3, f"The {self.noun}"))
        many = pronoun == "They"
        form = {"have": "have" if many else "has", "wear": "wear" if many else "wears", "be": "are" if many else "is"}
        return f"{pronoun} {form[verb]} {what}."


def _stage_of(known: Mapping[str, int], labels: Mapping[str, str], age: float | None) -> str:
    """``child``, ``adult``, or ``either`` for an age group with both."""
    if age is not None:
        return "child" if age < CHILD_AGE else "adult"
    years = [int(n) for n in re.findall(r"\d+", labels.get("age_group", ""))]
    if len(years) == 2 and years[1] < CHILD_AGE:
        return "child"
    if len(years) == 2 and years[0] < CHILD_AGE:
        return "either"
    return "child" if not years and (known.get("baby") == 1 or known.get("child") == 1) else "adult"


def _years(age: float) -> str:
    n = round(age)
    return "less than 1 year" if n < 1 else f"about {n} year{'s' if n > 1 else ''}"


def _things(region: Region, known: Mapping[str, int]) -> list[str]:
    adjectives = [text for name, text in region.adjectives.items() if known.get(name) == 1]
    things = []
    if adjectives:
        joined = ", ".join(adjectives)
        things.append(
            _with_article(f"{joined} {region.head[3:]}") if "{}" in region.head else f"{joined} {region.head}"
        )
    things += dict.fromkeys(text for (name, value), text in region.phrases.items() if known.get(name) == value)
    return [t for t in things if not any(other in things for other in _SAID.get(t, ()))]


def _expression(known: Mapping[str, int], labels: Mapping[str, str]) -> str:
    smiling = known.get("smiling", known.get("smile"))
    if "expression" in labels:
        return f"The expression is {words(labels['expression']).lower()}" + (", with a smile." if smiling else ".")
    return "" if smiling is None else "The expression is a smile." if smiling else "There is no smile."


def _one_of(table: Mapping[str, str], known: Mapping[str, int]) -> str:
    """The one that applies; nothing if there are several."""
    found = [text for name, text in table.items() if known.get(name) == 1]
    return found[0] if len(found) == 1 else ""


def listed(things: list[str]) -> str:
    """``a, b and c``."""
    return things[0] if len(things) == 1 else f"{', '.join(things[:-1])} and {things[-1]}"


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
