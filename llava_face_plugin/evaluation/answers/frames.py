"""Where an option's text counts as the answer: as a clause of its own but for plain words that say so.

"The person looks happy" names "happy"; "the person has black hair" and "an American Indian" name neither "Black" nor
"Indian", since "hair" and "American" are not plain words. The lists are our default.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .reading import CJK

_BOTH = {
    "a", "the", "and", "or", "either", "both", "/", "(", "here", "s", "is", "very", "quite", "really", "clearly",
    "definitely", "certainly", "obviously", "probably", "likely", "most", "mostly", "perhaps", "maybe", "possibly",
    "apparently", "slightly", "about", "around", "approximately", "also", "just", "indeed", "person", "people",
    "man", "woman", "boy", "girl", "lady", "guy", "men", "women", "individual", "subject", "face", "faces", "child",
    "baby", "adult", "facial", "expression", "emotion", "mood", "feeling", "gender", "sex", "race", "ethnicity",
    "age", "group", "range", "category", "class", "year", "years", "answer",
}  # fmt: skip
_BEFORE = _BOTH | {
    "i", "think", "believe", "guess", "see", "count", "would", "say", "so", "thus", "therefore", "hence", "it",
    "he", "she", "they", "this", "that", "these", "an", "his", "her", "their", "there", "two", "first", "second",
    "of", "as", "to", "like", "with", "one", ":", "=", "are", "was", "were", "be", "being", "look", "looks",
    "looking", "appear", "appears", "appearing", "seem", "seems", "show", "shows", "showing", "shown", "pictured",
    "depicted", "display", "displays", "displaying", "express", "expresses", "expressing", "convey", "conveys",
    "feel", "feels", "suggest", "suggests", "indicate", "indicates", "belong", "belongs", "describe", "described",
    "classify", "classified", "has", "have", "having", "can", "could", "may", "might", "must", "label", "option",
    "choice", "aged", "young", "younger", "old", "older", "elderly", "middle", "smiling",
}  # fmt: skip
_AFTER = _BOTH | {
    "overall", "correct", "more", "old", "olds", "features", "descent", "origin", "heritage", "look", "looking",
    "cover", "covers", "area", "larger", "largest",
}  # fmt: skip
_PICTURE = r"(?:image|picture|photo|photograph|frame|video|clip)s?"
# "In black" is clothing, "in the picture" is not; and a white photo is not a white person.
_PLACE = re.compile(
    rf"\b(?:(?:in|of|on) (?:the |this |these |both )*(?:(?:two|first|second) )?{_PICTURE}|{_PICTURE} (?:shows?|of)"
    r"|(?:in|of|on) (?:the|this|his|her) (?:face|person|man|woman|individual|subject)|in total|of age|in the)(?= |$)"
)
# What follows is not about the option: "hair rather than skin", "a happy man with a hat", "happy and not sad".
_ASIDE = re.compile(
    r"(?:^| )(?:(?:rather )?than(?: the| an?)?$|instead of$|(?:with|who|wearing) .*)"
    r"|^(?:and )?(?:not|nor)(?: an?| the)?$"
)
_CHINESE = set(
    "他她它这這那此图圖片照中里的人物是为為看起来來上去似乎显顯得很非常应應该該"
    "表情性别別种種族年龄齡一位名个個答案选選项項女男"
)
_RANGE = re.compile(r"\d-\d|\dpercent|than\d")


def stands_free(name: str, before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether an option (``names.written`` form) counts, by the words of its clause before and after it. A range or a
    share ("20-29", "less than 15 percent") counts among any words."""
    if _RANGE.search(name):
        return True
    if before and all(re.match(f"[{CJK}]", word) for word in before):
        return set(before) <= _CHINESE and not after
    led, followed = (_PLACE.sub("", part) for part in (" ".join(before), _ASIDE.sub("", " ".join(after))))
    return set(led.split()) <= _BEFORE and set(followed.split()) <= _AFTER
