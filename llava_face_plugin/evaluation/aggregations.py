"""Metrics of ``eval_tasks/``: the items of all questions of a task -> one number, by the name the YAMLs use.

All in [0, 1] but the ages, in years. Ends of intervals are of the central 95 %, by a bootstrap over clusters (person or
image); both ends of one come from the same draws, which a small cache keeps. None depends on the order of the items:
under torchrun it is another. NaN is a metric that these questions do not define (one class only, no group that is large
enough). The figures themselves are in ``metrics/``.
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from . import metrics
from .scoring import NUMBER_RANGES, Record

Labelled = Sequence[tuple[str, str, str | None]]
"""(topic, gold, pred)."""
ClusteredLabels = Sequence[tuple[str, str, str, str | None]]
"""(cluster, topic, gold, pred)."""
ClusteredPairs = Sequence[tuple[str, float, float | None]]
"""(cluster, gold, pred)."""
Ends = tuple[float, float]
YES_NO_LABELS = ("no", "yes")
_AGES = NUMBER_RANGES["age"]


def face_acc_score(items: Sequence[Record]) -> float:
    """Share of right answers; an answer that cannot be read is wrong."""
    return float(np.mean([i["score"] for i in items]))


def face_acc_low(items: Sequence[tuple[str, float]]) -> float:
    """Lower end of the interval of the mean score: of ``face_acc_score`` and its like."""
    return _mean_ends(_key(items))[0]


def face_acc_high(items: Sequence[tuple[str, float]]) -> float:
    """Upper end, likewise."""
    return _mean_ends(_key(items))[1]


# Where a question's score is an F1 or a ROUGE, it is no accuracy.
face_score_low, face_score_high = face_acc_low, face_acc_high


def face_balanced_acc(items: Labelled) -> float:
    """Mean over topics of the mean recall of their answers; topics with one gold answer only are left out."""
    return _number(metrics.topic_balanced_accuracy(*zip(*items, strict=True)))


def face_balanced_acc_low(items: ClusteredLabels) -> float:
    """Lower end of the interval of ``face_balanced_acc``."""
    return _balanced_ends(_key(items))[0]


def face_balanced_acc_high(items: ClusteredLabels) -> float:
    """Upper end, likewise."""
    return _balanced_ends(_key(items))[1]


def face_f1(items: Labelled) -> float:
    """Mean over topics (attributes, action units) of the F1 of "yes"; topics without a gold "yes" are left out."""
    topics, gold, pred = zip(*items, strict=True)
    return float(metrics.topic_f1(metrics.confusion(gold, pred, YES_NO_LABELS, topics)))


def face_f1_low(items: ClusteredLabels) -> float:
    """Lower end of the interval of ``face_f1``."""
    return _f1_ends(_key(items))[0]


def face_f1_high(items: ClusteredLabels) -> float:
    """Upper end, likewise."""
    return _f1_ends(_key(items))[1]


def face_uar(items: Labelled) -> float:
    """Unweighted average recall over the classes. (The weighted one, WAR, is ``face_acc_score``.)"""
    return metrics.uar([gold for _, gold, _ in items], [pred for _, _, pred in items])


def face_uar_low(items: ClusteredLabels) -> float:
    """Lower end of the interval of ``face_uar``."""
    return _uar_ends(_key(items))[0]


def face_uar_high(items: ClusteredLabels) -> float:
    """Upper end, likewise."""
    return _uar_ends(_key(items))[1]


def face_macro_f1(items: Labelled) -> float:
    """Mean F1 over the classes that are right somewhere."""
    gold = [right for _, right, _ in items]
    return metrics.macro_f1(gold, [pred for _, _, pred in items], sorted(set(gold)))


def face_majority(items: Labelled) -> float:
    """The accuracy of always giving a topic's commonest answer: what accuracy has to beat."""
    return sum(max(Counter(gold).values()) for gold, _ in _by_topic(items)) / len(items)


def face_worst_group(items: Sequence[tuple[dict[str, str], str, float]]) -> float:
    """The least accuracy among the groups of all columns that have 20 clusters or more."""
    worst = [metrics.worst_group(found) for found in _groups(items)]
    return min((score for _, score in filter(None, worst)), default=float("nan"))


def face_group_gap(items: Sequence[tuple[dict[str, str], str, float]]) -> float:
    """The largest difference in accuracy between two such groups of one column."""
    gaps = [metrics.group_gap(found) for found in _groups(items)]
    return max((gap for gap in gaps if gap is not None), default=float("nan"))


def face_fold_acc(items: Sequence[tuple[int, float]]) -> float:
    """Mean over folds of the accuracy."""
    return metrics.fold_accuracy(*_columns(items))[0]


def face_fold_sd(items: Sequence[tuple[int, float]]) -> float:
    """Standard deviation of the accuracy over folds."""
    return _number(metrics.fold_accuracy(*_columns(items))[1])


def face_eer(items: Sequence[Record]) -> float:
    """Equal error rate of the similarities named; one that cannot be read counts as wrong at every threshold."""
    return _number(metrics.eer([i["pred"] for i in items], [i["gold"] > 50 for i in items]))


def face_eer_low(items: ClusteredPairs) -> float:
    """Lower end of the interval of ``face_eer``."""
    return _eer_ends(_key(items))[0]


def face_eer_high(items: ClusteredPairs) -> float:
    """Upper end, likewise."""
    return _eer_ends(_key(items))[1]


def face_auc(items: Sequence[tuple[float, float | None]]) -> float:
    """Area under the ROC curve of the similarities named, likewise."""
    return _number(metrics.auc([pred for _, pred in items], [gold > 50 for gold, _ in items]))


def face_cs5_score(items: Sequence[Record]) -> float:
    """Share of ages within five years (cumulative score)."""
    return metrics.cumulative_score([i["gold"] for i in items], [i["pred"] for i in items], 5.0, *_AGES)


def face_mae(items: Sequence[tuple[float, float | None]]) -> float:
    """Mean error in years; an age that cannot be read counts with the largest possible error, lest refusing pays."""
    return metrics.mae(*_columns(items), *_AGES)


def face_mae_low(items: ClusteredPairs) -> float:
    """Lower end of the interval of ``face_mae``."""
    return _mean_ends(_errors(items))[0]


def face_mae_high(items: ClusteredPairs) -> float:
    """Upper end, likewise."""
    return _mean_ends(_errors(items))[1]


def face_mae_parsed(items: Sequence[tuple[float, float | None]]) -> float:
    """Mean error in years of the ages that could be read: read it beside ``face_unparsed``."""
    return _number(metrics.mae_parsed(*_columns(items), *_AGES)[0])


def face_worst_group_mae(items: Sequence[tuple[dict[str, str], str, float, float | None]]) -> float:
    """The largest ``face_mae`` among the groups of all columns that have 20 clusters or more."""
    errors, _ = metrics.absolute_errors([i[2] for i in items], [i[3] for i in items], *_AGES)
    scored = [(groups, cluster, error) for (groups, cluster, _, _), error in zip(items, errors.tolist(), strict=True)]
    worst = [metrics.worst_group(found, higher_is_better=False) for found in _groups(scored)]
    return max((error for _, error in filter(None, worst)), default=float("nan"))


def face_unparsed(items: Sequence[float]) -> float:
    """Share of answers that could not be read, refusals among them."""
    return float(np.mean(items))


def face_refused(items: Sequence[float]) -> float:
    """Share of answers that refuse."""
    return float(np.mean(items))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _columns(items: Sequence[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    return [a for a, _ in items], [b for _, b in items]


def _by_topic(items: Labelled) -> Iterator[tuple[list[str], list[str | None]]]:
    """Gold and answers of each topic."""
    rows: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
    for topic, gold, pred in items:
        rows[topic].append((gold, pred))
    for topic in sorted(rows):
        yield _columns(rows[topic])


def _key(items: Sequence[Any]) -> tuple[Any, ...]:
    """The items as what a cache can look up; read from JSON they are lists."""
    return tuple(map(tuple, items))


@functools.lru_cache(maxsize=2)
def _mean_ends(items: tuple[tuple[str, float], ...]) -> Ends:
    return _ends(metrics.cluster_bootstrap(*_columns(items)))


@functools.lru_cache(maxsize=2)
def _balanced_ends(items: tuple[tuple[str, str, str, str | None], ...]) -> Ends:
    clusters, topics, gold, pred = zip(*items, strict=True)
    return _ends(metrics.confusion_bootstrap(clusters, gold, pred, metrics.topic_mean, topics=topics))


@functools.lru_cache(maxsize=2)
def _f1_ends(items: tuple[tuple[str, str, str, str | None], ...]) -> Ends:
    clusters, topics, gold, pred = zip(*items, strict=True)
    found = metrics.confusion_bootstrap(clusters, gold, pred, metrics.topic_f1, labels=YES_NO_LABELS, topics=topics)
    return _ends(found)


@functools.lru_cache(maxsize=2)
def _uar_ends(items: tuple[tuple[str, str, str, str | None], ...]) -> Ends:
    clusters, _, gold, pred = zip(*items, strict=True)
    return _ends(metrics.confusion_bootstrap(clusters, gold, pred, metrics.mean_recall))


@functools.lru_cache(maxsize=2)
def _eer_ends(items: tuple[tuple[str, float, float | None], ...]) -> Ends:
    scores = np.array([np.nan if pred is None else pred for _, _, pred in items], dtype=np.float64)
    same = np.array([gold > 50 for _, gold, _ in items])
    clusters = [cluster for cluster, _, _ in items]
    return _ends(metrics.cluster_bootstrap(clusters, lambda rows: metrics.eer(scores[rows], same[rows])))


def _ends(interval: metrics.Interval | None) -> Ends:
    return (interval.low, interval.high) if interval else (float("nan"), float("nan"))


def _errors(items: ClusteredPairs) -> tuple[tuple[str, float], ...]:
    errors, _ = metrics.absolute_errors([i[1] for i in items], [i[2] for i in items], *_AGES)
    return tuple(zip([i[0] for i in items], errors.tolist(), strict=True))


def _groups(items: Sequence[tuple[dict[str, str], str, float]]) -> Iterator[metrics.GroupScores]:
    """The groups of each column."""
    clusters, scores = [cluster for _, cluster, _ in items], [score for _, _, score in items]
    for column in sorted(items[0][0]):
        yield metrics.group_scores([groups[column] for groups, _, _ in items], scores, clusters=clusters)
