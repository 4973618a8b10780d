"""Does an answer decline the question? Counted apart from answers that are merely unclear."""

from __future__ import annotations

import re

# The list is our default. "Not sure" and "I don't know" are not refusals: they are unparsed and no more.
_REFUSAL = re.compile(
    r"\bi (?:can ?not|can't|could not|couldn't|won't|will not|must decline|decline)\b"
    r"|\bi(?:'m| am) (?:sorry|afraid|unable|not able|not allowed|not comfortable|not in a position)\b"
    r"|^sorry\b|\bi apologi[sz]e\b|\bmy apologies\b"
    r"|\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|\b(?:can ?not|can't|unable to|not able to|(?:not possible|impossible|inappropriate|not appropriate) to)"
    r" (?:be )?(?:accurately |reliably )?(?:determine|identif|tell|infer|judge|answer|assist|help|recogni[sz]e|say|see)"
    r"|抱歉|对不起|無法|无法|不能(?:确定|识别|判断|回答|提供)|作为(?:一个|一名)?(?:ai|人工智能|语言模型)"
)


def is_refusal(text: str) -> bool:
    """Whether cleaned text (``reading.Reading.text``) holds a refusal's phrase, English or Chinese."""
    return _REFUSAL.search(text.lower()) is not None
