"""Answers to yes/no questions."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .parsed import Parsed, Value, parse

_YES = ("yes", "yeah", "yep", "yup", "true", "ja", "oui", "si", "sí", "sim", "да", "はい", "예", "네")
_NO = ("no", "nope", "nah", "false", "nein", "non", "não", "нет", "いいえ", "아니요", "아니오")
_CHINESE_YES = ("是", "是的", "有", "有的", "对", "對")
_CHINESE_NO = ("否", "不是", "不是的", "没有", "沒有", "不", "不对", "不對")
_CHINESE: Mapping[str, str] = dict.fromkeys(_CHINESE_YES, "yes") | dict.fromkeys(_CHINESE_NO, "no")
WHOLE: Mapping[str, str] = {**dict.fromkeys(_YES, "yes"), **dict.fromkeys(_NO, "no"), **_CHINESE}
"""Words that are an answer on their own -> "yes" or "no"."""
# "No beard is visible" denies a beard, but which question does it answer? "No" counts on its own, not as a determiner.
_AFTER_NO = "because|since|but|the|he|she|it|they|this|that|there|i|we|you|his|her|their|no|yes|or|and"
_WORD = re.compile(
    rf"(?<![\w'-])(?:(yes)(?![\w'])(?!-\w)|(no)(?=\s*$|\s*[^\w\s'-]|\s+-|\s*\n|\s+(?:{_AFTER_NO})\b))"
    r"|(?<=yes/)(no)\b|(?<=yes or )(no)\b|(?<=yes and )(no)\b"
)
# "Yes is wrong", "yes would not be the answer": a sentence about the word.
_TALKED_ABOUT = re.compile(
    r"yes\W+(?:wrong|incorrect|false)\b"
    r"|(?:yes|no)[\"')\]]*\s+(?:(?:is|was|can|could|may|might|must|should|would|will|does|seems|has|cannot|won't)"
    r"(?:n't|\b(?!n't)(?! (?:the |my )?(?:final |correct |right )?(?:answer|correct|right)\b)))"
)
_SURE = re.compile(
    r"(?:(?:an?|clear|clearly|absolutely|definite|definitely|certainly|simply|most|likely|probably|obviously),?\s+)+"
)
_EDGES = " \n\t.,;:!?。、'\"()[]{}<>-|/\\=+~"


def parse_yes_no(text: str) -> Parsed:
    """The value "yes" or "no", or unparsed. Rules, in order:

    1. The text is cleaned, and its explicit final answers are found (``reading``). If these name a value, they decide
       alone, and must agree. Each, or else the whole text, is read by rules 2 to 6.
    2. A whole answer (case and outer punctuation aside): yes, yeah, yep, yup, true, no, nope, nah, false; ja, nein,
       oui, non, si, sí, sim, não, да, нет, はい, いいえ, 예, 네, 아니요, 아니오.
    3. Chinese: the first clause is 是, 是的, 有, 有的, 对, or 否, 不是, 没有, 不, 不对 as a whole, and no clause says
       the other. 是 inside 不是 never counts.
    4. English: "yes" or "no" is the first word, after at most "definitely", "clearly", "probably" and the like.
       "No" counts only before the end, punctuation, "because" or a pronoun or article ("No he isn't"): never as in
       "no beard", "no doubt", "no one". Neither counts inside a word ("eyes", "nose", "yes-man").
    5. Where a verb follows the word, it is talked about and the text is unparsed ("Yes is wrong", "Yes is not the
       answer"), but for "is the answer", "is correct" and "is right".
    6. If the other word stands on its own anywhere ("Yes and no", "Yes. No.", "Yes/No"), the text is unparsed.

    Unparsed on purpose: "The person is not smiling", "I think yes", "No doubt, yes", "Not sure", "Y", a question
    ("Yes?"). A hedge after the word ("Yes, but I am not sure") does not void it.

    Raises ``TypeError`` if ``text`` is not a string. Source: our default.
    """
    return parse(text, judge)


def judge(text: str) -> set[Value]:
    """Rules 2 to 6 of ``parse_yes_no`` on cleaned text (see ``parsed.Judge``)."""
    text = text.strip(_EDGES).lower()
    if text in WHOLE:
        return {WHOLE[text]}
    clauses = [clause.strip(_EDGES) for clause in re.split(r"[,.;:!。、\n]", text)]
    if clauses[0] in _CHINESE:
        return {_CHINESE[clause] for clause in clauses if clause in _CHINESE}
    sure = _SURE.match(text)
    text = text[sure.end() :] if sure else text
    words = list(_WORD.finditer(text))
    if not words:
        return set()
    if _TALKED_ABOUT.match(text.replace("can't", "cannot")):
        return {None}
    values: set[Value] = {"yes" if word.group(1) else "no" for word in words}
    return values if words[0].start() == 0 else {None}
