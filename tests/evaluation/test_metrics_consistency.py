"""Broken rules by image: by hand, and against the counts of the knowledge room and of ``closed``."""

from __future__ import annotations

import numpy as np
import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation import metrics
from llava_face_plugin.evaluation.closed import Answer, rule_breaking_share
from llava_face_plugin.knowledge import load_rules, violations
from llava_face_plugin.rulebook import Rule

NAMES = ("Bald", "Bangs", "Goatee", "Male")
RULES = [Rule("exclusion", of=("Bald", "Bangs")), Rule("implication", ("Goatee",), ("Male",))]
ANSWERS = np.array(
    [
        [1, 1, 1, 0],  # breaks both
        [1, 0, 1, 0],  # breaks the second
        [0, 0, 0, 0],  # breaks none
        [1, 1, 1, -1],  # breaks the first; the second is not checked
        [-1, 1, -1, 0],  # nothing to check
    ],
    dtype=np.int8,
)


def test_by_hand() -> None:
    found = metrics.rule_consistency(ANSWERS, RULES, NAMES)
    assert (found.images, found.skipped) == (4, 1)
    assert found.checks_per_image == 7 / 4
    assert found.broken_per_image == 4 / 4
    assert found.broken_share == 4 / 7
    assert found.any_broken == 3 / 4
    broken, checked = metrics.rule_breaks(ANSWERS, RULES, NAMES)
    assert broken.tolist() == [[True, True], [False, True], [False, False], [True, False], [False, False]]
    assert checked.tolist() == [[True, True], [True, True], [True, True], [True, False], [False, False]]


def test_nothing_to_check() -> None:
    for answers, rules in ((ANSWERS[4:], RULES), (ANSWERS, [])):
        found = metrics.rule_consistency(answers, rules, NAMES)
        assert (found.images, found.skipped) == (0, len(answers))
        assert found.any_broken is found.broken_per_image is found.broken_share is found.checks_per_image is None


@pytest.mark.parametrize("name", ["celeba", "expressions"])
def test_as_the_knowledge_room_counts(name: str) -> None:
    rules = load_rules(name)
    vocabulary = tuple(dict.fromkeys(n for rule in rules for n in rule.attributes()))
    answers = np.random.default_rng(0).choice([-1, 0, 1], size=(400, len(vocabulary)), p=[0.1, 0.6, 0.3])
    broken, _ = metrics.rule_breaks(answers, rules, vocabulary)
    assert broken.any()
    assert broken.sum(axis=0).tolist() == [violations(rule, answers, vocabulary)[0] for rule in rules]


def test_as_closed_counts_where_all_is_answered() -> None:
    labels = np.random.default_rng(1).integers(0, 2, size=(50, len(NAMES)))
    answers = [
        Answer(str(image), name, True, bool(given))
        for image, row in enumerate(labels)
        for name, given in zip(NAMES, row, strict=True)
    ]
    found = metrics.rule_consistency(labels, RULES, NAMES)
    assert found.any_broken == pytest.approx(rule_breaking_share(answers, RULES, NAMES))
    order = np.random.default_rng(2).permutation(50)
    assert metrics.rule_consistency(labels[order], RULES, NAMES) == found


def test_bad_input() -> None:
    with pytest.raises(FaceDataError, match="nothing to score"):
        metrics.rule_consistency(ANSWERS[:0], RULES, NAMES)
    with pytest.raises(FaceDataError, match="expected -1"):
        metrics.rule_consistency(ANSWERS * 2, RULES, NAMES)
    with pytest.raises(FaceDataError, match="Hat"):
        metrics.rule_consistency(ANSWERS, [Rule("at_least_one", of=("Hat",))], NAMES)
    with pytest.raises(FaceDataError, match="expected"):
        metrics.rule_consistency(ANSWERS[:, :3], RULES, NAMES)
