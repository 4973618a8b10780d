"""Seeded random answers: documented frames give back what they hold, and two different options never parse."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from llava_face_plugin.evaluation.answers import parse_choice, parse_labels, parse_number, parse_yes_no
from llava_face_plugin.labels import CELEBA_ATTRIBUTES

OPTION_SETS = [
    ("happy", "sad", "angry", "surprised", "disgusted", "fearful", "neutral"),
    ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern"),
    ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"),
    ("male", "female"),
    ("1", "2", "3", "4"),
    ("高兴", "悲伤", "愤怒", "惊讶"),
    ("Same person", "Different persons"),
    CELEBA_ATTRIBUTES[:13],
    CELEBA_ATTRIBUTES[13:39],
]
LETTER_FRAMES = (
    "{}", " {}. ", "({})", "[{}]", "{})", "**{}**", "'{}'", "<b>{}</b>", "```\n{}\n```", "{}\n\n", "ASSISTANT: {}",
    "Option {}", "Answer: {}", "The answer is {}", "The answer is ({}).", "I choose {}", "It is {}.", "Wait, {}",
    "My final answer is **{}**", "My choice: {}", "So {}.", "Hmm.\nSo the correct option is {}.", "答案是{}。", "选{}",
    "选项{}", '{{"answer": "{}"}}', "<think>A, B, C and D</think>{}", "<answer>{}</answer>", "\\boxed{{{}}}",
)  # fmt: skip
TEXT_FRAMES = (
    "{}", "{}.", "**{}**", "'{}'", "The answer is {}.", "Answer: {}", "I choose {}", '{{"answer": "{}"}}', "({})",
    "<think>hm</think>{}", "<answer>{}</answer>", "答案是{}", "- {}", "<p>{}</p>", "```\n{}\n```",
)  # fmt: skip
BOTH_FRAMES = ("{}. {}", "{}) {}", "({}) {}", "{}: {}", "The answer is {}. {}", "Answer: ({}) {}", "**{}.** {}")
TWO = (
    "{} or {}", "{}, {}", "{} and {}", "{}/{}", "{}\n{}", "either {} or {}", "both {} and {}", "({}) ({})", "{}) {})",
    "{}. {}.", "{}; {}", "{} & {}", "{} | {}", "- {}\n- {}", '["{}", "{}"]', "It is {}. No, it is {}.",
    "{} but also {}", "The answer is {} or {}", "The answer is {}, the answer is {}", "Answer: {}. Answer: {}",
)  # fmt: skip


def written(option: str, rng: random.Random) -> str:
    """An option in another spelling that the documentation says is the same."""
    option = rng.choice((option, option.replace("_", " ")))
    option = rng.choice(
        (option, option.replace("-", "–"), option.replace("-", " to ") if option[0].isdigit() else option)
    )
    return rng.choice((option, option.upper(), option.lower(), option.title()))


@pytest.mark.parametrize("options", OPTION_SETS, ids=lambda o: o[0])
def test_every_frame_gives_the_option_back(options: tuple[str, ...]) -> None:
    rng = random.Random(1)
    for shown in [options] + [tuple(rng.sample(options, len(options))) for _ in range(3)]:
        for i, option in enumerate(shown):
            letter = chr(65 + i)
            for frame in LETTER_FRAMES:
                assert parse_choice(frame.format(letter), shown).value == i, frame.format(letter)
            for frame in TEXT_FRAMES:
                text = frame.format(written(option, rng))
                assert parse_choice(text, shown).value == i, text
            for frame in BOTH_FRAMES:
                text = frame.format(letter, written(option, rng))
                assert parse_choice(text, shown).value == i, text


@pytest.mark.parametrize("options", OPTION_SETS, ids=lambda o: o[0])
def test_two_different_options_never_parse(options: tuple[str, ...]) -> None:
    rng = random.Random(2)
    pairs = list(permutations(range(len(options)), 2))
    for i, j in rng.sample(pairs, min(len(pairs), 40)):
        for frame in TWO:
            forms = [(chr(65 + i), chr(65 + j)), (options[i], options[j]), (chr(65 + i), options[j])]
            for first, second in forms:
                text = frame.format(first, second)
                assert parse_choice(text, options).value is None, text
        assert parse_choice(f"{chr(65 + i)}. {options[j]}", options).value is None


@pytest.mark.parametrize("options", OPTION_SETS, ids=lambda o: o[0])
def test_a_final_answer_wins_over_the_reasoning(options: tuple[str, ...]) -> None:
    for i, option in enumerate(options):
        reasoning = f"It could be {options[i - 1]}, or {option}. Option A looks likely, (B) too."
        for final in (chr(65 + i), f"({chr(65 + i)})", option, f"{chr(65 + i)}. {option}"):
            text = f"{reasoning} So the answer is {final}."
            assert parse_choice(text, options).value == i, text


@pytest.mark.parametrize("frame", (*TEXT_FRAMES, "{}, it does", "{}\nIt is clear."))
def test_yes_and_no_come_back_from_every_frame(frame: str) -> None:
    for word in ("yes", "no"):
        for spelled in (word, word.title(), word.upper()):
            assert parse_yes_no(frame.format(spelled)).value == word


@pytest.mark.parametrize("frame", TWO)
def test_yes_with_no_never_parses(frame: str) -> None:
    assert parse_yes_no(frame.format("Yes", "no")).value is None
    assert parse_yes_no(frame.format("No", "yes")).value is None


def test_every_age_comes_back_as_digits_and_as_words() -> None:
    tens = {
        20: "twenty",
        30: "thirty",
        40: "forty",
        50: "fifty",
        60: "sixty",
        70: "seventy",
        80: "eighty",
        90: "ninety",
    }
    units = ["", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    spelled = {ten + i: f"{word}-{units[i]}".rstrip("-") for ten, word in tens.items() for i in range(10)}
    assert len(spelled) == 80
    for frame in (*TEXT_FRAMES, "about {}", "{} years old", "She is {} years of age."):
        for age in range(0, 121, 7):
            assert parse_number(frame.format(age), 0, 120).value == age, frame
        for age, words in spelled.items():
            assert parse_number(frame.format(words), 0, 120).value == age, (frame, words)


def test_two_different_ages_never_parse() -> None:
    rng = random.Random(3)
    for frame in (*TWO, "{}-{}", "{} to {}", "between {} and {}"):
        first, second = rng.sample(range(2, 121), 2)
        assert parse_number(frame.format(first, second), 0, 120).value is None, frame


def test_every_set_of_units_comes_back() -> None:
    units = {f"AU{n}": [] for n in (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)}
    rng = random.Random(4)
    for _ in range(300):
        chosen = rng.sample(sorted(units), rng.randint(1, 6))
        numbers = [unit[2:] for unit in chosen]
        shape = rng.choice(("AU{}", "AU {}", "au{}", "AU0{}", "AU_{}", "**AU{}**", "AU-{}"))
        text = rng.choice((", ", " and ", "\n", "; ", " + ", "、")).join(map(shape.format, numbers))
        for answer in (text, f"The answer is {text}." if "\n" not in text else text, ", ".join(numbers)):
            assert parse_labels(answer, units).value == tuple(sorted(chosen)), answer


def test_a_denied_unit_is_never_counted() -> None:
    units = {f"AU{n}": [] for n in (1, 2, 4, 6, 12)}
    for present, absent in permutations(units, 2):
        for frame in (
            "{}, no {}",
            "{} without {}",
            "{} but not {}",
            "{1}: no. {0}: yes",
            "{1} is absent; {0} is present",
        ):
            assert parse_labels(frame.format(present, absent), units).value == (present,), frame


def test_a_denial_by_verb_reaches_every_joined_unit() -> None:
    units = {f"AU{n}": [] for n in (1, 2, 4, 6, 12)}
    for first, second, present in permutations(units, 3):
        for denial in (
            "are not visible",
            "cannot be seen",
            "do not appear",
            "seem inactive",
            "aren't there",
            "are absent",
        ):
            pair = f"{first} and {second} {denial}"
            assert parse_labels(pair, units).value is None, pair
            for text in (
                f"{present} is seen; {pair}",
                f"{pair}. {present} is there.",
                f"{pair} but {present} is there",
            ):
                assert parse_labels(text, units).value == (present,), text
