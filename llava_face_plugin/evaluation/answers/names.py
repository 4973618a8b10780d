"""Which of some names a text gives, as whole words, and which of them it denies."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from .reading import CJK, CROSS, plain

MARKS = "\ue000-\ue0ff"
"""Inside of a character class: private characters that ``reading`` drops from answers, free for a parser's own use."""

_NUMBER = r"\d+(?:\.\d+)?"
_TOKEN = re.compile(
    rf"(?P<number>{_NUMBER}(?:\s?(?:-|~|to\b|through\b)\s?{_NUMBER})?)"
    rf"|[{CJK}{MARKS}]|(?:(?![{CJK}])[^\W\d_])+"
    rf"|[,.;:!?()\[\]\n。、/|<>+%=&{CROSS}]|(?<!\S)-(?!\S)"
)
_BETWEEN = re.compile(rf"\bbetween ({_NUMBER}) and ({_NUMBER})")
_PUNCTUATION = set("-,.;:!?()[]\n。、/|=&") | {CROSS}
_BREAKS = set(",.;!?)]\n。、|-") | {"but", "because", "so", "although", "though", "while"}
_DENIALS = {
    "not", "no", "never", "neither", "nor", "without", "cannot", "non", "than", "instead", "except", "lack", "lacks",
    "lacking", "none", "hardly", "unlikely", "unable", "isnt", "arent", "doesnt", "whether", "if", "unless",
    "不", "没", "沒", "无", "無", "非",
}  # fmt: skip
_ABSENT = {"absent", "missing", "inactive", "incorrect", "wrong", "false", "unlikely"}
_LINKS = {":", "=", "(", "is", "are", "was", "were", "looks", "seems"}
_JOINERS = {",", "and", "&", "+", "、"}


@dataclass(frozen=True)
class Names:
    """Owners of the names given and of those denied. ``unclear``: one may be either ("no AU4, AU6")."""

    given: frozenset[Hashable]
    denied: frozenset[Hashable]
    unclear: bool


def tokenize(text: str) -> list[str]:
    """Lower-case words, numbers, ranges ("20 to 29" -> "20-29"), single CJK characters and punctuation marks.

    Leading zeros go ("AU01" -> "au", "1") and "n't" becomes "not".
    """
    text = re.sub(r"n't\b", " not", _BETWEEN.sub(r"\1-\2", text.lower()))
    return [_plain_number(m.group()) if m.group("number") else m.group() for m in _TOKEN.finditer(text)]


def compact(tokens: Iterable[str]) -> str:
    """The words run together, without punctuation: equal for "South-East Asian" and "southeast_asian".

    A bar keeps two numbers apart, so that "2 0" is not "20".
    """
    return re.sub(r"(?<=\d) (?=\d)", "|", " ".join(t for t in tokens if t not in _PUNCTUATION)).replace(" ", "")


@lru_cache(maxsize=4096)  # a task asks about the same names hundreds of thousands of times
def written(name: str) -> str:
    """The form in which ``find_names`` looks for a name: cleaned like an answer, then ``compact``."""
    return compact(tokenize(plain(name)))


def find_names(text: str, owners: Mapping[str, Hashable]) -> Names:
    """Names (``written`` form -> owner) in a text, as whole words, the longest first: "East Asian" is no "Asian".

    A name is denied if a word such as "not", "no", "without", "than" or "whether" stands before it in its clause,
    or "absent", "is not", ": no", "or not" right after it. A name joined to a denied one by a comma or "and" makes the
    text unclear. A name of a single letter is never looked for: "a" is an article.
    """
    tokens = tokenize(text)
    given: set[Hashable] = set()
    denied: set[Hashable] = set()
    unclear, void, last_denied = CROSS in tokens, False, False
    position = 0
    for start, end, owner in _mentions(tokens, owners):
        gap = tokens[position:start]
        unclear |= last_denied and set(gap) <= _JOINERS
        for token in gap:
            void = token in _DENIALS or (void and token not in _BREAKS)
        denied_after = _denied_after(tokens[end : end + 2])
        unclear |= denied_after is None
        last_denied = void or bool(denied_after)
        (denied if last_denied else given).add(owner)
        position = end
    return Names(frozenset(given), frozenset(denied), unclear)


def _mentions(tokens: list[str], owners: Mapping[str, Hashable]) -> list[tuple[int, int, Hashable]]:
    """(first token, one past the last, owner) of each name, in the order of the text, without overlaps."""
    joined, starts, ends = "", {}, {}
    for i, token in enumerate(tokens):
        joined += "|" if joined[-1:].isdigit() and token[0].isdigit() else ""
        starts[len(joined)] = i
        joined += token
        ends[len(joined)] = i + 1
    taken = [False] * len(tokens)
    found = []
    for name in sorted(owners, key=len, reverse=True):
        if not name or (len(name) == 1 and name.isalpha()):
            continue
        at = joined.find(name)
        while at >= 0:
            if at in starts and at + len(name) in ends:
                span = range(starts[at], ends[at + len(name)])
                if not any(taken[i] for i in span):
                    found.append((span.start, span.stop, owners[name]))
                    for i in span:
                        taken[i] = True
            at = joined.find(name, at + 1)
    return sorted(found, key=lambda mention: mention[0])


def _denied_after(following: list[str]) -> bool | None:
    """None where a "no" may belong to the name before it or after it ("AU1 no AU4")."""
    first, second = (*following, "", "")[:2]
    if first == "no":
        return True if not second or second in _BREAKS else None
    if (first, second) == ("or", "not"):
        return True
    return first in _ABSENT or (first in _LINKS and (second in _ABSENT or second in {"not", "no", "0", "0.0", "none"}))


def _plain_number(number: str) -> str:
    ends = re.findall(_NUMBER, number)
    return "-".join(re.sub(r"^0+(?=\d)", "", end) for end in ends)
