"""parse_yes_no against a table written by hand."""

from __future__ import annotations

import pytest

from llava_face_plugin.evaluation.answers import Parsed, parse_yes_no

YES = [
    "Yes",
    "yes.",
    "YES!",
    " \n yes \t",
    "**Yes**",
    "__Yes__.",
    "`yes`",
    "- Yes",
    "> Yes",
    "'Yes'",
    "“Yes.”",
    "(yes)",
    "<b>Yes</b>",
    "<p>Yes, he is.</p>",
    "Yes</s>",
    "Yes<|im_end|>",
    "😀 Yes 👍🏽",
    "Ｙｅｓ",
    "Yes，he is",
    "Yes, the person is smiling",
    "Yes the person is smiling",
    "Yes, the person has no beard.",
    "Yes, there is no doubt about it.",
    "Yes (no glasses, though).",
    "Yes. Yes, she is.",
    "Yes, but I am not sure.",
    "Yes, her eyes and nose are visible.",
    "Definitely yes",
    "Most likely yes.",
    "Absolutely, yes",
    "ASSISTANT: Yes",
    "The answer is yes",
    "The answer is: Yes.",
    "ANSWER: YES",
    "Answer:\n\n**Yes**",
    "The correct answer would be yes, since he smiles.",
    "No glasses are visible, but he smiles. The answer is yes.",
    "No, wait. Yes.",
    '{"answer": "Yes"}',
    '```json\n{"Answer": "Yes, he is."}\n```',
    '{"reason": "no beard", "answer": true}',
    '["yes"]',
    "<think>No. Hmm, no.</think>Yes",
    "I see no beard.</think>\nYes",
    "No.<think>a beard</think>b</think>Yes",
    "<answer>yes</answer>",
    r"It is \boxed{\text{Yes}}.",
    "Is the person smiling? Yes.",
    "True",
    "Yep.",
    "ja",
    "Oui.",
    "Si",
    "¡Sí!".strip("¡"),
    "да",
    "はい。",
    "네",
    "是",
    "是的，这个人在笑。",
    "有。",
    "答案是：是",
    "Yes is the answer.",
    "Yes is correct",
    "Yes it is",
    "Y\u200bes",
    "\x00Yes\x00",
]
NO = [
    "No",
    "no.",
    "NO!!!",
    "No\n",
    "No, he isn't",
    "No he isn't",
    "No, there is no hat.",
    "No - he frowns.",
    "No—he frowns.",
    "No.\nThe person is not smiling.",
    "no no no",
    "No because he frowns",
    "The answer is no.",
    "Answer: No",
    "My final answer is **No**.",
    "The person's eyes are closed, so the answer is no.",
    "Ｎｏ。",
    '{"answer": false}',
    "<thinking>yes?</thinking> No",
    "Nope",
    "nein",
    "Non.",
    "нет",
    "いいえ",
    "아니요",
    "否",
    "不是",
    "不是，他没有笑。",
    "没有。",
    "答案是否",
    "答案：不是。",
]
UNPARSED = [
    "",
    "   \n\t ",
    "Yes and no",
    "Yes or no",
    "yes/no",
    "Yes/No.",
    "Yes, no",
    "Yes. No.",
    "No. Yes.",
    "No (yes).",
    "Yes\nNo",
    "The answer is yes and no.",
    "The answer is yes. The answer is no.",
    "The answer is not yes.",
    "I don't think the answer is yes.",
    "If the answer is yes, he would smile.",
    "Yes is wrong",
    "'Yes' is wrong",
    "Yes is not the answer",
    "Yes is the wrong answer",
    "Yes isn't right",
    "Yes can't be right",
    "Yes would be wrong",
    "Yes, wrong",
    "No is wrong",
    "Not sure",
    "Maybe.",
    "I don't know",
    "I think yes",
    "No doubt, yes",
    "No beard is visible.",
    "No one is smiling",
    "No-brainer",
    "The person is not smiling",
    "The person is smiling",
    "eyes",
    "Eyes, nose and mouth",
    "yesterday",
    "not",
    "nose",
    "Nobody",
    "yes-man",
    "noyes",
    "Yes?",
    "Yes? No?",
    "Y",
    "№ 5",
    "Ja, das stimmt",
    "是不是",
    "是，不是",
    "没有眼镜",
    "他是学生",
    "<think>Yes",
    '{"answer": "Yes", "answer": "No"}',
    '{"answer": null}',
    '{"yes": 1}',
    '{"answer": "Yes"',
    "Yes. Wait, I see a hat.",
    "\u202eseY",
    "نعم",
]


@pytest.mark.parametrize("text", YES)
def test_yes(text: str) -> None:
    assert parse_yes_no(text) == Parsed("yes")


@pytest.mark.parametrize("text", NO)
def test_no(text: str) -> None:
    assert parse_yes_no(text) == Parsed("no")


@pytest.mark.parametrize("text", UNPARSED)
def test_unparsed(text: str) -> None:
    assert parse_yes_no(text) == Parsed(None)


@pytest.mark.parametrize(
    "text",
    [
        "I can't determine that.",
        "I can’t determine whether he smiles.",
        "As an AI, I do not judge faces.",
        "I'm sorry, I cannot help with that.",
        "It is not possible to tell from the image.",
        "Sorry, but yes or no is not something I say.",
        "抱歉，我无法判断。",
        "<think>Yes.</think>I cannot identify people.",
    ],
)
def test_a_refusal_is_told_apart(text: str) -> None:
    assert parse_yes_no(text) == Parsed(None, refused=True)


@pytest.mark.parametrize("text", ["Yes. I'm sorry to say so.", "As an AI, I am unsure. The answer is yes."])
def test_an_answer_is_no_refusal(text: str) -> None:
    assert parse_yes_no(text) == Parsed("yes")
