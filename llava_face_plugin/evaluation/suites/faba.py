"""FABA-Bench (Li et al., ECCV 2024, arXiv 2404.05052): emotion and action units out of a description, and its wording.

Source of the paper's rules: JackYFL/EmoLA, ``emollava/eval/eval_FABA.py`` (commit 0cd4a12b, MIT licence), read, not
copied; its words for emotions come from the user's clone (``faba_words``). S_re is the accuracy of the emotion, or the
mean F1 over twelve action units; S_ge the ROUGE-L of the description with the reference; S_rege their sum, so up to 2
(there in percent).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import metrics
from ..answers import Parsed, parse_labels
from ..answers.reading import read
from ..answers.refusals import is_refusal
from ..scoring import Record
from .faba_words import EMOTIONS, OriginalWords, words_of
from .rouge import rouge_l_union
from .shared import INTERVAL, READ, SCORE_INTERVAL, Item, field, suite_record, suite_scorer, whole

UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 16, 17, 20, 23, 24, 25, 26, 27, 43)
"""Action units that annotations and answers name."""
SCORED_UNITS = (1, 2, 4, 5, 6, 10, 12, 17, 24, 25, 26, 43)
"""Those whose F1 is averaged."""

STRICT_WORDS = {
    "happiness": "happy joy joyful cheerful joyous delighted delight",
    "sadness": "sad sorrow sorrowful unhappy",
    "surprise": "surprised astonished astonishment amazed amazement",
    "anger": "angry furious enraged rage",
    "neutral": "neutrality expressionless",
    "disgust": "disgusted revulsion",
    "fear": "fearful afraid scared frightened terrified",
}
"""Emotion -> its forms and synonyms: no word of two emotions, and none that names a mood or a posture (ours)."""

Units = tuple[tuple[str, ...], tuple[str, ...] | None, float]
"""Gold units, units read (None: unread), S_ge."""


def original_emotion(text: str, words: OriginalWords) -> str | None:
    """The emotion that the paper's code finds; None where it raises (the text to be read has no ``. ! ?``, or a line
    break before the first).

    Sentences with a denial are dropped, unless all are; the first word of the first sentence that is in a list
    decides, then the commonest emotion of the rest. Known defects, kept: denials are found inside words ("another",
    "nose"); a word of two lists always counts for the first, where it decides; and an answer with none of the words
    is "happiness".
    """
    kept = [s for s in _original_sentences(text) if not any(denial in s.lower() for denial in words.denials)]
    positive = " ".join(kept) or text
    end = re.search(r"[.!?\n]", positive)
    if end is None or end.group() == "\n":
        return None
    first, rest = (re.findall(r"\w+", part.lower()) for part in (positive[: end.start()], positive[end.end() :]))
    for word in first:
        if found := _emotions(word, words):
            return found[0]
    counts = Counter(emotion for word in rest for emotion in _emotions(word, words))
    return max(EMOTIONS, key=lambda emotion: counts[emotion])


def strict_emotion(text: str) -> Parsed:
    """The emotion of the first sentence that names just one by a whole word, undenied; else unread.

    Sentences that name none, deny ("not sad"), or name several are passed over: with two emotions it is unclear which
    is meant.
    """
    cleaned = read(text).text
    for sentence in re.split(r"(?<=[.!?。])\s|\n", cleaned):
        named = parse_labels(sentence, {e: STRICT_WORDS[e].split() for e in EMOTIONS}).value
        if isinstance(named, tuple) and len(named) == 1:
            return Parsed(named[0])
    return Parsed(None, is_refusal(cleaned))


def original_units(text: str) -> tuple[str, ...]:
    """Every known unit written "AU" and number. Known defects, kept: "AU4 is absent" counts, "AU 4" does not."""
    return tuple(unit for unit in map(_name, UNITS) if unit in {f"AU{n}" for n in re.findall(r"AU(\d+)", text)})


def strict_units(text: str) -> Parsed:
    """The units given and not denied, as ``parse_labels``: "AU 4", "AU04" and "action unit 4" count, too."""
    return parse_labels(text, {_name(unit): () for unit in UNITS})


def emotion_scorer(task: str) -> Callable[..., dict[str, Any]]:
    """``process_results`` for ``$FACE_EVAL_DATA/<task>.parquet``, with the paper's words where its header has them.

    Raises ``FaceDataError`` where that file is missing or damaged.
    """
    return suite_scorer(lambda doc, text: emotion_record(doc, text, words_of(task)), EMOTION)


def emotion_record(doc: Mapping[str, Any], text: str, words: OriginalWords | None = None) -> Record:
    """``answer`` is the emotion and the reference description. ``original`` is None without the paper's ``words``."""
    gold, reference = doc["answer"]
    parsed = strict_emotion(text)
    return suite_record(
        doc, gold, parsed.value, float(parsed.value == gold), refused=parsed.refused,
        original=None if words is None else float(original_emotion(text, words) == gold),
        s_ge=rouge_l_union(text, reference),
    )  # fmt: skip


def unit_record(doc: Mapping[str, Any], text: str) -> Record:
    """``answer`` is the units, with commas, and the reference. ``score`` is the F1 of this face's scored units (1
    where it has none and none is named), for intervals only: the paper's figure is ``face_au_f1``."""
    units, reference = doc["answer"]
    gold = tuple(units.split(",")) if units else ()
    parsed = strict_units(text)
    return suite_record(
        doc, gold, parsed.value, _face_f1(gold, parsed.value), refused=parsed.refused,
        pred_original=original_units(text), s_ge=rouge_l_union(text, reference),
    )  # fmt: skip


def face_s_rege(items: Sequence[tuple[float | None, float]]) -> float:
    """S_re + S_ge of emotions, in 0..2; NaN where S_re is undefined (no words of the paper's)."""
    right = [float("nan") if r is None else r for r, _ in items]
    return float(np.mean(right) + np.mean([overlap for _, overlap in items]))


def face_au_f1(items: Sequence[Units]) -> float:
    """S_re of action units: mean F1 over the twelve; units neither annotated nor named anywhere are left out.

    (The paper's code also leaves out a unit that is annotated and named on all faces; here it has F1 1.)
    """
    gold = np.array([_row(units) for units, _, _ in items], dtype=np.int8)
    pred = np.array([_row(units) for _, units, _ in items], dtype=np.int8)
    value = metrics.action_unit_f1(gold, pred, zero_division=None).mean
    return float("nan") if value is None else value


def face_au_s_rege(items: Sequence[Units]) -> float:
    """S_re + S_ge of action units, in 0..2."""
    return face_au_f1(items) + float(np.mean([overlap for _, _, overlap in items]))


def _original_sentences(text: str) -> list[str]:
    """Parts that end in a full stop or question mark before one white space; not after "e.g." or "Dr."."""
    parts, start = [], 0
    for gap in re.finditer(r"(?<=[.?])\s", text):
        if re.search(r"\w\.\w[.?]\Z|[A-Z][a-z]\.\Z", text[max(0, gap.start() - 4) : gap.start()]) is None:
            parts.append(text[start : gap.start()])
            start = gap.end()
    return [*parts, text[start:]]


def _emotions(word: str, words: OriginalWords) -> list[str]:
    return [emotion for emotion in EMOTIONS if word in words.emotions[emotion]]


def _name(unit: int) -> str:
    return f"AU{unit}"


def _row(units: Sequence[str] | None) -> list[int]:
    """1 and 0 for each scored unit, -1 for all of an answer that could not be read."""
    return [-1 if units is None else int(_name(unit) in units) for unit in SCORED_UNITS]


def _face_f1(gold: Sequence[str], pred: Any) -> float:
    if pred is None:
        return 0.0
    scored = set(map(_name, SCORED_UNITS))
    wanted, named = scored & set(gold), scored & set(pred)
    return 2 * len(wanted & named) / (len(wanted) + len(named)) if wanted or named else 1.0


def _units(pred: str) -> Item:
    return lambda r: (r["gold"], r[pred], r["s_ge"])


EMOTION: dict[str, Item] = {
    "face_acc_score": whole,
    **INTERVAL,
    "face_acc_original": field("original"),
    "face_s_ge": field("s_ge"),
    "face_s_rege": lambda r: (r["score"], r["s_ge"]),
    "face_s_rege_original": lambda r: (r["original"], r["s_ge"]),
    **READ,
}
ACTION_UNITS: dict[str, Item] = {
    "face_unit_f1_score": whole,
    **SCORE_INTERVAL,
    "face_au_f1": _units("pred"),
    "face_au_f1_original": _units("pred_original"),
    "face_s_ge": field("s_ge"),
    "face_s_rege": _units("pred"),
    "face_s_rege_original": _units("pred_original"),
    **READ,
}
"""Metric -> its item. The three of action units each hold (gold, read, S_ge)."""
