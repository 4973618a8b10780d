"""The four styles of conversation: what is asked, what is answered, and that it can be drawn again."""

from __future__ import annotations

import json
import random
from collections import Counter

import numpy as np
import pytest

from llava_face_plugin.data.conversations import (
    STYLES,
    Plan,
    Sample,
    choice_rows,
    conversations,
    question_rows,
    rarity,
)
from llava_face_plugin.data.face_description import REGIONS, describe
from llava_face_plugin.data.wording import closed_wordings, key_of, question, words
from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.labels import CELEBA_ATTRIBUTES, prompt_of

CLASSES = {"expression": ("sad", "happy", "very_angry"), "gender": ("Male", "Female"), "race": ("Asian", "Other")}
SAMPLE = Sample(
    "7", "images/7.jpg", {"Smiling": 1, "Bald": 0, "Bangs": 1, "Black_Hair": 1, "Big_Nose": 1}, "maps/7.png",
    {"expression": "very_angry", "gender": "Female"}, 33.6, {"gender:Female": 1, "gender:Male": 0},
)  # fmt: skip
ALL = tuple(STYLES)


def turns(style: str, sample: Sample = SAMPLE, **options: object) -> list[tuple[str, str]]:
    plan = Plan((style,), classes=CLASSES, **options)  # type: ignore[arg-type]
    (name, row), *rest = list(conversations(sample, plan)) or [("", {"conversations": []})]
    assert not rest and name in (style, "")
    said = row["conversations"]
    assert [t["from"] for t in said] == ["human", "gpt"] * (len(said) // 2)
    return [(q["value"], a["value"]) for q, a in zip(said[::2], said[1::2], strict=True)]


def test_every_style_is_a_row_of_its_own() -> None:
    rows = list(conversations(SAMPLE, Plan(ALL, classes=CLASSES)))
    assert [name for name, _ in rows] == list(ALL)
    assert [row["id"] for _, row in rows] == ["7", "7:list", "7:choice", "7:describe"]
    for _, row in rows:
        assert row["face_attributes"] == {**SAMPLE.attributes, **SAMPLE.also} and row["face_map"] == "maps/7.png"
        text = json.dumps(row["conversations"])
        assert text.count("<image>") == 1 and row["conversations"][0]["value"].startswith("<image>\n")


def test_the_same_seed_gives_the_same_and_another_one_not() -> None:
    def all_of(seed: int) -> str:
        samples = [Sample(str(i), "x.jpg", SAMPLE.attributes, None, SAMPLE.labels) for i in range(20)]
        plan = Plan(ALL, k=3, seed=seed, classes=CLASSES)
        return json.dumps([row for s in samples for row in conversations(s, plan)])

    assert all_of(0) == all_of(0) != all_of(1)


def test_closed_questions_come_in_several_wordings() -> None:
    found = Counter(
        text.removeprefix("<image>\n")
        for i in range(200)
        for text, answer in turns("closed", Sample(str(i), "x.jpg", {"Bald": 1}))
        if answer == "Yes"
    )
    assert set(found) == set(closed_wordings("Bald")) and len(found) >= 4 and min(found.values()) > 20
    assert closed_wordings("Bald")[0] == question("Bald")
    assert {r["text"] for r in question_rows([SAMPLE])} == {question(a) for a in SAMPLE.attributes}  # plain ones


def test_names_of_other_data_sets_have_questions() -> None:
    assert question("wearing_necktie") == question("Wearing_Necktie")
    assert key_of("5 o' Clock Shadow") == "5_o_clock_shadow"
    assert question("cough") == "Is the person coughing? Answer yes or no."
    with pytest.raises(FaceDataError, match="unknown attribute"):
        question("Odd_Thing")
    assert closed_wordings("Odd_Thing")[0] == "Does this apply to the person: odd thing? Answer yes or no."


def test_lists_name_what_applies_and_nothing_else() -> None:
    (_, everything), *some = turns("list")
    assert set(everything.split(", ")) == {"smiling", "bangs", "black hair", "big nose"}
    for text, answer in some:
        options = text.partition("Choose from: ")[2].rstrip(".").split(", ")
        true = {prompt_of(a) for a, v in SAMPLE.attributes.items() if v}
        assert set(options) == {"bald", "bangs", "black hair"} and set(answer.split(", ")) == true & set(options)
    assert turns("list", Sample("1", "1.jpg", {"Bald": 0}))[0][1] == "None of them"
    assert turns("list", Sample("1", "1.jpg", labels={"gender": "Male"})) == []


def test_choices_offer_every_value_in_changing_order() -> None:
    orders = set()
    for i in range(30):
        for text, answer in turns("choice", Sample(str(i), "x.jpg", labels=SAMPLE.labels)):
            options = [words(v) for column in CLASSES if answer in map(words, CLASSES[column]) for v in CLASSES[column]]
            assert answer in ("very angry", "Female") and all(f"{o}" in text for o in options)
            orders.add(tuple(sorted(options, key=text.index)))
    assert len(orders) > 6
    assert len(turns("choice", k=1)) == 1 and len(turns("choice")) == 2  # race is not known
    rows = list(choice_rows([SAMPLE], CLASSES, seed=1))
    assert [r["column"] for r in rows] == ["expression", "gender"] and rows[1]["answer"] in rows[1]["options"]
    assert rows[0]["text"].endswith(f"{', '.join(rows[0]['options'])}.") and rows == list(
        choice_rows([SAMPLE], CLASSES, seed=1)
    )


def test_a_description_follows_the_figures_order() -> None:
    names = ("Male", "Young", "Double_Chin", "Gray_Hair", "Receding_Hairline", "Bushy_Eyebrows", "Narrow_Eyes",
             "Big_Nose", "Mouth_Slightly_Open", "Goatee", "Wearing_Necktie", "Oval_Face")  # fmt: skip
    text = describe({**dict.fromkeys(names, 1), "Young": 0, "Eyeglasses": 0}, {"race": "White", "age_group": "50-59",
                    "expression": "happy"}, None, random.Random(0)) or ""  # fmt: skip
    said = ["White man, 50-59 years old", "an oval face", "a double chin", "gray hair", "a receding hairline",
            "expression is happy", "bushy eyebrows", "narrow eyes", "no eyeglasses", "a big nose",
            "a slightly open mouth", "a goatee", "a necktie"]  # fmt: skip
    assert [s for s in said if s not in text] == [] and sorted(said, key=text.index) == said
    assert "young" not in text and text.count(".") == len(text.split(". "))


def test_a_description_says_only_what_is_known() -> None:
    def say(attributes: dict[str, int], **labels: str) -> str | None:
        return describe(attributes, labels, None, random.Random(1))

    assert say({}) is say({"Bald": 0}) is say({"Male": 1}) is say({"Attractive": 1, "Blurry": 1}) is None
    assert say({}, gender="Female", race="Latino_Hispanic") in (
        "This is a Latino Hispanic woman.", "The picture shows a Latino Hispanic woman.",
    )  # fmt: skip
    text = say({"Black_Hair": 1, "Wavy_Hair": 1, "Bangs": 0, "Wearing_Hat": 1}) or ""
    assert "wavy, black hair" in text and "a hat" in text and "bangs" not in text and " man" not in text
    assert "They have" in text or "The person has" in text
    assert "beard" not in (say({"Male": 0, "No_Beard": 1, "Big_Nose": 1}) or "")
    assert "no beard" in (say({"Male": 1, "No_Beard": 1, "Big_Nose": 1}) or "")
    mouth = say({"Male": 1, "Mouth_Slightly_Open": 0, "Mouth_Wide_Open": 1, "Mouth_Closed": 0}) or ""
    assert "a wide open mouth" in mouth and mouth.count("mouth") == 1
    assert "about 34 years" in (describe({"Bangs": 1}, {}, 33.6, random.Random(0)) or "")


def test_children_are_no_adults_and_others_are_no_race() -> None:
    def say(age: float | None = None, attributes: dict[str, int] | None = None, **labels: str) -> str:
        known = {"Bangs": 1} if attributes is None else attributes
        return describe(known, labels, age, random.Random(0)) or ""

    assert "an Indian girl, about 1 year old." in say(1.2, gender="Female", race="Indian")
    assert "a boy, less than 1 year old." in say(0, gender="male", race="Others")
    assert "a boy, about 12 years old." in say(12, gender="male") and "a man, about 13" in say(13, gender="male")
    assert "an East Asian boy, 3-9 years old." in say(gender="Male", race="East Asian", age_group="3-9")
    assert "a child, 0-2 years old." in say(age_group="0-2") and "man" not in say(gender="Male", age_group="4-19")
    assert "a person, 10-19 years old." in say(gender="Female", age_group="10-19")
    assert "a woman, 20-29 years old." in say(gender="Female", age_group="20-29")
    assert "a man, 70+ years old." in say(gender="Male", age_group="70+")
    assert "a girl." in say(attributes={"Male": 0, "Child": 1, "Bangs": 1, "No_Beard": 1})
    assert "beard" not in say(5, {"Male": 1, "No_Beard": 1, "Bangs": 1})


def test_every_celeba_attribute_is_described_but_two() -> None:
    spoken = {a for region in REGIONS for a in region.attributes} | {"male", "young", "smiling"}
    assert {a for a in CELEBA_ATTRIBUTES if key_of(a) not in spoken} == {"Attractive", "Blurry"}


def test_balance_asks_about_the_rare_and_evens_the_answers() -> None:
    rng = np.random.default_rng(0)
    shares = np.array([0.01, 0.05, 0.3, 0.5, 0.8, 0.97])
    names = tuple(CELEBA_ATTRIBUTES[: len(shares)])
    labels = (rng.random((4000, len(shares))) < shares).astype(np.int8)

    def asked(weights: dict[str, tuple[float, float]] | None) -> Counter[tuple[str, str]]:
        plan, counts = Plan(k=1, weights=weights, varied=False), Counter[tuple[str, str]]()
        for i, row in enumerate(labels.tolist()):
            sample = Sample(str(i), "x.jpg", dict(zip(names, row, strict=True)))
            _, made = next(conversations(sample, plan))
            asked_about, answered = made["conversations"]
            counts[asked_about["value"], answered["value"]] += 1
        return counts

    even, plain = asked(rarity(names, labels)), asked(None)
    assert len(even) == 12 and min(even.values()) > 2 * min(plain.values())

    def unevenness(counts: Counter[tuple[str, str]]) -> float:
        texts = {text for text, _ in counts}
        return max(abs(counts[t, "Yes"] / (counts[t, "Yes"] + counts[t, "No"]) - 0.5) for t in texts)

    assert unevenness(even) < 0.45 < unevenness(plain)
    assert rarity(("A",), np.full((3, 1), -1, dtype=np.int8)) == {"A": (1.0, 1.0)}


@pytest.mark.parametrize("styles", [("closd",), (), ("list", "list")])
def test_unknown_styles(styles: tuple[str, ...]) -> None:
    with pytest.raises(FaceDataError, match="styles: "):
        Plan(styles)
