"""Every parser on answers that no question asked for: no exception, bounded work, and no guess."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from llava_face_plugin.evaluation.answers import (
    Parsed,
    parse_choice,
    parse_labels,
    parse_number,
    parse_yes_no,
    reading,
)

OPTIONS = ("happy", "sad", "20-29", "不是")
PARSERS: dict[str, Callable[[str], Parsed]] = {
    "yes_no": parse_yes_no,
    "choice": lambda text: parse_choice(text, OPTIONS),
    "number": lambda text: parse_number(text, 0, 120),
    "labels": lambda text: parse_labels(text, {"AU1": ["brow"], "AU12": ["smile"]}),
}
NOTHING = {
    "empty": "",
    "blank": " \n\t\r\u3000\u00a0",
    "NUL": "\x00" * 50,
    "controls": "".join(map(chr, range(32))),
    "lone surrogate": "\ud800\udfff",
    "private use": "\ue000\ue001\ue080",
    "emoji": "😀👍🏽🇩🇪👨‍👩‍👧✅❌🅰️🅱️" * 20,
    "combining": "a" + "\u0301\u0323" * 2000,
    "ligature": "\ufdfa" * 9000,
    "Arabic": "لا أستطيع أن أرى الوجه",
    "Hebrew, turned": "\u202eלא יודע\u202c",
    "Russian": "На фото человек.",
    "Thai": "ใบหน้า",
    "Chinese": "这张照片里的人在看镜头",
    "prose": "The photo shows someone looking at the camera. " * 220,
    "lorem": "Lorem ipsum dolor sit amet, " * 400,
    "HTML": "<html><script>alert()</script><img src=x onerror=y></html>",
    "open tags": "<" * 9000,
    "JSON of another kind": '{"boxes": {"x": null}, "ok": {}}',
    "deep JSON": "[" * 9000 + "]" * 900,
    "deep object": '{"a":' * 1500 + "1" + "}" * 1500,
    "broken JSON": '{"answer": "yes", "AU1": 34, "B": "happy"',
    "huge JSON number": '{"answer": ' + "9" * 6000 + "}",
    "several letters": "A, B, C, D",
    "letters in words": "ABLE BABE CAD DEAF",
    "negations": "not no never none of neither nor without",
    "all options": "happy sad 20-29",
    "both": "Yes and no; A or B; 30 or 40",
    "question": "Yes? No? A? 34? AU1?",
    "never ended thought": "<think>Yes. B. 34. AU1.",
    "markers only": "answer: " * 1200,
    "quotes": "\"'`" * 3000,
    "brackets": "((((" * 2000 + "))))" * 400,
    "spaces and stops": ". " * 5000,
    "spaces": "x" + " " * 9000 + "x",
    "percent": "%s %d %n {} ${x} \\boxed{\\boxed{" * 200,
    "backslashes": "\\" * 9000,
    "ranges": "1-2-3-4-5" * 1000,
}


@pytest.mark.parametrize("text", NOTHING.values(), ids=NOTHING.keys())
@pytest.mark.parametrize("parse", PARSERS.values(), ids=PARSERS.keys())
def test_nothing_is_guessed(parse: Callable[[str], Parsed], text: str) -> None:
    assert parse(text).value is None


@pytest.mark.parametrize("parse", PARSERS.values(), ids=PARSERS.keys())
def test_any_text_is_read_without_an_exception(parse: Callable[[str], Parsed]) -> None:
    pieces = [
        "yes", "no", "A", "(B)", "b.", "34", "-", "AU1", "AU 12", "happy", "not", "or", ",", ".", "?", "\n", "{", "}",
        "[", "]", '"', ":", "answer is", "Answer:", "<think>", "</think>", "<answer>", "</answer>", "\\boxed{", "是",
        "不", "答案是", "选", "\x00", "😀", "wait", "as an AI", "```", "json", "\ue000", "%", "between 1 and 2", "one",
        "thirty", "'", "n't", " ", "I", "|", "\u202e", "\ud800",
    ]  # fmt: skip
    rng = random.Random(5)
    for _ in range(1500):
        text = rng.choice(("", " ")).join(rng.choices(pieces, k=rng.randint(1, 12)))
        found = parse(text)
        assert isinstance(found, Parsed)
        assert not (found.refused and found.value is not None)
        assert parse(text) == found


@pytest.mark.parametrize(("name", "answer", "value"), [
    ("yes_no", "Yes", "yes"), ("choice", "A", 0), ("number", "34", 34.0), ("labels", "AU1", ("AU1",)),
])  # fmt: skip
def test_a_text_too_long_is_read_at_its_end_for_a_final_answer_only(name: str, answer: str, value: object) -> None:
    parse, filler = PARSERS[name], "some words\n" * 100_000
    assert len(filler) > 1_000_000
    assert parse(f"{answer}.\n{filler}").value is None
    assert parse(f"{filler}\n{answer}").value is None
    assert parse(f"{filler}\nThe answer is {answer}.").value == value
    assert parse(f"<think>{filler}</think>{answer}").value == value


def test_at_most_limit_characters_reach_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    plain = reading.plain
    monkeypatch.setattr(reading, "plain", lambda text: (seen.append(len(text)), plain(text))[1])
    for size in (10, reading.LIMIT, reading.LIMIT + 1, 1_000_000):
        reading.read("y" * size)
    assert seen == [10, reading.LIMIT, reading.LIMIT, reading.LIMIT]


def test_the_limit_itself_is_still_a_whole_answer() -> None:
    text = "Yes, " + "x" * (reading.LIMIT - 5)
    assert parse_yes_no(text).value == "yes"
    assert parse_yes_no(text + "x").value is None


@pytest.mark.parametrize("parse", PARSERS.values(), ids=PARSERS.keys())
@pytest.mark.parametrize("answer", [None, 1, b"Yes", ["Yes"]])
def test_only_text_is_an_answer(parse: Callable[[str], Parsed], answer: object) -> None:
    with pytest.raises(TypeError, match="an answer is text, not "):
        parse(answer)  # type: ignore[arg-type]
