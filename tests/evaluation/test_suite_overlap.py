"""ROUGE-L and BLEU by hand; against nltk, rouge and rouge-score where these are installed."""

from __future__ import annotations

import random
from itertools import combinations
from math import exp

import pytest

from llava_face_plugin.evaluation.suites.rouge import bleu, common_subsequence, rouge_l, rouge_l_union

WORDS = ["the", "man", "Has", "black", "hair", "two", "beard.", "brown-eyes", "short,", "it's", "."]


def pairs(number: int) -> list[tuple[str, str]]:
    draw = random.Random(5)
    return [
        (" ".join(draw.choices(WORDS, k=draw.randint(1, 12))), " ".join(draw.choices(WORDS, k=draw.randint(1, 12))))
        for _ in range(number)
    ]


def test_the_longest_common_subsequence_is_longest() -> None:
    draw = random.Random(2)
    for _ in range(60):
        first, second = draw.choices("abc", k=7), draw.choices("abc", k=6)
        found = common_subsequence(first, second)
        everything = [{c for n in range(8) for c in combinations(text, n)} for text in (first, second)]
        assert tuple(found) in everything[0] & everything[1]
        assert len(found) == max(len(c) for c in everything[0] & everything[1])


def test_rouge_l_by_hand() -> None:
    # "the man has hair" in "The man has black hair": 4 of 4 and of 5
    assert rouge_l("the man has hair", "The man has black hair.") == pytest.approx(2 * 4 / 9)
    assert rouge_l("black", "Black!") == 1.0
    assert rouge_l("", "black") == rouge_l("?", "black") == rouge_l("黑", "black") == 0.0


def test_the_union_counts_different_words_of_all_sentences() -> None:
    # Words of the answer a b c d, of the reference a c b e; sentence by sentence: "a b" with "a c" gives a, with
    # "b e" b; "c d" gives c with the first. Union a b c: 3/4 and 3/4.
    assert rouge_l_union("a b. c d", "a c. b e") == pytest.approx(0.75, abs=1e-8)
    assert rouge_l_union("a a a", "a") == pytest.approx(1.0, abs=1e-8)
    assert rouge_l_union("", "a") == rouge_l_union("...", "a") == 0.0


def test_bleu_by_hand() -> None:
    # One word, right: precisions 1, 0.1, 0.1, 0.1
    assert bleu(["black"], ["black"]) == pytest.approx(0.1**0.75)
    assert bleu(["black"], ["black", "hair"], 1) == pytest.approx(exp(1 - 2))
    assert bleu(["the", "man", "has", "black", "hair"], ["the", "man", "has", "black", "hair"]) == pytest.approx(1.0)
    assert bleu([], ["black"]) == bleu(["brown"], ["black"]) == 0.0


def test_long_answers_cost_little() -> None:
    assert 0 <= rouge_l("a b " * 200_000, "a c") <= 1
    assert 0 <= rouge_l_union("a. b " * 200_000, "a. c") <= 1
    assert 0 <= rouge_l_union("." * 500_000, "a") <= 1


def test_equal_to_nltk() -> None:
    translate = pytest.importorskip("nltk.translate.bleu_score", reason="compared with nltk where it is installed")
    smooth = translate.SmoothingFunction().method1
    for answer, reference in pairs(200):
        said, wanted = answer.split(), reference.split()
        theirs = translate.sentence_bleu([wanted], said, smoothing_function=smooth)
        assert bleu(said, wanted) == pytest.approx(theirs)


def test_equal_to_the_package_rouge() -> None:
    package = pytest.importorskip("rouge", reason="compared with rouge where it is installed").Rouge()
    for answer, reference in pairs(200):
        if answer.strip(". ") and reference.strip(". "):
            theirs = package.get_scores(answer, reference, avg=True)["rouge-l"]["f"]
            assert rouge_l_union(answer, reference) == pytest.approx(theirs)


def test_equal_to_rouge_score() -> None:
    package = pytest.importorskip("rouge_score.rouge_scorer", reason="compared with rouge-score where it is installed")
    scorer = package.RougeScorer(["rougeL"])
    for answer, reference in pairs(200):
        assert rouge_l(answer, reference) == pytest.approx(scorer.score(reference, answer)["rougeL"].fmeasure)
