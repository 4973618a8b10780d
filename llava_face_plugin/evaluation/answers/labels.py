"""Answers that name any number of labels, such as action units."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ...errors import FaceDataError
from .names import find_names, written
from .parsed import Parsed, Value, parse

_UNIT = re.compile(r"\b(?:aus?|action units?) ?(?=\d)", re.IGNORECASE)
_SEPARATOR = r"(?:[ ,;+&/]|and)+"
_UNIT_LIST = re.compile(rf"(?<=\bAU )\d+(?:{_SEPARATOR}\d+(?![\d.%-]))+")
_UNIT_RANGE = re.compile(r"\bAU \d+[a-e]? ?(?:-|~|to|through) ?(?:AU )?\d", re.IGNORECASE)
_NUMBERS = re.compile(rf"[\[({{ ]*\d+(?:{_SEPARATOR}\d+)*[\])}} .]*")
_KINDS = {"action", "au", "aus", "unit", "units", "label", "labels", "attribute", "attributes"}
_BESIDE_NONE = _KINDS | {
    "there", "are", "is", "was", "were", "of", "them", "these", "those", "the", "above", "listed", "options", "any",
    "present", "active", "visible", "detected", "seen", "shown", "in", "this", "image", "face", "picture", "here",
}  # fmt: skip
_NONE_WHOLE = {"无", "無", "没有", "沒有", "都没有"}


def parse_labels(text: str, labels: Mapping[str, Sequence[str]]) -> Parsed:
    """The labels named, as a sorted tuple of keys of ``labels`` (key -> synonyms; a key names itself), () for "none",
    or unparsed. Rules, in order:

    1. The text is cleaned, and its explicit final answers are found (``reading``). If these name labels or say "none",
       they decide alone, and must agree. Each, or else the whole text, is read by rules 2 to 6.
    2. If all keys end in different numbers ("AU1", "AU12") and the text is numbers only ("1, 12", "1 and 12"), these
       are the keys.
    3. After "AU", "AUs" or "action unit(s)" a list of numbers is a list of units: "AUs 1, 4 and 12", "AU1+4+12".
    4. Names count as whole words in any case, the longest first; spaces, hyphens, underscores and leading zeros aside
       ("AU 1", "AU01", "au_1"). Ranges ("AU1-4", "AU1 to AU4") leave the text unparsed.
    5. Denied names ("no AU4", "without AU4", "AU4: no", "AU4: 0", "AU4 is absent", "AU4 and AU6 are not visible", "AU4
       does not appear"; all rules: ``names.find_names``) are not counted. A text is unparsed
       if it gives and denies one name, denies all that it names, goes on after a denied name ("no AU4, AU6": is AU6
       there?), or holds a cross mark. Unknown names are ignored, and so are intensities other than 0 ("AU4: 0.1").
    6. Without any known name: () for "none", "nothing", "no action units" and the like as the whole text, an empty JSON
       list, 无, 没有. Anything else is unparsed, a bare "no" included.

    Raises ``FaceDataError`` if ``labels`` is empty or one name stands for two labels, ``TypeError`` if ``text`` is not
    a string. Source: our default.
    """
    owners = _owners(labels)
    ends = [(re.search(r"(\d+)$", key), key) for key in labels]
    numbers = {int(end.group()): key for end, key in ends if end}
    if len(numbers) < len(labels):
        numbers = {}
    return parse(text, lambda piece: _judge(piece, owners, numbers))


def _owners(labels: Mapping[str, Sequence[str]]) -> dict[str, str]:
    if not labels:
        raise FaceDataError("no labels to look for")
    owners: dict[str, str] = {}
    for key, synonyms in labels.items():
        for name in (key, *synonyms):
            form = written(name)
            if not form:
                raise FaceDataError(f"label {key!r}: the name {name!r} has no letter or digit")
            if owners.setdefault(form, key) != key:
                raise FaceDataError(f"{name!r} names two labels: {owners[form]!r} and {key!r}")
    return owners


def _judge(text: str, owners: Mapping[str, str], numbers: Mapping[int, str]) -> set[Value]:
    if numbers and _NUMBERS.fullmatch(text):
        known = {numbers[n] for n in map(_integer, re.findall(r"\d+", text)) if n in numbers}
        return {tuple(sorted(known)) or None}
    text = _UNIT.sub("AU ", text)
    if _UNIT_RANGE.search(text):
        return {None}
    text = _UNIT_LIST.sub(lambda m: re.sub(r"(?<!AU )\b(?=\d)", "AU ", m.group()), text)
    found = find_names(text, owners)
    given, denied = {str(owner) for owner in found.given}, found.denied
    if given or denied:
        return {tuple(sorted(given)) if given and not found.unclear and not given & denied else None}
    return {()} if _says_none(text) else set()


def _integer(digits: str) -> int:
    return int(digits[:9])  # no label has ten digits, and Python refuses to read thousands of them


def _says_none(text: str) -> bool:
    words = re.findall(r"\w+", text.lower())
    if words and words[0] in ("there",):
        words = words[2:]
    if " ".join(words) in _NONE_WHOLE:
        return True
    if not words or set(words[1:]) - _BESIDE_NONE:
        return False
    return words[0] in ("none", "nothing") or (words[0] == "no" and bool(set(words[1:]) & _KINDS))
