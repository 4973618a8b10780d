"""parse_choice against a table written by hand."""

from __future__ import annotations

import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation.answers import Parsed, parse_choice

MOODS = ("sad", "happy", "angry", "surprised")
RACES = ("East Asian", "Southeast Asian", "White", "Asian")
GENDERS = ("male", "female")
AGES = ("0-2", "3–9", "20-29", "more than 70")
COUNTS = ("1", "2", "3", "12")
CELEBA = ("5_o_Clock_Shadow", "No_Beard", "Goatee", "Not_Smiling")
BOTH = ("A hat", "Glasses", "Both A and B", "None of the above")
CHINESE = ("高兴", "悲伤", "男", "女")
MANY = tuple(f"item {i}" for i in range(26))
VERDICTS = ("Yes", "No")
VERDICTS_CHINESE = ("是", "否")
SAME = ("happy", "Happy", "sad")

ROWS = [
    # letters
    (MOODS, "B", 1),
    (MOODS, "b", 1),
    (MOODS, " B. ", 1),
    (MOODS, "(B)", 1),
    (MOODS, "[B]", 1),
    (MOODS, "B)", 1),
    (MOODS, "(b)", 1),
    (MOODS, "'B'", 1),
    (MOODS, "**B**", 1),
    (MOODS, "**B.** happy", 1),
    (MOODS, "Ｂ", 1),
    (MOODS, "（Ｂ）", 1),
    (MOODS, "B) happy", 1),
    (MOODS, "b. happy", 1),
    (MOODS, "B: happy", 1),
    (MOODS, "B happy", 1),
    (MOODS, "B - happy", 1),
    (MOODS, "(B) happy.", 1),
    (MOODS, "Option B", 1),
    (MOODS, "option b.", 1),
    (MOODS, "Answer: B", 1),
    (MOODS, "B. The person looks happy.", 1),
    (MOODS, "B, because he smiles", 1),
    (MOODS, "B\n\nThe corners of the mouth go up.", 1),
    (MOODS, "A", 0),
    (MOODS, "A.", 0),
    (MOODS, "A is correct.", 0),
    (MOODS, "It is B.", 1),
    (MOODS, "I would go with option C.", 2),
    (MOODS, "The picture shows (D).", 3),
    (MOODS, "The answer is (B).", 1),
    (MOODS, "The answer is B. happy", 1),
    (MOODS, "The answer is A because B is sad.", 0),
    (MOODS, "The correct answer is:\nC) angry", 2),
    (MOODS, "He may be sad or angry. So the answer is B", 1),
    (MOODS, "A. Wait, B.", 1),
    (MOODS, "答案是B。", 1),
    (MOODS, "选B", 1),
    (MOODS, "我选择（B）", 1),
    (MOODS, "选项B", 1),
    (MOODS, "应该选A而不是B", 0),
    (MOODS, '{"answer": "B"}', 1),
    (MOODS, "<think>A? C? D!</think>B", 1),
    (MOODS, "<answer>B</answer>", 1),
    (MOODS, r"$\boxed{B}$", 1),
    (MOODS, "Sad? No. The answer is B", 1),
    (MANY, "Z", 25),
    (MANY, "item 20", 20),
    (MANY, "I", 8),
    (MANY, "(I)", 8),
    # the option's text
    (MOODS, "happy", 1),
    (MOODS, "HAPPY!", 1),
    (MOODS, "The person is happy.", 1),
    (MOODS, "A happy man", 1),
    (MOODS, "not sad but happy", 1),
    (MOODS, "happy rather than sad", 1),
    (MOODS, "happy, not sad or angry", 1),
    (MOODS, "He isn't angry. He looks surprised.", 3),
    (GENDERS, "female", 1),
    (GENDERS, "This is a male.", 0),
    (GENDERS, "fe-male", 1),
    (RACES, "East Asian", 0),
    (RACES, "Southeast Asian", 1),
    (RACES, "South-East Asian", 1),
    (RACES, "a south east asian woman", 1),
    (RACES, "Asian", 3),
    (RACES, "The answer is White", 2),
    (AGES, "20-29", 2),
    (AGES, "20–29", 2),
    (AGES, "20 to 29 years", 2),
    (AGES, "between 20 and 29", 2),
    (AGES, "3-9", 1),
    (AGES, "More than 70", 3),
    (AGES, "C. 20-29", 2),
    (COUNTS, "2", 1),
    (COUNTS, "12", 3),
    (COUNTS, "There are 3 people.", 2),
    (COUNTS, "D. 12", 3),
    (CELEBA, "5 o'clock shadow", 0),
    (CELEBA, "5_o_Clock_Shadow", 0),
    (CELEBA, "no beard", 1),
    (CELEBA, "He is not smiling", 3),
    (BOTH, "Both A and B", 2),
    (BOTH, "C. Both A and B", 2),
    (BOTH, "None of the above.", 3),
    (CHINESE, "高兴", 0),
    (CHINESE, "他看起来很高兴。", 0),
    (CHINESE, "男", 2),
    (CHINESE, "A。高兴", 0),
    (SAME, "B. Happy", 1),
    (MOODS, "ASSISTANT: B", 1),
    (MOODS, "Therefore B.", 1),
    (MOODS, "My choice: B", 1),
    (MOODS, "The mouth points down, but I'm not sure. Sad", 0),
    (CHINESE, "A、高兴", 0),
    (CHINESE, "选项A：高兴", 0),
    (CHINESE, "正确答案为 A", 0),
    (VERDICTS, "Yes", 0),
    (VERDICTS, "B. No", 1),
    (VERDICTS, "A. Yes, with no doubt.", 0),
    (VERDICTS, "No, they differ.", 1),
    (VERDICTS, "The answer is no", 1),
    (VERDICTS_CHINESE, "是", 0),
    (VERDICTS_CHINESE, "不是，他们不同。", 1),
    (("B", "x"), "A", 0),
    # unparsed
    (MOODS, "", None),
    (VERDICTS, "There is no way to tell", None),
    (VERDICTS, "No idea", None),
    (VERDICTS, "A. No", None),
    (VERDICTS, "Yes and no", None),
    (VERDICTS, "B. yes or no", None),
    (VERDICTS_CHINESE, "是不是", None),
    (MOODS, "It's hard to say: sad or not", None),
    (MOODS, "A or happy", None),
    (MOODS, "❌ sad ✅ happy", None),
    (MOODS, "A or B", None),
    (MOODS, "A, B", None),
    (MOODS, "A and C", None),
    (MOODS, "A/B", None),
    (MOODS, "(A) (B)", None),
    (MOODS, "(A) or (B)", None),
    (MOODS, "Either A or B.", None),
    (MOODS, "a. b. c.", None),
    (MOODS, "A\nB", None),
    (MOODS, "ABCD", None),
    (MOODS, "ANGRY? B", 1),
    (MOODS, "I think B fits", None),
    (MOODS, "E", None),
    (MOODS, "(E) bored", None),
    (MOODS, "A man with a hat", None),
    (MOODS, "I think it is him", None),
    (MANY, "I think so", None),
    (MANY, "The person(s) in f(x)", None),
    (MANY, "I, as a reader, see a face", None),
    (MOODS, "B. sad", None),
    (MOODS, "B sad", None),
    (MOODS, "The answer is A. happy", None),
    (MOODS, "B. The person looks sad", None),
    (MOODS, "happy and sad", None),
    (MOODS, "happy or B", 1),
    (MOODS, "happy or A", None),
    (MOODS, "happy, sad", None),
    (MOODS, "not happy", None),
    (MOODS, "The person is not happy.", None),
    (MOODS, "no, sad, happy", None),
    (MOODS, "unhappy", None),
    (MOODS, "Happy?", None),
    (MOODS, "not sure", None),
    (MOODS, "I do not know whether the person is happy.", None),
    (MOODS, "The answer is not A.", None),
    (MOODS, "The answer is A or B.", None),
    (MOODS, "The answer is A. The answer is B.", None),
    (MOODS, "I don't think the answer is B", None),
    (MOODS, "None of the above", None),
    (MOODS, "Vitamin C is in T-shirt D", None),
    (MOODS, "B, vitamin C", None),
    (MOODS, '{"answer": ["A", "B"]}', None),
    (MOODS, '{"A": true}', None),
    (GENDERS, "males and females", None),
    (GENDERS, "male or female", None),
    (RACES, "Eurasian", None),
    (AGES, "20", None),
    (AGES, "29", None),
    (AGES, "20-30", None),
    (AGES, "2", None),
    (AGES, "0-2 or 3-9", None),
    (COUNTS, "1-2", None),
    (COUNTS, "1 2", None),
    (CHINESE, "不高兴", None),
    (CHINESE, "这是一名男性", None),
    (SAME, "happy", None),
    (("B", "A"), "A", None),
]


@pytest.mark.parametrize(("options", "text", "expected"), ROWS)
def test_choices(options: tuple[str, ...], text: str, expected: int | None) -> None:
    assert parse_choice(text, options) == Parsed(expected)


def test_a_refusal_is_told_apart() -> None:
    assert parse_choice("I'm sorry, I can't tell whether he is happy.", MOODS) == Parsed(None, refused=True)
    assert parse_choice("抱歉，我无法回答。", CHINESE) == Parsed(None, refused=True)
    assert parse_choice("I cannot identify people, but he seems happy.", MOODS) == Parsed(1)


@pytest.mark.parametrize("count", [0, 27])
def test_the_number_of_options_is_checked(count: int) -> None:
    with pytest.raises(FaceDataError, match=f"1 to 26 options, not {count}"):
        parse_choice("A", [str(i) for i in range(count)])
