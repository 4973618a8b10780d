"""FaceXBench (Narayan et al., arXiv 2501.10360): four options with letters, accuracy.

Source of the paper's rule: Kartik-3004/facexbench, ``aggregate_results.py`` (commit 07b44451), read, not copied.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..questions import LETTERS
from ..scoring import Record
from .shared import INTERVAL, READ, Item, field, letter_record, whole

_LONE_LETTER = re.compile(r"\b[A-Za-z]\b")


def original_letter(text: str, options: Sequence[str]) -> str | None:
    """The letter that the paper's parser reads, or None.

    The first of the letters standing alone that is one of the options' letters, a capital ("I think B" is B: the "I" is
    passed over); else the first option whose text is anywhere in the answer. The paper has six patterns, first for the
    start and then for the whole text; each finds lone letters only, so together they come to this (compared with their
    function: see the task's README).

    Known defects, kept: the article "A" is option A ("A man with glasses"); a denied or supposed letter counts; of
    several letters the first wins; option texts are found inside words ("male" in "female").
    """
    text = text.strip()
    labels = LETTERS[: len(options)]
    for letter in _LONE_LETTER.findall(text):
        if letter in labels:
            return str(letter)
    return next((label for label, option in zip(labels, options, strict=False) if option.strip() in text), None)


def record(doc: Mapping[str, Any], text: str) -> Record:
    """The record of a question; see ``letter_record``."""
    return letter_record(doc, text, original_letter)


METRICS: dict[str, Item] = {
    "face_acc_score": whole,
    **INTERVAL,
    "face_acc_original": field("original"),
    **READ,
    "face_unparsed_original": lambda r: float(r["pred_original"] is None),
}
"""Metric -> its item. Accuracies by the strict parser and by the paper's; shares that each could not read."""
