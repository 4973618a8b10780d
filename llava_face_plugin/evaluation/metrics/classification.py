"""Scores of answers that name a class. All are in 0..1.

``gold`` has one class (str) a question; ``pred`` the class answered, or None for an answer that could not be parsed.
An unparsed answer is wrong everywhere: a class of its own that is never among the labels. It lowers the recall of the
question's gold class and the precision of none: for the binary F1 it is a false negative where the gold is positive,
and where the gold is negative it is neither a false positive nor a true negative. A class that is answered but is not
among the labels is treated alike.

Every score but the accuracy and the binary F1 is a function of a confusion matrix, (..., L, L + 1) with L labels: rows
are gold, the last column holds all answers that are no label. Those functions take leading axes, so that
``intervals.confusion_bootstrap`` scores all resamples at once.

All raise ``FaceDataError`` for no questions, for lengths that differ and for a question without gold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import FaceDataError
from .inputs import checked_length


def accuracy(gold: Sequence[str], pred: Sequence[str | None]) -> float:
    """Share of questions answered with the gold class."""
    return float(np.mean(hits(gold, pred)))


def balanced_accuracy(gold: Sequence[str], pred: Sequence[str | None]) -> float:
    """Mean recall over the classes that occur in ``gold``; others have no recall and are left out.

    As ``sklearn.metrics.balanced_accuracy_score``. With one gold class it is the recall of that class.
    """
    return float(mean_recall(confusion(gold, pred)))


# The names of the two in the papers on expressions: unweighted and weighted average recall (DFEW: Jiang et al., ACM MM
# 2020; MAFW: Liu et al., ACM MM 2022). Recalls weighted by the size of their class add up to the accuracy.
uar = balanced_accuracy
war = accuracy


def macro_f1(gold: Sequence[str], pred: Sequence[str | None], labels: Sequence[str]) -> float:
    """Mean F1 over ``labels``, which must hold every gold class.

    A label that is neither gold nor answered has F1 0, as in ``sklearn.metrics.f1_score(labels=..., average="macro",
    zero_division=0)``: leave it out of ``labels`` if the benchmark does not have it.
    """
    return float(mean_f1(confusion(gold, pred, labels)))


def binary_f1(gold: Sequence[str], pred: Sequence[str | None], positive: str) -> float:
    """F1 of the class ``positive``: 2 TP / (2 TP + FP + FN); 0 where it is neither gold nor answered (as sklearn)."""
    true = hits(gold, pred)
    is_gold, is_pred = (np.array([name == positive for name in column]) for column in (gold, pred))
    either = int(is_gold.sum() + is_pred.sum())
    return 2 * int((is_gold & true).sum()) / either if either else 0.0


def topic_balanced_accuracy(topics: Sequence[str], gold: Sequence[str], pred: Sequence[str | None]) -> float | None:
    """Mean over topics (attributes) of the balanced accuracy of their questions: one attribute, one vote.

    A topic with one gold class only is left out: a constant answer would score 1 there, not 1/2. None if no topic has
    two. (As ``closed.score``.)
    """
    value = topic_mean(confusion(gold, pred, topics=topics))
    return None if np.isnan(value) else float(value)


def hits(gold: Sequence[str], pred: Sequence[str | None]) -> np.ndarray:
    """(N,) bool: which questions are answered with the gold class."""
    checked_length(gold=gold, pred=pred)
    _check_gold(gold)
    return np.array([a == b for a, b in zip(gold, pred, strict=True)], dtype=bool)


def confusion(
    gold: Sequence[str],
    pred: Sequence[str | None],
    labels: Sequence[str] | None = None,
    topics: Sequence[str] | None = None,
) -> np.ndarray:
    """(L, L + 1) int64 counts, or (T, L, L + 1) for the T sorted topics. Labels: those of ``cells``."""
    cell, shape = cells(gold, pred, labels, topics)
    return np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape)


def cells(
    gold: Sequence[str],
    pred: Sequence[str | None],
    labels: Sequence[str] | None = None,
    topics: Sequence[str] | None = None,
) -> tuple[np.ndarray, tuple[int, ...]]:
    """(N,) int64: each question's place in the flattened ``confusion``, and the shape of that.

    ``labels`` are the gold classes, sorted, if not given. Raises ``FaceDataError`` for labels that occur twice or lack
    a gold class.
    """
    length = checked_length(gold=gold, pred=pred, **({} if topics is None else {"topics": topics}))
    _check_gold(gold)
    names = sorted(set(gold)) if labels is None else list(labels)
    index = {name: at for at, name in enumerate(names)}
    if len(index) < len(names):
        raise FaceDataError(f"a label occurs twice in {names}")
    unknown = sorted(set(gold) - set(index))
    if unknown:
        raise FaceDataError(f"gold classes {unknown} are not among the labels {names}")
    size = len(names)
    row = np.fromiter((index[name] for name in gold), dtype=np.int64, count=length)
    column = np.fromiter((size if name is None else index.get(name, size) for name in pred), np.int64, count=length)
    cell = row * (size + 1) + column
    if topics is None:
        return cell, (size, size + 1)
    number = {name: at for at, name in enumerate(sorted(set(topics)))}
    topic = np.fromiter((number[name] for name in topics), dtype=np.int64, count=length)
    return topic * (size * (size + 1)) + cell, (len(number), size, size + 1)


def mean_recall(confusions: np.ndarray) -> np.ndarray:
    """(..., L, L + 1) -> (...): mean recall over classes with gold; NaN where nothing was counted."""
    return _mean(_recall(confusions))


def mean_f1(confusions: np.ndarray) -> np.ndarray:
    """(..., L, L + 1) -> (...): mean F1 over all L labels, 0 for one that is neither gold nor answered.

    NaN where nothing was counted.
    """
    true = _diagonal(confusions)
    either = confusions.sum(axis=-1) + confusions[..., :-1].sum(axis=-2)  # 2 TP + FN + FP
    f1 = np.where(either > 0, 2 * true / np.maximum(either, 1), 0.0).mean(axis=-1)
    return np.where(confusions.sum(axis=(-2, -1)) > 0, f1, np.nan)


def topic_mean(confusions: np.ndarray) -> np.ndarray:
    """(..., T, L, L + 1) -> (...): mean over topics with two or more gold classes of their mean recall, else NaN."""
    several = (confusions.sum(axis=-1) > 0).sum(axis=-1) > 1
    return _mean(np.where(several, mean_recall(confusions), np.nan))


def topic_f1(confusions: np.ndarray) -> np.ndarray:
    """(..., T, L, L + 1) -> (...): mean over topics of the F1 of the last label, as ``binary_f1``.

    Topics without gold of that label are left out; NaN if there is no other.
    """
    is_gold = confusions[..., -1, :].sum(axis=-1)
    either = is_gold + confusions[..., -2].sum(axis=-1)  # 2 TP + FN + FP
    return _mean(np.where(is_gold > 0, 2 * confusions[..., -1, -2] / np.maximum(either, 1), np.nan))


def _recall(confusions: np.ndarray) -> np.ndarray:
    number = confusions.sum(axis=-1)
    return np.where(number > 0, _diagonal(confusions) / np.maximum(number, 1), np.nan)


def _diagonal(confusions: np.ndarray) -> np.ndarray:
    return np.diagonal(confusions, axis1=-2, axis2=-1)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN. (``np.nanmean`` warns where all is.)"""
    number = (~np.isnan(values)).sum(axis=-1)
    return np.where(number > 0, np.nansum(values, axis=-1) / np.maximum(number, 1), np.nan)


def _check_gold(gold: Sequence[str]) -> None:
    wrong = next((at for at, name in enumerate(gold) if not isinstance(name, str)), None)
    if wrong is not None:
        raise FaceDataError(f"question {wrong} has the gold class {gold[wrong]!r}; expected text")
