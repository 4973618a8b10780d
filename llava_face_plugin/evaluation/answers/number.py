"""Answers that are a number, such as an age."""

from __future__ import annotations

import re
from typing import Literal

from ...errors import FaceDataError
from .parsed import Parsed, Value, parse
from .reading import CJK

_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def _spelled() -> dict[str, int]:
    """English number words from 0 to 120, lower case, spaces for hyphens."""
    words = {word: i for i, word in enumerate(_UNITS)}
    for i, tens in enumerate(_TENS, start=2):
        words |= {tens: 10 * i} | {f"{tens} {unit}": 10 * i + n for n, unit in enumerate(_UNITS[1:10], start=1)}
    for hundred in ("one hundred", "a hundred", "hundred"):
        words |= {hundred: 100} | {f"{hundred} {link}{w}": 100 + n for w, n in list(words.items()) if 0 < n <= 20
                                   for link in ("", "and ")}  # fmt: skip
    return words


_SPELLED = _spelled()
_SPELLED_WORD = re.compile(rf"\b(?:{'|'.join(sorted(_SPELLED, key=len, reverse=True))})\b")
# Up to twelve a word is more often "two people", "one of them" than an answer.
_SMALL = "|".join(_UNITS[:13])
_HEDGE = r"(?:about|around|approximately|roughly|age|aged|minus|negative)"
_ONLY_SMALL = re.compile(rf"\W*(?:{_HEDGE}\W+)*(?:{_SMALL})\W*")
_NUMBER = re.compile(
    rf"(?<![^\W{CJK}])(?<!\.)(?<!\d,)([-+]?)(?<!\.)(\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|\d+(?:\.\d+)?)"
    rf"(?:y|yo|yrs?|years?)?(?![.,]\d)(?!(?![{CJK}])\w)"
)
_UNCLEAR_WORD = re.compile(
    r"\b(?:hundreds?|thousands?|millions?|dozens?|half|teens|(?:twen|thir|for|fif|six|seven|eigh|nine)ties)\b"
    # "One" is not read as a digit here: "one hundred and twenty-one", "ten to one".
    rf"|\b(?:{_SMALL}) (?:\d|thousand)"
    r"|\d point\b|\d (?:(?:to|or|and) )?one\b|\bone (?:to|or|and|point) \d"
)
_YEARS = r"(?: ?(?:years?(?: old| of age)?|yrs?|yo))?"
# What the percentage is of: "70% sure", "70% different".
_OF_OTHERS = re.compile(r"\d ?(?:%|per ?cent)? ?(?:sure|certain|confiden|chance|likely|probab|dissimilar|different)")
# A bound, a denial or a supposition is no value.
_BOUND = re.compile(
    r"(?:[<>≤≥]=?|\b(?:over|under|above|below|beyond|at least|at most|up to|past|not|no|never|whether|if"
    r"|(?:more|less|older|younger|greater|fewer|other|rather|lower|higher) than))"
    r" ?(?:about |around |the age of |age )?[-+]?\d"
    rf"|\d{_YEARS} ?(?:\+|plus\b|(?:or|and) (?:older|above|more|over|up|younger|below|less|under|fewer)\b)"
)
Unit = Literal["years", "percent"]
_OWN_UNIT: dict[Unit, str] = {"years": r" ?-?(?:years?|yrs?|yo)\b", "percent": r" ?(?:%|percent\b|per cent\b)"}
_COUNTED = r"people|persons?|faces?|individuals?|men|women|children|kids|images?|pictures?|photos?|times"
_OTHER_UNIT = (
    r"(?:months?|mos?|weeks?|days?|hours?|hrs?|minutes?|mins?|seconds?|decades?|centur(?:y|ies)|feet|foot|ft|inch(?:es)?"
    r"|met(?:er|re)s?|m|cm|mm|centimet(?:er|re)s?|kilos?|kilograms?|kgs?|grams?|lbs?|pounds?|stones?|degrees?)\b"
)


def parse_number(text: str, low: float, high: float, unit: Unit = "years") -> Parsed:
    """The one number in the answer, as a float within [``low``, ``high``], or unparsed. Rules, in order:

    1. The text is cleaned, and its explicit final answers are found (``reading``). If these hold a number, they decide
       alone, and must agree. Each, or else the whole text, is read by rules 2 to 7.
    2. English number words from thirteen to one hundred and twenty are numbers ("thirty-four"). Those up to twelve are
       numbers where they are the whole text ("about seven") or stand before ``unit`` ("seven years old"). Elsewhere
       they are not counted ("two people", "this one"), but leave the text unparsed at the end of a clause or beside
       another number, if they differ from it ("5 or six").
    3. A number: digits of any script with an optional sign, decimal point and thousands commas ("1,234"), alone or
       with ``unit``: "34yo", "34-year-old", "34岁", or "34%", "34 percent". "About 34" is 34.
    4. A number in another unit leaves the text unparsed: "18 months", "6-month-old", "5 feet", "70 kg", "2 people",
       percent where years are asked for, years where percent are; so does "70% sure", "70% different".
    5. Any other digit leaves the text unparsed: "30s", "AU12", "3.4.5", "34,5"; so do "twenties", "dozen", "half".
    6. A bound or a denial is no value: "over 34", "34+", "at least 34", "34 or older", "not 34", "if 34".
    7. All numbers must be equal: "30-40", "between 30 and 40", "34 or 35" and "image 2 shows 34" are unparsed. A
       number outside [``low``, ``high``] is unparsed too, never clipped.

    Raises ``FaceDataError`` unless ``low`` <= ``high`` and for an unknown ``unit``, ``TypeError`` if ``text`` is not a
    string. Source: our default.
    """
    if not low <= high:
        raise FaceDataError(f"a number between {low} and {high} does not exist")
    if unit not in _OWN_UNIT:
        raise FaceDataError(f"a number's unit is one of {', '.join(_OWN_UNIT)}, not {unit!r}")
    return parse(text, lambda piece: _judge(piece, low, high, unit))


def _judge(text: str, low: float, high: float, unit: Unit) -> set[Value]:
    text = re.sub(r"n't\b", " not", text.lower())
    text = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text)
    text, beside = _digits(text, unit)
    if not re.search(r"\d", text):
        return set()
    values = {float(sign + digits.replace(",", "")) + 0.0 for sign, digits in _NUMBER.findall(text)}
    unclear = re.search(r"\d", _NUMBER.sub(" ", text)) or _UNCLEAR_WORD.search(text) or _BOUND.search(text)
    if unclear or _FOREIGN[unit].search(text) or _OF_OTHERS.search(text) or not beside <= values:
        return {None}
    return {value if low <= value <= high else None for value in values}


def _foreign(unit: Unit) -> re.Pattern[str]:
    """A number in a unit that was not asked for, one word between at most ("18 full months", not "34. Two days")."""
    others = "|".join(own for name, own in _OWN_UNIT.items() if name != unit)
    return re.compile(rf"\d(?:{others}|(?: ?-? ?)(?:{_COUNTED})\b|['\"] ?tall\b|[ -]{{0,3}}(?:[a-z]+ )?{_OTHER_UNIT})")


_FOREIGN: dict[Unit, re.Pattern[str]] = {unit: _foreign(unit) for unit in _OWN_UNIT}


def _digits(text: str, unit: Unit) -> tuple[str, set[float]]:
    """Number words as digits, "minus" and "negative" before them as a sign; and the small ones that are not counted
    but must not differ from those that are (rule 2)."""
    only = _ONLY_SMALL.fullmatch(text) is not None
    own = re.compile(_OWN_UNIT[unit])
    beside: set[float] = set()

    def digits(word: re.Match[str]) -> str:
        value = _SPELLED[word.group()]
        if value > 12 or only or own.match(text, word.end()):
            return str(value)
        if value != 1 and not re.match(r"[ -](?!to\b|or\b|and\b|point\b)[a-z]", text[word.end() :]):
            beside.add(float(value))
        return word.group()

    found = _SPELLED_WORD.sub(digits, text)
    return re.sub(r"\b(?:minus|negative) (?=\d)", "-", found), beside
