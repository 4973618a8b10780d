"""Answers that are a number, such as an age."""

from __future__ import annotations

import re

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
_NUMBER = re.compile(
    rf"(?<![^\W{CJK}])(?<!\.)(?<!\d,)([-+]?)(?<!\.)(\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|\d+(?:\.\d+)?)"
    rf"(?:y|yo|yrs?|years?)?(?![.,]\d)(?!(?![{CJK}])\w)"
)
_UNCLEAR_WORD = re.compile(
    r"\b(?:hundreds?|thousands?|millions?|dozens?|half|teens|(?:twen|thir|for|fif|six|seven|eigh|nine)ties)\b"
    # "One" is not read as a digit here: "one hundred and twenty-one", "ten to one".
    r"|\d point\b|\d (?:(?:to|or|and) )?one\b|\bone (?:to|or|and|point) \d"
)
_YEARS = r"(?: ?(?:years?(?: old| of age)?|yrs?|yo))?"
# A bound, a denial or a supposition is no value.
_BOUND = re.compile(
    r"(?:[<>≤≥]=?|\b(?:over|under|above|below|beyond|at least|at most|up to|past|not|no|never|whether|if"
    r"|(?:more|less|older|younger|greater|fewer|other|rather|lower|higher) than))"
    r" ?(?:about |around |the age of |age )?[-+]?\d"
    rf"|\d{_YEARS} ?(?:\+|plus\b|(?:or|and) (?:older|above|more|over|up|younger|below|less|under|fewer)\b)"
)
_BESIDE_ONE = {
    "about", "around", "approximately", "roughly", "year", "years", "old", "of", "age", "month", "months", "person",
    "people", "face", "faces",
}  # fmt: skip


def parse_number(text: str, low: float, high: float) -> Parsed:
    """The one number in the answer, as a float within [``low``, ``high``], or unparsed. Rules, in order:

    1. The text is cleaned, and its explicit final answers are found (``reading``). If these hold a number, they decide
       alone, and must agree. Each, or else the whole text, is read by rules 2 to 6.
    2. English number words from zero to one hundred and twenty are numbers ("thirty-four"). "One" is one only beside
       words like "about" and "years": elsewhere it is a pronoun, and not counted.
    3. A number: digits of any script with an optional sign, decimal point and thousands commas ("1,234"), alone or
       with a unit ("34yo", "34%", "34-year-old", "34岁"). "About 34" is 34.
    4. Any other digit leaves the text unparsed: "30s", "AU12", "3.4.5", "34,5"; so do "twenties", "dozen", "half".
    5. A bound or a denial is no value: "over 34", "34+", "at least 34", "34 or older", "not 34", "if 34".
    6. All numbers must be equal: "30-40", "between 30 and 40", "34 or 35" and "image 2 shows 34" are unparsed. A
       number outside [``low``, ``high``] is unparsed too, never clipped.

    Raises ``FaceDataError`` unless ``low`` <= ``high``, ``TypeError`` if ``text`` is not a string. Source: our
    default.
    """
    if not low <= high:
        raise FaceDataError(f"a number between {low} and {high} does not exist")
    return parse(text, lambda piece: _judge(piece, low, high))


def _judge(text: str, low: float, high: float) -> set[Value]:
    text = re.sub(r"n't\b", " not", text.lower())
    text = _digits(re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text))
    if not re.search(r"\d", text):
        return set()
    values = {float(sign + digits.replace(",", "")) + 0.0 for sign, digits in _NUMBER.findall(text)}
    clear = not (re.search(r"\d", _NUMBER.sub(" ", text)) or _UNCLEAR_WORD.search(text) or _BOUND.search(text))
    return {value if clear and low <= value <= high else None for value in values} or {None}


def _digits(text: str) -> str:
    """Number words as digits, "minus" and "negative" before them as a sign."""
    alone = set(re.findall(r"[a-z]+", text)) - _BESIDE_ONE == {"one"}

    def digits(word: re.Match[str]) -> str:
        return word.group() if word.group() == "one" and not alone else str(_SPELLED[word.group()])

    return re.sub(r"\b(?:minus|negative) (?=\d)", "-", _SPELLED_WORD.sub(digits, text))
