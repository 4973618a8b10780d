"""FABA-Bench: emotions and action units out of descriptions, by the paper's words and by whole, undenied ones."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
from suite_samples import EMOLA_CODE, built, doc, faba, faba_row, settings, write

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation.answers import parse_labels
from llava_face_plugin.evaluation.questions import Header, Question, save_questions
from llava_face_plugin.evaluation.suites import faba as suite
from llava_face_plugin.evaluation.suites.faba_words import CODE, OriginalWords
from llava_face_plugin.evaluation.suites.shared import mean_counted, suite_scorer

pytest.importorskip("pyarrow", reason="question files are parquet")
WORDS = OriginalWords(
    {
        "happiness": frozenset({"elated", "happy"}), "sadness": frozenset({"gloomy"}),
        "surprise": frozenset({"surprise", "odd"}), "anger": frozenset({"livid", "cross"}),
        "disgust": frozenset({"queasy", "cross"}),
        "fear": frozenset({"dread", "odd"}), "neutral": frozenset({"placid"}),
    },
    ("no", "hardly"),
)  # fmt: skip
"""Made up, with words of two lists."""


def test_labels_by_name_number_and_from_the_reference(tmp_path: Path) -> None:
    root = faba(tmp_path / "f")
    # As the repository's README shows it: no label.
    unlabelled = [faba_row(0, "Happiness", "A man."), faba_row(1, 1, "A man."), faba_row(2, None, "A placid man.")]
    write(root / "FABAInstruct/eval/eval_emotion_anno.json", unlabelled)
    header, rows = built("face_faba_emotion", root, tmp_path / "q", settings=settings(root))
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
        ("The face is not gloomy. It shows surprise.", "surprise", "surprise"),
        ("Hardly elated? The person shows dread, or fear.", "fear", "fear"),
        # Its defects: "no" in "nose" drops the sentence; no word at all is happiness; no full stop raises.
        ("The nose is wrinkled in disgust. He may be placid.", "neutral", "disgust"),
        ("No. No gloomy man.", "sadness", None),  # all denied: all are read, the commonest of the rest
        ("I see a face.", "happiness", None),
        ("happy", None, "happiness"),
        ("elated\n.", None, None),  # a line break before the first full stop raises, too
        ("A cross man.", "anger", None),
        ("A face! Livid. Queasy. Queasy and gloomy.", "disgust", None),
        ("A face! Odd.", "surprise", None),  # counts for two, the first wins
        ("Elated and gloomy. Then fear.", "happiness", "fear"),
        ("Gloomy elated.", "sadness", None),
        # "Dr." and "e.g." do not end a sentence, "Dr?" does.
        ("By livid Dr. No man. Gloomy.", "sadness", None),
        ("By livid e.g. no man. Gloomy.", "sadness", None),
        ("By livid Dr? No man. Gloomy.", "anger", None),
        ("", None, None),
    ],
)
def test_emotions(text: str, original: str | None, strict: str | None) -> None:
    assert suite.original_emotion(text, WORDS) == original
    assert suite.strict_emotion(text).value == strict


def test_the_strict_words_belong_to_one_emotion_each() -> None:
    assert set(suite.STRICT_WORDS) == set(suite.EMOTIONS)
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


def test_the_words_come_from_the_clone_through_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = faba(tmp_path / "f")
    monkeypatch.setenv("FACE_EVAL_DATA", str(tmp_path / "q"))
    score = suite.emotion_scorer("face_faba_emotion")
    asked = doc([], ["anger", "A livid man."])
    for place in (root / "EmoLA", root / "EmoLA" / CODE):
        header, _ = built("face_faba_emotion", root, tmp_path / "q", settings={"emola": str(place)})
        assert header.extra["emola"]["negative_words"] == ["un", "hardly"]
        assert header.extra["emola"]["emotion_list"]["sadness"] == ["gloomy", "tearful"]
        assert [s["name"] for s in header.sources] == ["eval_FABA.py", "FABAInstruct/eval/eval_emotion_anno.json"]
        assert score(asked, ["A livid man."])["face_acc_original"] == 1.0
        assert score(asked, ["A happy man."])["face_acc_original"] == 0.0  # no word of theirs: happiness
    # Another clone, another file: the new words count at once.
    write(root / "EmoLA" / CODE, EMOLA_CODE.replace("livid", "sulky"))
    built("face_faba_emotion", root, tmp_path / "q", settings=settings(root))
    assert score(asked, ["A livid man."])["face_acc_original"] == 0.0
    assert score(asked, ["A sulky man."])["face_acc_original"] == 1.0


def test_without_a_clone_their_figures_are_undefined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = faba(tmp_path / "f")
    write(root / "FABAInstruct/eval/eval_emotion_anno.json", [faba_row(0, "Fear", "The face shows fear.")])
    monkeypatch.setenv("FACE_EVAL_DATA", str(tmp_path / "q"))
    header, rows = built("face_faba_emotion", root, tmp_path / "q")
    assert "emola" not in header.extra and "face_s_rege_original are undefined" in header.notes[0]
    found = suite.emotion_scorer("face_faba_emotion")(rows[0], ["The face shows fear."])
    assert math.isnan(mean_counted([found["face_acc_original"]]))
    assert math.isnan(suite.face_s_rege([found["face_s_rege_original"]]))
    assert suite.face_s_rege([found["face_s_rege"]]) == pytest.approx(2.0)
    with pytest.raises(FaceDataError, match="--set emloa: face_faba_emotion has emola"):
        built("face_faba_emotion", root, tmp_path / "q", settings={"emloa": "x"})


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            "",
            "emotion_list is assigned 0 times; expected one, of a dict that has a list of words for each",
        ),
        (EMOLA_CODE * 2, "emotion_list is assigned 2 times"),
        (EMOLA_CODE.replace("negative_words", "words"), "negative_words is assigned 0 times; expected one, of a list"),
        (EMOLA_CODE.replace('"glee"', "glee()"), "line 4: emotion_list is no literal; expected a dict"),
        (EMOLA_CODE.replace('"fear"', '"dread"'), "emotion_list is dict of happiness, .*; expected a dict"),
        (EMOLA_CODE.replace('["elated", "glee"]', "[]"), "emotion_list is dict"),
        (EMOLA_CODE.replace('"glee"', "3"), "emotion_list is dict"),
        (EMOLA_CODE.replace("'un'", "''"), "negative_words is list"),
        (EMOLA_CODE.replace("['un', \"hardly\"]", "7"), "negative_words is 7; expected a list of words"),
        (EMOLA_CODE[:-3], "not Python"),
        (EMOLA_CODE.replace("un", "\0"), "not Python"),
        ("(" * 100_000, "not Python"),
        ("emotion_list = " + "-" * 5000 + "1\nnegative_words = ['no']", "not Python|no literal"),
        ("#" * 2_000_000, "larger than"),
    ],
)
def test_a_changed_clone_is_one_clear_error(tmp_path: Path, code: str, problem: str) -> None:
    root = faba(tmp_path / "f")
    write(root / "EmoLA" / CODE, code)
    with pytest.raises(FaceDataError, match=problem) as error:
        built("face_faba_emotion", root, tmp_path / "q", settings=settings(root))
    assert "eval_FABA.py" in str(error.value) and len(str(error.value)) < 1000


def test_a_clone_that_is_not_there(tmp_path: Path) -> None:
    root = faba(tmp_path / "f")
    for place in (tmp_path / "nowhere", root, root / "\0", root / ("x" * 5000)):
        with pytest.raises(FaceDataError, match="--set emola: .*no such file; expected a clone of https"):
            built("face_faba_emotion", root, tmp_path / "q", settings={"emola": str(place)})


def test_damaged_clones_end_in_one_clear_error(tmp_path: Path) -> None:
    root, draw, refused = faba(tmp_path / "f"), random.Random(5), 0
    whole = EMOLA_CODE.encode()
    for _ in range(200):
        start = draw.randrange(len(whole))
        end = start + draw.randint(1, 60)
        (root / "EmoLA" / CODE).write_bytes(
            draw.choice([whole[:start], whole[:start] + whole[end:], whole[:start] + draw.randbytes(9) + whole[end:]])
        )
        try:
            built("face_faba_emotion", root, tmp_path / "q", verify=False, settings=settings(root))
        except FaceDataError as error:
            refused += 1
            # Words that were lost may leave a reference without an emotion: then the annotation is named.
            assert "eval_FABA.py" in str(error) or "anno.json" in str(error)
            assert len(str(error)) < 1000
    assert refused > 50


def test_a_question_file_without_its_words_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACE_EVAL_DATA", str(tmp_path))
    score, asked = suite.emotion_scorer("face_faba_emotion"), doc([], ["fear", "A man."])
    with pytest.raises(FaceDataError, match="face_faba_emotion.parquet: no such question file"):
        score(asked, ["A man."])
    header = Header("face_faba_emotion", "faba", "test", 0, "/", extra={"emola": {"emotion_list": {}}})
    question = Question("q", "1", ("1.png",), "text", "?", ("fear", "A man."), "emotion")
    save_questions(tmp_path / "face_faba_emotion.parquet", header, [question])
    with pytest.raises(FaceDataError, match="face_faba_emotion.parquet: header: emotion_list is dict"):
        score(asked, ["A man."])


def test_a_label_that_the_matcher_cannot_read(tmp_path: Path) -> None:
    root = faba(tmp_path / "f")
    write(root / "FABAInstruct/eval/eval_emotion_anno.json", [faba_row(0, None, "placid without a stop")])
    with pytest.raises(FaceDataError, match="annotation 0: no label, and the paper's matcher reads none"):
        built("face_faba_emotion", root, tmp_path / "q", settings=settings(root))


def test_hostile_answers_by_the_papers_words() -> None:
    score = suite_scorer(lambda asked, text: suite.emotion_record(asked, text, WORDS), suite.EMOTION)
    for text in ("", "\0", "A. " * 50_000, "a.b" * 50_000, "x\ty " * 50_000, "no " * 50_000, "." * 200_000, "?!"):
        found = score(doc([], ["fear", "The face shows fear."]), [text])
        json.dumps(found)
        assert found["face_acc_original"] in (0.0, 1.0)


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
        ("emotion", faba_row(0, None, "Text."), "no label; --set emola"),
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
