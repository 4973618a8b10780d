"""parse_labels against a table written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation.answers import Parsed, parse_labels

UNITS = {
    "AU1": ["inner brow raiser"],
    "AU2": ["outer brow raiser"],
    "AU4": ["brow lowerer"],
    "AU6": ["cheek raiser"],
    "AU12": ["lip corner puller", "smile"],
    "AU25": ["lips part"],
}
WORDS: dict[str, list[str]] = {"Eyeglasses": ["glasses"], "Wearing_Hat": ["hat"], "Male": [], "No_Beard": [], "男": []}

ROWS: list[tuple[Mapping[str, Sequence[str]], str, tuple[str, ...] | None]] = [
    (UNITS, "AU1", ("AU1",)),
    (UNITS, "AU12", ("AU12",)),
    (UNITS, "au12.", ("AU12",)),
    (UNITS, "AU1, AU12", ("AU1", "AU12")),
    (UNITS, "AU12, AU1, AU12", ("AU1", "AU12")),
    (UNITS, "AU 1 and AU 12", ("AU1", "AU12")),
    (UNITS, "AU01, AU_12", ("AU1", "AU12")),
    (UNITS, "AU-1; AU-4", ("AU1", "AU4")),
    (UNITS, "AUs 1, 4 and 12", ("AU1", "AU12", "AU4")),
    (UNITS, "AU1+4+12", ("AU1", "AU12", "AU4")),
    (UNITS, "Action units 1, 2, and 4 are active.", ("AU1", "AU2", "AU4")),
    (UNITS, "Action Unit 12", ("AU12",)),
    (UNITS, "1, 12", ("AU1", "AU12")),
    (UNITS, "1 and 12.", ("AU1", "AU12")),
    (UNITS, "[1, 12]", ("AU1", "AU12")),
    (UNITS, "01 04", ("AU1", "AU4")),
    (UNITS, "- AU1\n- AU12", ("AU1", "AU12")),
    (UNITS, "1. AU4\n2. AU6", ("AU4", "AU6")),
    (UNITS, "**AU1**, **AU12**", ("AU1", "AU12")),
    (UNITS, "ＡＵ１，ＡＵ１２", ("AU1", "AU12")),
    (UNITS, "AU1、AU12", ("AU1", "AU12")),
    (UNITS, "AU1 (inner brow raiser), AU2 (outer brow raiser)", ("AU1", "AU2")),
    (UNITS, "Lip corner puller and Cheek-Raiser", ("AU12", "AU6")),
    (UNITS, "There is a smile.", ("AU12",)),
    (UNITS, "AU12 😀", ("AU12",)),
    (UNITS, "AU12, no AU4", ("AU12",)),
    (UNITS, "AU12 without AU4", ("AU12",)),
    (UNITS, "AU12, but not AU4 or AU6", ("AU12",)),
    (UNITS, "Not AU4, but AU12", ("AU12",)),
    (UNITS, "AU1: yes\nAU4: no\nAU6: 0\nAU12: 1", ("AU1", "AU12")),
    (UNITS, "AU1 is present; AU4 is absent", ("AU1",)),
    (UNITS, "AU1 is present. AU4 is not.", ("AU1",)),
    (UNITS, "AU1 ✅, AU2 ✔", ("AU1", "AU2")),
    (UNITS, "AU1, AU2; none of AU4 or AU25", ("AU1", "AU2")),
    (UNITS, "AU1 yes\nAU4 no\nAU12 yes", ("AU1", "AU12")),
    (UNITS, "AU1: 0.9, AU4: 0.0", ("AU1",)),
    (UNITS, "AU1, AU99", ("AU1",)),
    (UNITS, "12, 99", ("AU12",)),
    (UNITS, "He seems to lower the brow. The answer is AU1, AU2.", ("AU1", "AU2")),
    (UNITS, "AU4 or AU6. Final answer: AU12", ("AU12",)),
    (UNITS, "<think>AU1 AU2</think>AU4", ("AU4",)),
    (UNITS, '["AU1", "AU12"]', ("AU1", "AU12")),
    (UNITS, '{"labels": ["AU1", "AU12"]}', ("AU1", "AU12")),
    (UNITS, '{"answer": [1, 12]}', ("AU1", "AU12")),
    (UNITS, "<ul><li>AU1</li><li>AU4</li></ul>", ("AU1", "AU4")),
    (UNITS, "none", ()),
    (UNITS, "None.", ()),
    (UNITS, "None of them", ()),
    (UNITS, "None of the above are active", ()),
    (UNITS, "No action units are visible.", ()),
    (UNITS, "There are no AUs present", ()),
    (UNITS, "Nothing", ()),
    (UNITS, "[]", ()),
    (UNITS, '{"answer": []}', ()),
    (UNITS, "The answer is none.", ()),
    (UNITS, "没有", ()),
    (WORDS, "glasses, hat", ("Eyeglasses", "Wearing_Hat")),
    (WORDS, "wearing hat", ("Wearing_Hat",)),
    (WORDS, "wearing_hat and eyeglasses", ("Eyeglasses", "Wearing_Hat")),
    (WORDS, "no beard, no hat", ("No_Beard",)),
    (WORDS, "male", ("Male",)),
    (WORDS, "男", None),
    (WORDS, "female", None),
    (WORDS, "sunglasses", None),
    (WORDS, "1, 2", None),
    (UNITS, "", None),
    (UNITS, "no", None),
    (UNITS, "AU99", None),
    (UNITS, "99", None),
    (UNITS, "9" * 5000, None),
    (UNITS, "AU", None),
    (UNITS, "AU1-4", None),
    (UNITS, "1-4", None),
    (UNITS, "AU1-AU4", None),
    (UNITS, "AU1 to AU4", None),
    (UNITS, "AU1 yes AU4 no AU6 yes", None),
    (UNITS, "AU1 ✓ AU4 ✗", None),
    (UNITS, "❌ AU4 ✅ AU1", None),
    (UNITS, "None of the AUs are active except AU12", None),
    (UNITS, "AU123", None),
    (UNITS, "1 person with 12 hats", None),
    (UNITS, "no AU4", None),
    (UNITS, "no AU4, AU6", None),
    (UNITS, "without AU4 and AU6", None),
    (UNITS, "AU4 and not AU4", None),
    (UNITS, "AU4, then AU4 is absent", None),
    (UNITS, "None, but he smirks", None),
    (UNITS, "nonexistent", None),
    (UNITS, "AU12?", None),
    (UNITS, "I am not sure whether AU12 is there", None),
    (UNITS, "The answer is AU1. The answer is AU2.", None),
    (UNITS, '{"AU1": true, "AU4": false}', None),
    (UNITS, "AU4 and AU12 are not visible", None),
    (UNITS, "AU4 and AU12 seem inactive", None),
    (UNITS, "Both AU4 and AU12 aren't there", None),
    (UNITS, "AU12 is seen; AU4 and AU6 cannot be seen", ("AU12",)),
    (UNITS, "AU4 does not appear, AU12 does", ("AU12",)),
    (UNITS, "AU12 and AU25 are present, AU1 and AU4 are absent.", ("AU12", "AU25")),
    (UNITS, "AU1, AU2, and AU4 are not visible but AU12 is", ("AU12",)),
    (UNITS, "AU4 can hardly be seen, AU12 is clear", ("AU12",)),
    (UNITS, "AU4 fails to show; AU12", ("AU12",)),
    (UNITS, "AU4 (brow lowerer) is absent; AU1 is there", ("AU1",)),
    (UNITS, "AU12 and AU6 are active (AU4 is not)", ("AU12", "AU6")),
    (UNITS, "AU12 is present and not AU4", ("AU12",)),
    (UNITS, "AU4 and AU6\nAU12 is not visible", ("AU4", "AU6")),
    (UNITS, "AU12, AU4 absent", None),
    (UNITS, "AU12, and AU4 is absent", None),
    (UNITS, "AU12 and AU4 is not seen", None),
    (UNITS, "AU4 does not appear AU6 does", None),
    (UNITS, "AU4 is just not visible and AU6", None),
    (UNITS, "AU4, however, is not visible; AU12 is", None),
    (UNITS, "AU12, AU4, no", None),
    (UNITS, "AU12 is far from AU4", None),
    (UNITS, "a happy face", None),
]


@pytest.mark.parametrize(("labels", "text", "expected"), ROWS)
def test_labels_named(labels: Mapping[str, Sequence[str]], text: str, expected: tuple[str, ...] | None) -> None:
    assert parse_labels(text, labels) == Parsed(expected)


def test_a_refusal_is_told_apart() -> None:
    assert parse_labels("As an AI, I cannot see faces.", UNITS) == Parsed(None, refused=True)
    assert parse_labels("I'm sorry: none.", UNITS) == Parsed(None, refused=True)
    assert parse_labels("I'm sorry. AU4.", UNITS) == Parsed(("AU4",))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "no labels"),
        ({"AU1": ["brow"], "AU2": ["Brow"]}, "'Brow' names two labels: 'AU1' and 'AU2'"),
        ({"AU1": [], "AU2": ["au 01"]}, "names two labels"),
        ({"AU1": ["?!"]}, "no letter or digit"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused(labels: dict[str, list[str]], message: str) -> None:
    with pytest.raises(FaceDataError, match=message):
        parse_labels("AU1", labels)
