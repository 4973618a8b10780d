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
_PERCENT = re.compile(r"\s?%|\s?\bper cent\b")
_SHARED_PERCENT = re.compile(rf"({_NUMBER}) percent(?=\s?(?:-|~|to\b|through\b|and\b)\s?{_NUMBER} percent\b)")
_BETWEEN = re.compile(rf"\bbetween ({_NUMBER}) and ({_NUMBER})")
_PUNCTUATION = set("-,.;:!?()[]\n。、/|=&") | {CROSS}
BREAKS = set(",.;!?)]\n。、|-") | {"but", "because", "so", "although", "though", "while"}
_DENIALS = {
    "not", "no", "never", "neither", "nor", "without", "cannot", "non", "than", "instead", "except", "lack", "lacks",
    "lacking", "none", "hardly", "unlikely", "unable", "isnt", "arent", "doesnt", "whether", "if", "unless",
    "less", "fewer", "unlike", "fail", "fails", "failed", "barely", "不", "没", "沒", "无", "無", "非",
}  # fmt: skip
_DENYING_PHRASE = re.compile(r"\b(?:anything but|far from)\b")
_ABSENT = {
    "absent", "missing", "inactive", "incorrect", "wrong", "false", "unlikely", "invisible", "undetected", "lacking",
}  # fmt: skip
_DENIED_BY_VERB = _ABSENT | {
    "not", "no", "never", "cannot", "neither", "none", "hardly", "barely", "fail", "fails", "failed", "unable", "if",
    "whether", "unless", "不", "没", "沒", "无", "無", "非",
}  # fmt: skip
_VERBS = {
    "is", "are", "was", "were", "be", "been", "do", "does", "did", "can", "could", "has", "have", "had", "will", "may",
    "might", "would", "should", "must", "seem", "seems", "appear", "appears", "look", "looks", "show", "shows",
}  # fmt: skip
_SINGULAR = {"is", "was", "does", "has", "seems", "appears", "looks", "shows", "fails", ":", "=", "("}
_LINKS = {":", "=", "(", "is", "are", "was", "were", "looks", "seems"}
_JOINERS = {",", "and", "&", "+", "、"}
_ANY = {"the", "a", "an", "any", "of", "or", "是"}
_AND = {"and", "&", "+", "or", "nor"}


@dataclass(frozen=True)
class Mention:
    """A name in a text. ``before``, ``after``: the words from the last break or name up to it, and from it to the next
    break or name."""

    owner: Hashable
    denied: bool
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class Names:
    """The names mentioned, in order. ``unclear``: one may be given or denied ("no AU4, AU6")."""

    mentions: tuple[Mention, ...]
    unclear: bool

    @property
    def given(self) -> frozenset[Hashable]:
        """Owners of the names that are not denied."""
        return frozenset(m.owner for m in self.mentions if not m.denied)

    @property
    def denied(self) -> frozenset[Hashable]:
        """Owners of the names that are denied."""
        return frozenset(m.owner for m in self.mentions if m.denied)


def tokenize(text: str) -> list[str]:
    """Lower-case words, numbers, ranges ("20 to 29" -> "20-29"), single CJK characters and punctuation marks.

    Leading zeros go ("AU01" -> "au", "1"), "n't" becomes "not", "%" and "per cent" become "percent" ("15% to 30%" ->
    "15-30", "percent").
    """
    text = _SHARED_PERCENT.sub(r"\1", _PERCENT.sub(" percent", text.lower()))
    text = re.sub(r"n't\b", " not", _BETWEEN.sub(r"\1-\2", text))
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

    A name is denied if

    - a word such as "not", "no", "without", "than", "whether", "less", "unlike", "fails", "far from" or "anything but"
      stands before it in its clause;
    - "absent", "is not", ": no" or "or not" stands right after it, or "not", "cannot", "does not", "inactive" and the
      like anywhere after it before its clause ends and before the next name. This holds for the names before it, too,
      if "and" or "or" joins them ("AU4, AU6 and AU12 are not visible").

    The text is unclear where a comma joins a name to a denied one, or "and" where the verb is singular ("AU4 and AU12
    is not visible"); where a verb denies between two names of one clause ("AU4 is not seen and AU6"), and after a
    cross mark. A name of a single letter is never looked for: "a" is an article.
    """
    tokens = tokenize(_DENYING_PHRASE.sub("not", text.lower()))
    spans = _mentions(tokens, owners)
    starts, ends = [start for start, _, _ in spans], [end for _, end, _ in spans]
    gaps = [tokens[end:start] for end, start in zip([0, *ends], starts, strict=False)]
    tails = [tokens[end:start] for end, start in zip(ends, [*starts[1:], len(tokens)], strict=False)]
    denied, unclear = _denied_before(gaps), CROSS in tokens
    for i, tail in enumerate(tails):
        end = ends[i] + (tail[:1] == [")"])  # "AU4 (brow lowerer) is absent"
        verdict = _denied_after(tail[end - ends[i] :], tokens[end : end + 2], last=i + 1 == len(spans))
        unclear |= verdict is None
        if verdict:
            unclear |= _carry_back(i, spans, gaps, denied, bool(_SINGULAR & set(_clause(tail))))
    for gap, before, after in zip(gaps[1:], denied, denied[1:], strict=False):
        unclear |= before and not after and set(gap) <= _JOINERS
    mentions = tuple(
        Mention(owner, no, tuple(_clause(gap[::-1])[::-1]), tuple(_clause(tail)))
        for (_, _, owner), no, gap, tail in zip(spans, denied, gaps, tails, strict=True)
    )
    return Names(mentions, unclear)


def _clause(tokens: list[str]) -> list[str]:
    """The tokens up to the first break."""
    return tokens[: next((i for i, token in enumerate(tokens) if token in BREAKS), len(tokens))]


def _denied_before(gaps: Iterable[list[str]]) -> list[bool]:
    denied, void = [], False
    for gap in gaps:
        for token in gap:
            void = token in _DENIALS or (void and token not in BREAKS)
        denied.append(void)
    return denied


def _denied_after(tail: list[str], adjacent: list[str], last: bool) -> bool | None:
    """Whether what stands between a name and the next one (or the end) denies it; None where that is unclear."""
    near = _adjacent_denial(adjacent)
    if near is not False:
        return near
    if tail[:1] == [","] and _denied_after_comma(tail[1:], last):
        return None
    clause = _clause(tail)
    at = next((i for i, token in enumerate(clause) if token in _DENIED_BY_VERB), None)
    if at is None:
        return False
    if last or len(clause) < len(tail):
        return True
    # No break before the next name: "AU12 not AU4" denies that one, other words may deny either.
    forward = clause[at] in _DENIALS and not _VERBS & set(clause[max(0, at - 1) : at]) and set(clause[at + 1 :]) <= _ANY
    return False if forward else None


def _denied_after_comma(tail: list[str], last: bool) -> bool:
    """ "AU4, no" and "AU4, however, is not" may deny the name."""
    if tail[:1] in (["no"], ["not"]) and (tail[1] in BREAKS if tail[1:] else last):
        return True
    inserted = tail.index(",") if "," in tail[:5] else 0
    following = tail[inserted + 1 : inserted + 3]
    return bool(inserted and (following[:1] == ["cannot"] or _adjacent_denial(following) is not False))


def _carry_back(
    last: int, spans: list[tuple[int, int, Hashable]], gaps: list[list[str]], denied: list[bool], singular: bool
) -> bool:
    """Denies the name ``last`` and those joined to it; whether it stays unclear that the latter are meant."""
    denied[last] = True
    joined = False
    for i in range(last, 0, -1):
        link = set(gaps[i])
        if spans[i][2] == spans[i - 1][2] and link <= {"("}:
            denied[i - 1] = True  # a name and its synonym
        elif link and link <= _JOINERS | _AND | {")", "both"}:
            if denied[i - 1]:
                break
            joined |= bool(link & _AND)
            if singular or not joined:
                return True
            denied[i - 1] = True
        else:
            break
    return False


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


def _adjacent_denial(following: list[str]) -> bool | None:
    """None where a "no" may belong to the name before it or after it ("AU1 no AU4")."""
    first, second = (*following, "", "")[:2]
    if first == "no":
        return True if not second or second in BREAKS else None
    if (first, second) == ("or", "not"):
        return True
    return first in _ABSENT or (first in _LINKS and (second in _ABSENT or second in {"not", "no", "0", "0.0", "none"}))


def _plain_number(number: str) -> str:
    ends = re.findall(_NUMBER, number)
    return "-".join(re.sub(r"^0+(?=\d)", "", end) for end in ends)
