"""FaceBench (Wang et al., CVPR 2025, arXiv 2503.21457): true/false, single choice, multiple choice, open questions.

Source of the paper's rules: CVI-SZU/FaceBench, ``evaluation/evaluation.py`` and ``utils.py`` (commit b5989a06), read,
not copied. There GPT-4o maps answers that are no option's text to options. It is not used: in the ``_original``
metrics the answer goes on as it is.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..answers import Parsed, parse_choice, parse_labels
from ..answers.names import compact, tokenize
from ..answers.reading import plain, read
from ..answers.refusals import is_refusal
from ..scoring import Record
from .rouge import bleu, rouge_l
from .shared import INTERVAL, READ, SCORE_INTERVAL, Item, field, suite_record, whole

_NUMBERS = {word: str(n) for n, word in enumerate("zero one two three four five six seven eight nine ten".split())}  # noqa: SIM905
_NUMBERS["none"] = "0"
_PUNCTUATION = sorted(set(string.punctuation) - set("#$%&'*.:^|~"))  # those that the VQA rules take out


def weighted_f1(options: Sequence[str], gold: str, pred: str | None) -> float:
    """The paper's F1 of one question: each different option is a case, "is it the answer?" yes or no; support weighted.

    Known defect, kept for ``_original``: a wrong answer has (n - 2) / n for n options, and one that is no option even
    more, for it denies all options but one rightly. The strict metric gives an answer that cannot be read 0.
    """
    cases = sorted(set(options))
    return binary_f1s([o == gold for o in cases], [o == pred for o in cases])[2]


def binary_f1s(gold: Sequence[bool], pred: Sequence[bool]) -> tuple[float, float, float]:
    """(macro, micro, weighted) F1 of yes and no over the cases, as ``sklearn.metrics.f1_score``: macro over the values
    that occur in gold or pred; micro is the share of equal cases."""
    scores = {}
    for value in {*gold, *pred}:
        hits = sum(g == p == value for g, p in zip(gold, pred, strict=True))
        scores[value] = 2 * hits / (sum(g == value for g in gold) + sum(p == value for p in pred))
    weighted = sum(scores[g] for g in gold) / len(gold)
    return float(np.mean(list(scores.values()))), float(np.mean(np.equal(gold, pred))), weighted


def original_counts(text: str) -> bool:
    """Whether the paper's code counts an answer: not one with "error" in it ("terror"). An empty one counts, but for
    open questions."""
    return "error" not in text and "ERROR" not in text


def choice_record(doc: Mapping[str, Any], text: str) -> Record:
    """True/false and single choice. Strict: ``parse_choice``, but no letters. Original: the text is the gold option,
    character by character."""
    options, gold = doc["options"], doc["answer"][0]
    parsed = _chosen(text, options)
    pred = None if parsed.value is None else str(parsed.value)
    counted = original_counts(text)
    return suite_record(
        doc, gold, pred, float(pred == gold), refused=parsed.refused,
        original=float(text == gold) if counted else None,
        weighted_f1=0.0 if pred is None else weighted_f1(options, gold, pred),
        weighted_f1_original=weighted_f1(options, gold, text) if counted else None,
    )  # fmt: skip


def multiple_record(doc: Mapping[str, Any], text: str) -> Record:
    """Multiple choice. Strict: the options named as whole words and not denied (``parse_labels``); an answer that
    cannot be read has 0. Original: an exact option's text is that option alone; of any other text, the options that
    are anywhere in it ("male" in "female"), and none named still scores on the options that are rightly not named.
    ``score`` is the macro F1 over the options."""
    options, gold = doc["options"], doc["answer"]
    parsed = _named(text, options)
    pred = parsed.value
    truth = [o in gold for o in options]
    macro, micro, _ = (0.0,) * 3 if pred is None else binary_f1s(truth, [o in pred for o in options])  # type: ignore
    theirs = [o == text if text in options else o in text for o in options]
    their_macro, their_micro, _ = binary_f1s(truth, theirs) if original_counts(text) else (None,) * 3
    return suite_record(
        doc, tuple(sorted(gold)), pred, macro, refused=parsed.refused, micro=micro, exact=float(pred == _sorted(gold)),
        macro_original=their_macro, micro_original=their_micro,
    )  # fmt: skip


def open_record(doc: Mapping[str, Any], text: str) -> Record:
    """Open questions: overlap with the reference, of the cleaned answer. ``score`` is ROUGE-L F1 (unstemmed, as one of
    the paper's two); unread is an answer without a word."""
    reference = doc["answer"][0]
    answer = read(text).text
    said, wanted = normalised(answer), normalised(reference)
    first_letters = normalised(text[:1]), normalised(reference[:1])
    counted = bool(text) and original_counts(text)
    return suite_record(
        doc, reference, answer or None, rouge_l(answer, reference), refused=is_refusal(answer),
        bleu=bleu(said, wanted), bleu_1=bleu(said, wanted, 1),
        original=rouge_l(text, reference) if counted else None,
        bleu_original=bleu(*first_letters) if counted else None,
    )  # fmt: skip


def normalised(text: str) -> list[str]:
    """Words for BLEU by the VQA rules that the paper uses: lower case, no punctuation, numbers as digits, no articles.

    Their table of contractions ("dont" -> "don't") is left out: it matters where only one side lacks the apostrophe.
    """
    text = text.lower()
    thousands = re.search(r"\d,\d", text) is not None
    cleaned = text
    for mark in _PUNCTUATION:
        joined = mark + " " in text or " " + mark in text or thousands
        cleaned = cleaned.replace(mark, "" if joined else " ")
    cleaned = re.sub(r"\.(?!\d)", "", cleaned)
    return [_NUMBERS.get(word, word) for word in cleaned.split() if word not in ("a", "an", "the")]


def _chosen(text: str, options: Sequence[str]) -> Parsed:
    """The option's text. ``parse_choice`` also reads letters, which this benchmark's prompts do not show."""
    parsed = parse_choice(text, options)
    if parsed.value is None:
        return parsed
    option = options[int(parsed.value)]  # type: ignore[arg-type]
    said, wanted = (compact(tokenize(plain(part))) for part in (read(text).text, option))
    return Parsed(option) if wanted in said else Parsed(None)


def _named(text: str, options: Sequence[str]) -> Parsed:
    return parse_labels(text, dict.fromkeys(options, ()))


def _sorted(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(names))


CHOICE: dict[str, Item] = {
    "face_acc_score": whole,
    **INTERVAL,
    "face_acc_original": field("original"),
    "face_weighted_f1": field("weighted_f1"),
    "face_weighted_f1_original": field("weighted_f1_original"),
    **READ,
}
MULTIPLE: dict[str, Item] = {
    "face_macro_f1_score": whole,
    **SCORE_INTERVAL,
    "face_micro_f1": field("micro"),
    "face_exact": field("exact"),
    "face_macro_f1_original": field("macro_original"),
    "face_micro_f1_original": field("micro_original"),
    **READ,
}
OPEN: dict[str, Item] = {
    "face_rouge_score": whole,
    **SCORE_INTERVAL,
    "face_bleu": field("bleu"),
    "face_bleu_1": field("bleu_1"),
    "face_rouge_original": field("original"),
    "face_bleu_original": field("bleu_original"),
    **READ,
}
"""Metric -> its item, for each type of question."""
