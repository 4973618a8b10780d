"""Answers to multiple-choice questions: a letter, the option's text, or both."""

from __future__ import annotations

import re
from collections.abc import Container, Hashable, Iterable, Mapping, Sequence

from ...errors import FaceDataError
from .frames import stands_free
from .names import MARKS, Mention, compact, find_names, tokenize, written
from .parsed import Parsed, Value, parse
from .reading import CJK
from .synonyms import synonyms
from .yes_no import WHOLE, judge

MAX_OPTIONS = 26
Owner = tuple[str, int, bool]
"""What a piece of text is: "named" or "weak" (rule 5), the option's index (-1: two options'), whether a letter."""
_STRONG, _WEAK = 0xE000, 0xE080
_UNMARKED = {mark + i: chr(ord("a") + i) for mark in (_STRONG, _WEAK) for i in range(MAX_OPTIONS)}
# A letter on its own, with the brackets and quotes around it; not in a word, an initialism or "T-shirt".
_LETTER = re.compile(
    rf"(?<![^\W{CJK}])(?<!['.-])(?<!\w[(\[])[(\[\"']{{0,3}}([A-Za-z])([)\]\"']{{0,3}})(?!(?![{CJK}])\w)(?!')(?!-\w)"
)
_ENDS = re.compile(rf"\s?(?:[.,;:!/&|。、]|-\s|\n|$|[{CJK}])")
_LISTED = re.compile(r"\s(?:and|or|nor|but)\b")
_REASON = re.compile(r"\s(?:because|since|based|due|is (?:the )?(?:correct|right|best|answer))\b")
_LABEL_BEFORE = re.compile(r"(?:\b(?:options?|choices?|letter|answer)\s|选项\s?|选\s?)$", re.IGNORECASE)
_VERB_BEFORE = re.compile(r"(?:\b(?:is|be|it's|so|thus|hence|therefore),?\s|是\s?|为\s?)$", re.IGNORECASE)


def parse_choice(text: str, options: Sequence[str]) -> Parsed:
    """The index (from 0) of the option chosen, ``options`` being in the order shown, or unparsed. Rules, in order:

    1. The text is cleaned, and its explicit final answers are found (``reading``). If these name anything, they decide
       alone, and must agree. Each, or else the whole text, is read by rules 2 to 5.
    2. An option's exact text, after its letter or without one; case, spaces, underscores and punctuation aside,
       "20 to 29" and "20–29" being "20-29". A letter that is not that option's leaves the text unparsed.
    3. Letters that count anywhere: "(B)", "B)", "[b]", "option B", "choice B", "answer B"; "is B", "so B" before a
       stop or the end. At the start also "B", "B.", "B:", "B,", "B happy", "B because"; in lower case "b", "b.", "b:".
       Never the article or pronoun: "A man", "I think", "I, too".
    4. Option texts as whole words, the longest first: "male" is not in "female", nor "Asian" (if "Southeast Asian" is
       an option) in "South-East Asian". They count where they are the clause but for plain words (``frames``): "The
       person looks happy", "A happy man"; elsewhere ("black hair", "American Indian", "in black") they can only
       contradict. A range or a share ("20-29", "less than 15 percent") counts among any words. Denied ones ("not sad",
       "rather than sad", "less happy", "far from sad", "whether he is sad"; ``names``) do not count, nor does one of a
       single letter or Chinese character in longer text. A few words stand for an option (``synonyms``): "happiness"
       for "happy", "woman" for "female" beside "male", "Latino" for "Latino Hispanic"; "%" is "percent".
       Options that are a yes and a no are named by the rules of ``parse_yes_no`` instead.
    5. All letters and options named must be one and the same, else unparsed: "A or B", "B. sad" where B is happy.
       Any other capital of an option that stands alone, as in "B, vitamin C", contradicts too. A letter beyond the
       options, or an option denied ("The answer is not A"), is unparsed.

    A hedge before the answer ("I'm not sure, but sad") does not void it.

    Stricter than lmms-eval's ``mcq_extract.extract_mcq_answer`` (0.7.3). That takes a letter out of a word where it
    finds no other ("Dark" gives D, "ANGRY" G) and the article for A ("A man"), one of several letters ("A or B" gives
    A, "(A) or (B)" B), a denied one ("not A" gives A), and does not look at option texts, so that "A. sad" is A even
    where A is happy. It also reads no lower case letter, which we do.

    Raises ``FaceDataError`` for no option or more than 26, ``TypeError`` if ``text`` is not a string. Source: our
    default.
    """
    if not 1 <= len(options) <= MAX_OPTIONS:
        raise FaceDataError(f"a choice question has 1 to {MAX_OPTIONS} options, not {len(options)}")
    names = [written(str(option)) for option in options]
    others = synonyms(names)
    return parse(text, lambda piece: _judge(piece, names, others))


def _judge(text: str, names: Sequence[str], others: Mapping[str, int]) -> set[Value]:
    whole = compact(tokenize(text))
    exact = {i for i, name in enumerate(names) if name and name == whole}
    is_letter = len(whole) == 1 and whole.isascii() and whole.isalpha()
    if len(exact) == 1 and not is_letter:
        return set(exact)
    marked = _mark(text, len(names))
    head, *rest = [token for token in tokenize(marked) if compact([token])] or [""]
    letter = ord(head) - _STRONG if len(head) == 1 else -1
    if 0 <= letter < len(names) and (after := compact(rest).translate(_UNMARKED)) in names:
        return {letter} if names[letter] == after else {None}

    said = _said(marked, names)
    found = find_names(marked, _owners(names, others, without=WHOLE if said is not None else ()))
    given = [m for m in found.mentions if not m.denied]
    values = _indices((m.owner for m in given if _counts(m, names)), "named") | exact | (said or set())
    weak, denied = _indices(found.given, "weak") | _indices(found.given, "named"), found.denied
    if not (values or weak or denied):
        return set()
    if found.unclear or not values or values & _indices(denied, "named") or not values <= set(range(len(names))):
        return {None}
    return set(values | weak)


def _said(text: str, names: Sequence[str]) -> set[int] | None:
    """Where the options are a yes and a no: what the text says by the rules of ``parse_yes_no``, -1 if that is unclear.

    "There is no way to tell" does not name the option "No". None for other options.
    """
    index = {WHOLE[name]: i for i, name in enumerate(names) if name in WHOLE}
    if set(index) != {"yes", "no"}:
        return None
    return {index.get(str(value), -1) for value in judge(re.sub(f"[{MARKS}]", " ", text))}


def _counts(mention: Mention, names: Sequence[str]) -> bool:
    """An option's letter counts wherever it is strong, its text by ``frames``."""
    owner = mention.owner
    if not isinstance(owner, tuple):
        return False
    return bool(owner[2]) or stands_free(names[owner[1]], mention.before, mention.after)


def _owners(
    names: Sequence[str], others: Mapping[str, int], without: Container[str]
) -> dict[str, tuple[str, int, bool]]:
    """What to look for in marked text. An option's text that is there twice names no option: index -1."""
    owners: dict[str, Owner] = {name: ("named", index, False) for name, index in others.items()}
    for i, name in enumerate(names):
        if name not in without:
            owners[name] = ("named", i if names.count(name) == 1 else -1, False)
    owners |= {chr(_STRONG + i): ("named", i, True) for i in range(MAX_OPTIONS)}
    return owners | {chr(_WEAK + i): ("weak", i, True) for i in range(MAX_OPTIONS)}


def _indices(owners: Iterable[Hashable], kind: str) -> set[int]:
    return {owner[1] for owner in owners if isinstance(owner, tuple) and owner[0] == kind}


def _mark(text: str, count: int) -> str:
    """The text with its option letters replaced by private characters: strong ones name an option (rule 3), weak ones
    (a capital on its own, within the options) can only contradict (rule 5)."""
    word = re.search(r"\w", text)
    start = word.start() if word else 0

    def mark(found: re.Match[str]) -> str:
        letter, at, end = found.group(1), found.start(1), found.end()
        before, after = text[max(0, found.start() - 10) : found.start()], text[end : end + 24]
        index = ord(letter.upper()) - ord("A")
        if _is_strong(letter, found.group(2), before, after, at == start):
            return f" {chr(_STRONG + index)} "
        lone = _ENDS.match(after) or _LISTED.match(after) if letter in "AI" else letter.isupper()
        listed = letter.islower() and re.match(r"\.(?:\s|$)", after)
        return f" {chr(_WEAK + index)} " if (lone or listed) and index < count else found.group()

    return _LETTER.sub(mark, text)


def _is_strong(letter: str, closing: str, before: str, after: str, first: bool) -> bool:
    ends = _ENDS.match(after) is not None and not (letter == "I" and after.lstrip().startswith(","))
    if ")" in closing or "]" in closing:
        return True
    if _LABEL_BEFORE.search(before):
        return letter.isupper() or ends
    if first and letter.islower():
        return re.match(r"[.:]|$", after) is not None
    if first:
        return ends or letter not in "AI" or _REASON.match(after) is not None
    return letter.isupper() and ends and _VERB_BEFORE.search(before) is not None
