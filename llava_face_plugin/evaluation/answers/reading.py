"""From a model's raw text to plain text and its explicit final answers, the same for every kind of question.

In order:

1. ``<think>...</think>`` (and ``<thinking>``) is dropped. A lone closing tag drops all before it, since some chat
   templates open the tag in the prompt; a tag never closed drops all after it.
2. Of more than ``LIMIT`` characters only the last ``LIMIT`` are read, and only an explicit final answer in them counts.
3. JSON, if it is the whole answer (a code fence may enclose it): the value of its one answer key (``answer``,
   ``final_answer``, ``prediction``, ``choice``, ``option``, ``label``, ``labels`` or ``result``; any case), or a list
   joined by commas (an empty one reads "none"). An object without just one such key, with a key given twice,
   broken off or nested too deep answers nothing.
4. ``<answer>X</answer>`` and ``\\boxed{X}`` become "Final answer: X". Other HTML tags and special tokens are dropped.
5. Unicode NFKC (full width to ASCII), straight quotes and dashes; control characters, emoji (but for crosses) and
   markdown become spaces; invisible format characters (zero width, direction marks) vanish. "ASSISTANT:" at the start
   is dropped.
6. A sentence that ends in a question mark is no answer and is dropped.
7. "Wait", "correction", "scratch that", "on second thought" at the start of a clause take back all before them.
8. Explicit final answers: what follows "answer is" (would be, should be, must be; also "choice is", "option is"),
   "answer:", "my choice:", "I choose" (select, pick, would go with, answer), 答案是, 答案为, 答案:, 选, 选择, 答:,
   答えは, 正解は, 정답은, 답은, up to the end of the sentence or line, "because" or "since". Not where the words before
   it in the clause deny or suppose it ("if the answer is", "the wrong answer is", "I don't think the answer is").
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

LIMIT = 10_000
"""Characters read of one answer (our default: several times what a closed question needs)."""

CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
"""Inside of a character class: kana, Chinese characters, hangul. They write no spaces between words."""

CROSS = "✗"
"""Stands for every cross mark, the one kind of symbol that is kept: "AU1 ✓ AU4 ✗" does not name AU4."""

_ANSWER_KEYS = {"answer", "final_answer", "prediction", "choice", "option", "label", "labels", "result"}
_THOUGHT = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s?\{([^{}]{0,200})\}")
_BOXED = re.compile(r"<answer>([^<>]{0,500})</answer>|\\boxed\s?\{([^{}]{0,200})\}", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>|<\|[^<>|]{0,40}\|>")
# NFKC would turn a footnote's 34² into 342, and № into the word "No".
_BEFORE_NFKC = {ord(c): " " for c in "№²³¹⁰⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉"}
_AFTER_NFKC = {
    **{ord(c): CROSS for c in "✗✘❌☒✕✖"},
    **{ord(c): '"' for c in "“”„«»「」『』"},
    **{ord(c): "'" for c in "‘’‚´`"},
    **{ord(c): "-" for c in "‐‑‒–−"},
    **{ord(c): " - " for c in "—―"},
    **{ord(c): " " for c in "*#_$`•\u20e3"},
    **dict.fromkeys(range(0xFE00, 0xFE10), ""),  # variation selectors, as in emoji
}
_ROLE = re.compile(r"^assistant:\s*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[!?。\n])|(?<=\.)(?=\s)")
_TAKEN_BACK = re.compile(
    r"(?:^|[.,;!?。\n-]\s?)(?:(?:oh|no|but|hmm|hold on),? )?(?:wait|correction|scratch that|on second thoughts?)\b",
    re.IGNORECASE,
)
_MARKER = re.compile(
    r"(?<![a-z])(?:answer|choice|option|prediction)(?: to (?:the|this|your) question)?"
    r" (?:is|would be|should be|must be)(?![a-z])"
    r"|(?<![a-z])(?:answer|(?:final|my) choice)(?: is)?\s?[:=]"
    r"|(?<![a-z])i(?:'d|'ll| would| will)? (?:choose|select|pick|go with|answer)(?![a-z])"
    r"|答案(?:应该)?(?:是|为|:)|选(?!项)择?|答:|答えは|正解は|정답은|답은",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(r"\b(?:if|whether|unless|not|never|cannot|wrong|incorrect|doubt)\b|n't\b|不|如果|错误")
# "B. happy" is one piece although a full stop stands in it.
_PIECE = re.compile(
    r"[\s:]*((?:[(\[]?[A-Za-z][.)\]:]\s)?.*?)(?=[.!?](?:\s|$)|[。\n]|\bbecause\b|\bsince\b|因为|$)", re.IGNORECASE
)
_CLAUSE_REACH = 60


@dataclass(frozen=True)
class Reading:
    """``text``: the cleaned answer. ``body``: the same, or "" where only final answers count. ``finals``: what
    the explicit final answers say, in order."""

    text: str
    body: str
    finals: tuple[str, ...]


def read(text: str) -> Reading:
    """Cleans an answer and finds its explicit final answers (rules: see the module). Work grows with ``LIMIT`` only,
    beyond one scan of the text for reasoning tags. Raises ``TypeError`` if ``text`` is not a string."""
    if not isinstance(text, str):
        raise TypeError(f"an answer is text, not {type(text).__name__}")
    text = _without_thoughts(text)
    whole = len(text) <= LIMIT
    if whole:
        text = _out_of_json(text)
    text = _ROLE.sub("", plain(text[-LIMIT:]))
    text = "".join(part for part in _SENTENCE_END.split(text) if not part.rstrip(" \n\"')").endswith("?"))
    text = text[max((m.end() for m in _TAKEN_BACK.finditer(text)), default=0) :]
    return Reading(text, text if whole else "", _finals(text))


def _without_thoughts(text: str) -> str:
    kept: list[str] = []
    start, thinking = 0, False
    for tag in _THOUGHT.finditer(text):
        closing = bool(tag.group(1))
        if closing and not thinking:
            kept.clear()
        elif not thinking:
            kept.append(text[start : tag.start()])
        start, thinking = tag.end(), not closing
    if not thinking:
        kept.append(text[start:])
    return "\n".join(kept).strip()


def _out_of_json(text: str) -> str:
    """The answer inside text that is JSON as a whole, "" if it has none; other text as it is."""
    inner = text
    if text.startswith("```") and text.endswith("```"):
        inner = text.strip("`").removeprefix("json").strip()
    if not inner.startswith(("{", "[")):
        return text
    try:
        found = json.loads(inner, object_pairs_hook=_unrepeated)
    except (ValueError, RecursionError):
        return "" if inner.startswith('{"') else text
    if isinstance(found, dict):
        answers = [value for key, value in found.items() if key.strip().lower() in _ANSWER_KEYS]
        found = answers[0] if len(answers) == 1 else None
    if isinstance(found, list):
        return ", ".join(map(_scalar, found)) if found else "none"
    return _scalar(found)


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON allows a key twice, and Python's parser would keep the last: such an object answers nothing."""
    found = dict(pairs)
    return found if len(found) == len(pairs) else {}


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else ""


def plain(text: str) -> str:
    """Rules 4 and 5. For the names that an answer is compared with, too."""
    text = _BOXED.sub(lambda m: f"\nFinal answer: {m.group(1) or m.group(2) or ''}\n", _LATEX_TEXT.sub(r"\1", text))
    text = html.unescape(_TAG.sub(" ", text)).translate(_BEFORE_NFKC)
    text = unicodedata.normalize("NFKC", text).translate(_AFTER_NFKC)
    lines = ("".join(map(_visible, line)).split() for line in text.splitlines())
    text = "\n".join(" ".join(words) for words in lines if words)
    return re.sub(r" ([.,:;!?)\]])", r"\1", text)


def _visible(char: str) -> str:
    """Controls and symbols (emoji) become a space; format characters, surrogates and private use vanish."""
    category = "" if char == CROSS else unicodedata.category(char)
    if category in ("Cc", "So", "Sk"):
        return " "
    return "" if category in ("Cf", "Cs", "Co", "Cn") else char


def _finals(text: str) -> tuple[str, ...]:
    found = []
    markers = list(_MARKER.finditer(text))
    stops = [*(m.start() for m in markers[1:]), len(text)]
    for marker, stop in zip(markers, stops, strict=False):
        before = text[max(0, marker.start() - _CLAUSE_REACH) : marker.start()]
        if _SUPPOSED.search(re.split(r"[.,;:!?\n。]", before)[-1].lower()):
            continue
        piece = _PIECE.match(text[marker.end() : stop])
        found.append(piece.group(1) if piece else "")
    return tuple(found)
