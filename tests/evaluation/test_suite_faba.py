"""FABA-Bench: emotions and action units out of descriptions, by the paper's words and by whole, undenied ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from suite_samples import built, doc, faba, faba_row, write

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation.answers import parse_labels
from llava_face_plugin.evaluation.suites import faba as suite
from llava_face_plugin.evaluation.suites.shared import suite_scorer

pytest.importorskip("pyarrow", reason="question files are parquet")


def test_labels_by_name_number_and_from_the_reference(tmp_path: Path) -> None:
    root = faba(tmp_path / "f")
    header, rows = built("face_faba_emotion", root, tmp_path / "q")
    assert [row["answer"][0] for row in rows] == ["happiness", "sadness", "neutral"]
    assert rows[0]["question"] == "What emotions are conveyed by this face?"
    assert rows[0]["images"] == ["FABAInstruct/eval/images/AffectNet/0.jpg"]
    assert header.notes == ["faces without a label, read from the reference text by the paper's matcher: 1"]
    _, units = built("face_faba_au", root, tmp_path / "q")
    assert [row["answer"][0] for row in units] == ["AU6,AU12", "AU4"]
    _, inside = built("face_faba_au", root / "FABAInstruct", tmp_path / "q")
    assert inside[0]["images"] == ["eval/images/AffectNet/0.jpg"]


@pytest.mark.parametrize(
    ("text", "original", "strict"),
    [
        ("The person looks happy.", "happiness", "happiness"),
        ("The face is not sad. It shows surprise.", "surprise", "surprise"),
        (
            "He looks angry, not sad.",
            "happiness",
            "anger",
        ),  # theirs lacks "angry"
        ("Another day. The person shows fear.", "fear", "fear"),
        # Its defects: "no" in "nose" drops the sentence; no word at all is happiness; no full stop raises.
        ("The nose is wrinkled in disgust. He may be calm.", "neutral", "disgust"),
        ("I see a face.", "happiness", None),
        ("happy", None, "happiness"),
        ("A serious man.", "anger", None),
        ("She is displeased.", "anger", None),
        ("Happiness and sadness. Then fear.", "happiness", "fear"),
        ("", None, None),
    ],
)
def test_emotions(text: str, original: str | None, strict: str | None) -> None:
    assert suite.original_emotion(text) == original
    assert suite.strict_emotion(text).value == strict


def test_the_strict_words_belong_to_one_emotion_each() -> None:
    assert set(suite.STRICT_WORDS) == set(suite.ORIGINAL_WORDS) == set(suite.EMOTIONS)
    for emotion, words in suite.STRICT_WORDS.items():
        for word in words.split():  # parse_labels refuses a word of two labels
            found = parse_labels(word, {e: suite.STRICT_WORDS[e].split() for e in suite.EMOTIONS})
            assert found.value == (emotion,)


@pytest.mark.parametrize(
    ("text", "original", "strict"),
    [
        ("AU6 and AU12", ("AU6", "AU12"), ("AU12", "AU6")),
        ("AU 6, AU04", (), ("AU4", "AU6")),
        ("AU4 is absent. AU12 is there.", ("AU4", "AU12"), ("AU12",)),
        ("AU99", (), None),
        ("none", (), ()),
        ("A calm face", (), None),
    ],
)
def test_action_units(text: str, original: tuple[str, ...], strict: tuple[str, ...] | None) -> None:
    assert suite.original_units(text) == original
    assert suite.strict_units(text).value == strict


def test_s_re_of_emotions_and_s_rege() -> None:
    score = suite_scorer(suite.emotion_record, suite.EMOTION)
    reference = "The person looks happy."
    right = score(doc([], ["happiness", reference]), ["The person looks happy."])
    assert list(right) == list(suite.EMOTION) and right["face_s_ge"] == pytest.approx(1.0)
    wrong = score(doc([], ["sadness", reference]), ["Happy."])
    assert wrong["face_s_ge"] == 0.0  # case matters
    assert suite.face_s_rege([right["face_s_rege"], wrong["face_s_rege"]]) == pytest.approx(0.5 + 0.5)


def test_s_re_of_units_by_hand() -> None:
    items = [
        (("AU1", "AU12"), ("AU1",), 0.5),  # AU1 hit, AU12 missed
        (("AU12",), ("AU12", "AU4"), 0.0),  # AU12 hit, AU4 false
        (("AU12", "AU7"), None, 0.0),  # unread: AU12 missed; AU7 is not scored
    ]
    # AU1 1, AU4 0, AU12 2·1 / (3 + 1) = 1/2; the other nine occur nowhere
    assert suite.face_au_f1(items) == pytest.approx((1 + 0 + 0.5) / 3)
    assert suite.face_au_f1(items[::-1]) == suite.face_au_f1(items)
    assert suite.face_au_s_rege(items) == pytest.approx(0.5 + 0.5 / 3)
    nowhere = suite.face_au_f1([((), (), 0.0)])
    assert nowhere != nowhere  # NaN


def test_the_record_of_units() -> None:
    score = suite_scorer(suite.unit_record, suite.ACTION_UNITS)
    made = score(doc([], ["AU6,AU12", "AU6. AU12."]), ["There is no AU4. AU6 is there."])
    assert list(made) == list(suite.ACTION_UNITS)
    assert made["face_au_f1"][:2] == (("AU6", "AU12"), ("AU6",))
    assert made["face_au_f1_original"][1] == ("AU4", "AU6")
    assert made["face_unit_f1_score"]["score"] == pytest.approx(2 / 3)
    none = score(doc([], ["", "Nothing."]), ["none"])["face_unit_f1_score"]
    assert (none["gold"], none["pred"], none["score"]) == ((), (), 1.0)


@pytest.mark.parametrize(
    ("kind", "row", "problem"),
    [
        ("emotion", faba_row(0, "Boredom", "Text."), "expected one of happiness"),
        ("emotion", faba_row(0, 7, "Text."), "expected one of happiness"),
        ("emotion", faba_row(0, "9" * 5000, "Text."), "expected one of happiness"),
        ("emotion", faba_row(0, None, "no stop"), "the paper's matcher reads none"),
        ("emotion", faba_row(0, "Fear", ""), "gpt4"),
        ("au", faba_row(0, "AU4", "Text."), "expected numbers"),
        ("au", faba_row(0, True, "Text."), "expected numbers"),
        ("au", faba_row(0, "1", "Text.") | {"image": 3}, "the image is 3"),
        ("au", {"image": "a.jpg", "label": "1"}, "neither gpt4"),
        ("au", "row", "expected an object"),
    ],
)
def test_a_bad_annotation_is_named(tmp_path: Path, kind: str, row: object, problem: str) -> None:
    write(tmp_path / "eval" / f"eval_{kind}_anno.json", [row])
    with pytest.raises(FaceDataError, match=problem) as error:
        built(f"face_faba_{kind}", tmp_path, tmp_path / "q")
    assert "anno.json, annotation 0" in str(error.value)
