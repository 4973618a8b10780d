"""Class metrics: by hand, against scikit-learn, and where there is little or nothing to score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation import metrics
from llava_face_plugin.evaluation.closed import Answer, score

GOLD = ["happy", "happy", "happy", "happy", "sad", "sad", "fear", "fear"]
PRED = ["happy", "happy", "sad", None, "sad", "fear", "angry", None]
# recalls: happy 2/4, sad 1/2, fear 0/2; "angry" is no gold class


def draw(seed: int, number: int = 400, unparsed: float = 0.1) -> tuple[list[str], list[str | None]]:
    """Random gold and answers over five classes of unequal size, one answer more often right than not."""
    random = np.random.default_rng(seed)
    names = np.array(["anger", "fear", "joy", "neutral", "surprise"])
    gold = names[random.choice(5, size=number, p=[0.5, 0.25, 0.15, 0.06, 0.04])]
    pred = np.where(random.random(number) < 0.6, gold, names[random.integers(0, 5, number)])
    gone = random.random(number) < unparsed
    return gold.tolist(), [None if lost else str(name) for name, lost in zip(pred, gone, strict=True)]


def spelled(pred: Sequence[str | None]) -> list[str]:
    """For scikit-learn: an unparsed answer as a class that gold does not have."""
    return ["\0unparsed" if name is None else name for name in pred]


def test_by_hand() -> None:
    assert metrics.accuracy(GOLD, PRED) == metrics.war(GOLD, PRED) == 3 / 8
    assert metrics.uar(GOLD, PRED) == metrics.balanced_accuracy(GOLD, PRED) == pytest.approx(1 / 3)
    # happy: 2*2 / (4 gold + 2 answered); sad: 2*1 / (2 + 2); fear: 0; angry: never gold, once answered: 0
    labels = ["angry", "fear", "happy", "sad"]
    assert metrics.macro_f1(GOLD, PRED, labels) == pytest.approx((4 / 6 + 1 / 2) / 4)
    assert metrics.macro_f1(GOLD, PRED, labels[1:]) == pytest.approx((4 / 6 + 1 / 2) / 3)
    assert metrics.hits(GOLD, PRED).tolist() == [True, True, False, False, True, False, False, False]


def test_unparsed_and_foreign_answers_have_the_last_column() -> None:
    assert metrics.confusion(GOLD, PRED).tolist() == [[0, 0, 0, 2], [0, 2, 1, 1], [1, 0, 1, 0]]  # fear, happy, sad
    assert metrics.confusion(GOLD, PRED, ["happy", "sad", "fear", "angry"])[2].tolist() == [0, 0, 0, 1, 1]


def test_an_unparsed_answer_is_a_false_negative_and_never_a_false_positive() -> None:
    gold = ["yes", "yes", "no", "no"]
    assert metrics.binary_f1(gold, ["yes", None, "no", "no"], "yes") == pytest.approx(2 / 3)  # TP 1, FN 1
    assert metrics.binary_f1(gold, ["yes", None, None, None], "yes") == pytest.approx(2 / 3)  # no FP
    assert metrics.binary_f1(gold, ["yes", "yes", None, "yes"], "yes") == pytest.approx(4 / 5)  # TP 2, FP 1
    # but it costs accuracy and recall on both sides
    assert metrics.accuracy(gold, ["yes", "yes", None, None]) == 0.5
    assert metrics.balanced_accuracy(gold, ["yes", "yes", None, "no"]) == 0.75


def test_f1_of_yes_over_topics_by_hand() -> None:
    topics = ["hat"] * 4 + ["bald"] * 2 + ["beard"] * 2
    gold = ["yes", "yes", "no", "no", "yes", "no", "no", "no"]
    pred = ["yes", None, "yes", "no", "no", None, "yes", "no"]
    found = metrics.confusion(gold, pred, ("no", "yes"), topics)
    # hat: 2*1 / (2 gold + 2 answered); bald: 0; beard: no gold yes, left out
    assert metrics.topic_f1(found) == pytest.approx((1 / 2 + 0) / 2)
    assert np.isnan(metrics.topic_f1(metrics.confusion(["no"], ["yes"], ("no", "yes"), ["hat"])))
    doubled = metrics.topic_f1(np.stack([found, 2 * found]))
    assert doubled.tolist() == pytest.approx([1 / 4, 1 / 4])


def test_refusing_never_helps() -> None:
    gold, pred = draw(3, unparsed=0)
    labels = sorted(set(gold))
    right = metrics.hits(gold, pred)
    some_right = [None if hit and at % 2 else name for at, (hit, name) in enumerate(zip(right, pred, strict=True))]
    for metric in (metrics.accuracy, metrics.uar, lambda g, p: metrics.macro_f1(g, p, labels)):
        assert metric(gold, some_right) < metric(gold, pred)
    some_wrong = [name if hit else None for hit, name in zip(right, pred, strict=True)]
    assert metrics.accuracy(gold, some_wrong) == metrics.accuracy(gold, pred)
    assert metrics.uar(gold, some_wrong) == metrics.uar(gold, pred)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("number", [12, 400])
def test_as_scikit_learn(seed: int, number: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed: nothing to compare with")
    gold, pred = draw(seed, number)
    theirs = spelled(pred)
    labels = sorted(set(gold))
    assert metrics.accuracy(gold, pred) == pytest.approx(sklearn.accuracy_score(gold, theirs))
    assert metrics.uar(gold, pred) == pytest.approx(
        sklearn.recall_score(gold, theirs, labels=labels, average="macro", zero_division=0)
    )
    for names in (labels, [*labels, "contempt"]):
        f1 = sklearn.f1_score(gold, theirs, labels=names, average="macro", zero_division=0)
        assert metrics.macro_f1(gold, pred, names) == pytest.approx(f1)
    for positive in [*labels, "contempt"]:
        sides = [[name == positive for name in column] for column in (gold, theirs)]
        assert metrics.binary_f1(gold, pred, positive) == pytest.approx(sklearn.f1_score(*sides, zero_division=0))
    ours = metrics.confusion(gold, pred)
    known = [name if name in labels else "\0unparsed" for name in theirs]
    matrix = sklearn.confusion_matrix(gold, known, labels=[*labels, "\0unparsed"])
    assert (ours == matrix[:-1]).all()


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_balanced_accuracy_leaves_out_classes_without_gold_as_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed: nothing to compare with")
    gold, pred = ["a", "a", "b"], ["a", "c", "b"]
    assert metrics.balanced_accuracy(gold, pred) == pytest.approx(sklearn.balanced_accuracy_score(gold, pred)) == 0.75


def test_one_gold_class() -> None:
    gold = ["no"] * 4
    assert metrics.balanced_accuracy(gold, ["no", "yes", "no", None]) == 0.5  # the recall of that class
    assert metrics.binary_f1(gold, gold, "yes") == 0.0  # neither gold nor answered
    assert metrics.macro_f1(gold, gold, ["no", "yes"]) == 0.5
    assert metrics.topic_balanced_accuracy(["Bald"] * 4, gold, gold) is None


def test_topics_are_one_vote_each_and_need_two_classes() -> None:
    topics = ["Bald"] * 5 + ["Young"] * 2 + ["Hat"] * 3
    gold = ["yes", "no", "no", "no", "no", "yes", "no", "no", "no", "no"]
    pred = ["no", "no", "no", "no", "no", "yes", None, "no", "no", "yes"]
    # Bald (0 + 1) / 2, Young (1 + 0) / 2; Hat is always no
    assert metrics.topic_balanced_accuracy(topics, gold, pred) == 0.5
    answers = [
        Answer(str(at), topic, right == "yes", None if given is None else given == "yes")
        for at, (topic, right, given) in enumerate(zip(topics, gold, pred, strict=True))
    ]
    assert score(answers)["balanced_accuracy"] == 0.5


def test_topics_as_closed_score_on_random_answers() -> None:
    random = np.random.default_rng(0)
    topics = random.choice(["Bald", "Hat", "Young", "Male"], 300).tolist()
    gold = random.choice(["yes", "no"], 300, p=[0.2, 0.8]).tolist()
    pred = [(None, "yes", "no")[k] for k in random.integers(0, 3, 300)]
    answers = [
        Answer(str(at), topic, right == "yes", None if given is None else given == "yes")
        for at, (topic, right, given) in enumerate(zip(topics, gold, pred, strict=True))
    ]
    expected = score(answers)["balanced_accuracy"]
    assert metrics.topic_balanced_accuracy(topics, gold, pred) == pytest.approx(expected)


def test_the_order_of_questions_does_not_matter() -> None:
    gold, pred = draw(1)
    order = np.random.default_rng(0).permutation(len(gold))
    mixed = [gold[i] for i in order], [pred[i] for i in order]
    labels = sorted(set(gold))
    assert metrics.accuracy(*mixed) == metrics.accuracy(gold, pred)
    assert metrics.uar(*mixed) == metrics.uar(gold, pred)
    assert metrics.macro_f1(*mixed, labels) == metrics.macro_f1(gold, pred, labels)
    assert metrics.binary_f1(*mixed, "joy") == metrics.binary_f1(gold, pred, "joy")


@pytest.mark.parametrize(
    "metric",
    [
        metrics.accuracy,
        metrics.balanced_accuracy,
        metrics.uar,
        metrics.war,
        lambda gold, pred: metrics.macro_f1(gold, pred, ["a"]),
        lambda gold, pred: metrics.binary_f1(gold, pred, "a"),
        lambda gold, pred: metrics.topic_balanced_accuracy(["t"] * len(gold), gold, pred),
    ],
)
def test_bad_input(metric) -> None:
    with pytest.raises(FaceDataError, match="nothing to score"):
        metric([], [])
    with pytest.raises(FaceDataError, match=r"'gold': 1, 'pred': 2"):
        metric(["a"], ["a", "b"])
    with pytest.raises(FaceDataError, match="question 1 has the gold class None"):
        metric(["a", None], ["a", "a"])


def test_bad_labels() -> None:
    with pytest.raises(FaceDataError, match=r"\['b'\] are not among the labels"):
        metrics.macro_f1(["a", "b"], ["a", "a"], ["a"])
    with pytest.raises(FaceDataError, match="occurs twice"):
        metrics.macro_f1(["a"], ["a"], ["a", "a"])
