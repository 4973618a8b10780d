"""Overlap of an answer with a reference text: two ROUGE-L and BLEU, as the papers' libraries compute them, in 0..1.

Own implementations: the libraries (rouge, rouge-score, nltk) are not among the dependencies, sacrebleu smooths and
counts short texts in another way, and ``evaluate.load("rouge")`` needs a network. Compared with all three by hand.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from math import exp, log

MAX_WORDS = 2048
"""Words read of an answer, lest a hostile one costs minutes (our default; EmoLA generates 2,048 tokens at most)."""


def rouge_l(answer: str, reference: str) -> float:
    """ROUGE-L F1 of rouge-score (0.1.2, no stemmer): longest common subsequence of the lower-case words [a-z0-9]+.

    0 where either has no word. (FaceBench, through ``evaluate``.)
    """
    said, wanted = (re.findall(r"[a-z0-9]+", text.lower())[:MAX_WORDS] for text in (answer, reference))
    common = len(common_subsequence(wanted, said))
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def rouge_l_union(answer: str, reference: str) -> float:
    """ROUGE-L F1 of the package ``rouge`` (1.0.1, its defaults): sentences end at full stops, words at blanks.

    Counts different words: those in a longest common subsequence of any sentence of the answer with any of the
    reference. Case and punctuation matter. 0 for an empty text (there: an error, which EmoLA's code leaves out of the
    mean). (FABA-Bench.)
    """
    said, wanted = _sentences(answer), _sentences(reference)
    if not said or not wanted:
        return 0.0
    common = {word for ours in wanted for theirs in said for word in common_subsequence(ours, theirs)}
    precision = len(common) / len({word for sentence in said for word in sentence})
    recall = len(common) / len({word for sentence in wanted for word in sentence})
    return 2 * precision * recall / (precision + recall + 1e-8)


def bleu(answer: Sequence[str], reference: Sequence[str], order: int = 4) -> float:
    """BLEU of one sentence up to ``order``-grams, as nltk 3.9 ``sentence_bleu`` with smoothing method 1.

    Counts of 0 become 0.1; an answer without one word of the reference has 0, an empty one, too. Mark: an answer
    shorter than ``order`` cannot reach 1 (one right word has BLEU-4 0.18).
    """
    if not set(answer) & set(reference):
        return 0.0
    total = 0.0
    for n in range(1, order + 1):
        said, wanted = (Counter(zip(*(words[i:] for i in range(n)), strict=False)) for words in (answer, reference))
        matches = sum((said & wanted).values())
        total += log((matches or 0.1) / max(1, sum(said.values())))
    return exp(total / order + min(0.0, 1 - len(reference) / len(answer)))


def common_subsequence(first: Sequence[Hashable], second: Sequence[Hashable]) -> list[Hashable]:
    """One longest common subsequence; of several, the one that skips the end of ``second`` first (as ``rouge``)."""
    lengths = [[0] * (len(second) + 1)]
    for item in first:
        row, above = [0], lengths[-1]
        for at, other in enumerate(second):
            row.append(above[at] + 1 if item == other else max(above[at + 1], row[at]))
        lengths.append(row)
    found, i, j = [], len(first), len(second)
    while i and j:
        if first[i - 1] == second[j - 1]:
            i, j = i - 1, j - 1
            found.append(first[i])
        elif lengths[i - 1][j] > lengths[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found[::-1]


def _sentences(text: str) -> list[list[str]]:
    """Lists of words; a sentence of blanks is one empty word, as there."""
    words = 0
    out = []
    for sentence in text.split("."):
        if sentence and words < MAX_WORDS:
            out.append((sentence.split() or [""])[: MAX_WORDS - words])
            words += len(out[-1])
    return out
