"""parse_number against a table written by hand."""

from __future__ import annotations

import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation.answers import Parsed, parse_number

ROWS = [
    ("34", 34.0),
    (" 34. ", 34.0),
    ("34!", 34.0),
    ("**34**", 34.0),
    ("34.5", 34.5),
    ("34,", 34.0),
    ("+34", 34.0),
    ("- 34", 34.0),
    ("034", 34.0),
    ("0", 0.0),
    ("120", 120.0),
    ("３４", 34.0),
    ("٣٤", 34.0),
    ("34 years old", 34.0),
    ("34-year-old", 34.0),
    ("34yo", 34.0),
    ("34yrs", 34.0),
    ("34岁", 34.0),
    ("大约34岁。", 34.0),
    ("34%", None),
    ("34°", 34.0),
    ("about 34", 34.0),
    ("~34", 34.0),
    ("≈34", 34.0),
    ("The person is around 34 years of age.", 34.0),
    ("Age: 34", 34.0),
    ("34 (thirty-four)", 34.0),
    ("34 or 34.0", 34.0),
    ("thirty-four", 34.0),
    ("Thirty four years old", 34.0),
    ("about forty", 40.0),
    ("zero", 0.0),
    ("one", 1.0),
    ("one year old", 1.0),
    ("one hundred and twenty", 120.0),
    ("one hundred five", 105.0),
    ("a hundred", 100.0),
    ("The one on the left is 34", 34.0),
    ("The answer is 34.", 34.0),
    ("Between 30 and 40. My answer is 34.", 34.0),
    ("He could be 30 or 40, so the answer is 35", 35.0),
    ("30. Wait, 34.", 34.0),
    ('{"answer": 34}', 34.0),
    ('{"age_range": "30-40", "answer": "34 years"}', 34.0),
    ("[34]", 34.0),
    ("<think>20? 30? 40?</think>34", 34.0),
    (r"\boxed{34}", 34.0),
    ("答案是34", 34.0),
    ("Is he 30? 34.", 34.0),
    ("34²", 34.0),
    ("", None),
    ("old", None),
    ("30-40", None),
    ("30–40", None),
    ("30 - 40", None),
    ("30 to 40", None),
    ("between 30 and 40", None),
    ("thirty to forty", None),
    ("34 or 35", None),
    ("34, 35", None),
    ("34/100", None),
    ("3.4.5", None),
    ("34,5", None),
    (".5", None),
    ("in his 30s", None),
    ("in the 30s, about 34", None),
    ("late thirties", None),
    ("AU12", None),
    ("12 in image A1", None),
    ("-5", None),
    ("minus five", None),
    ("121", None),
    ("1,234", None),
    ("1e1", None),
    ("9" * 5000, None),
    ("over 34", None),
    ("more than 34", None),
    ("older than thirty-four", None),
    ("> 34", None),
    ("≥34", None),
    ("34+", None),
    ("34 or older", None),
    ("34 years and above", None),
    ("not 34", None),
    ("It isn't 34", None),
    ("whether 34", None),
    ("one hundred and twenty-one", None),
    ("ten to one", None),
    ("thirty-four point one", None),
    ("two hundred", None),
    ("half of 34", None),
    ("a dozen", None),
    ("no one", None),
    ("This one looks old", None),
    ("two people, the older is 34", 34.0),
    ("The answer is 34. The answer is 35.", None),
    ("The answer is 340", None),
    ("34?", None),
    ("五十", None),
    ("nan", None),
    ("inf", None),
    ('{"answer": null}', None),
    ('{"low": 30, "high": 40}', None),
    ("½", None),
    ("seven", 7.0),
    ("About seven.", 7.0),
    ("She is seven years old", 7.0),
    ("7 (seven)", 7.0),
    ("7 (eight)", None),
    ("five to 10", None),
    ("5 or six", None),
    ("ten, twenty", None),
    ("These are two.", None),
    ("seven months", None),
    ("18 months old", None),
    ("18 full months", None),
    ("6-month-old", None),
    ("8 weeks old", None),
    ("10 days", None),
    ("5 feet tall", None),
    ("5' tall", None),
    ("170 cm", None),
    ("70kg", None),
    ("70 kg", None),
    ("70%", None),
    ("70 percent", None),
    ("2 people", None),
    ("34 years and 6 months", None),
]
SIMILARITY = [
    ("70", 70.0),
    ("70%", 70.0),
    ("70 percent", 70.0),
    ("seventy per cent", 70.0),
    ("The faces are 70% similar.", 70.0),
    ("0 (surely two people)", 0.0),
    ("100 (surely one person)", 100.0),
    ("The two faces look alike: 70", 70.0),
    ("one percent", 1.0),
    ("zero", 0.0),
    ("These are two people", None),
    ("The two images show one person", None),
    ("Two different people", None),
    ("one person", None),
    ("2 people", None),
    ("Two images of 1 person", None),
    ("70% different", None),
    ("I am 90% sure that these are two people", None),
    ("70 years", None),
    ("70-75%", None),
    ("more than 70%", None),
]


@pytest.mark.parametrize(("text", "expected"), ROWS)
def test_numbers(text: str, expected: float | None) -> None:
    assert parse_number(text, 0, 120) == Parsed(expected)


@pytest.mark.parametrize(("text", "expected"), SIMILARITY)
def test_numbers_in_percent(text: str, expected: float | None) -> None:
    assert parse_number(text, 0, 100, "percent") == Parsed(expected)


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(FaceDataError, match="unit is one of years, percent, not 'feet'"):
        parse_number("1", 0, 1, "feet")  # type: ignore[arg-type]


def test_the_range_decides_about_signs_and_thousands() -> None:
    assert parse_number("-5", -10, 10) == Parsed(-5.0)
    assert parse_number("minus five", -10, 10) == Parsed(-5.0)
    assert parse_number("1,234 pixels", 0, 10_000) == Parsed(1234.0)
    assert isinstance(parse_number("3", 0, 10).value, float)
    for low, high in ((1.0, 0.0), (0.0, float("nan"))):
        with pytest.raises(FaceDataError, match="does not exist"):
            parse_number("1", low, high)


def test_a_refusal_is_told_apart() -> None:
    assert parse_number("I cannot determine the age.", 0, 120) == Parsed(None, refused=True)
    assert parse_number("I'm sorry, but about 34.", 0, 120) == Parsed(34.0)
