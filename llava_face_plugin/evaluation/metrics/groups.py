"""Scores by group of people, the worst of them and the gap.

The gap of a few small groups is above 0 by chance alone: read it with an interval (``intervals.cluster_bootstrap`` of
``group_gap``), and not where groups were too small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .inputs import Statistic, checked_length

LEAST = 20
"""A group smaller than this is not scored (our default): the 95 % interval of a rate of 1/2 is wider than +- 0.2."""


@dataclass(frozen=True)
class GroupScores:
    """Groups in sorted order. Rows of unknown group ("") are in none."""

    scores: dict[str, float]
    """Of each group that is large enough and whose score is defined."""
    sizes: dict[str, int]
    """Of every group, in clusters where those were given, else in rows."""
    too_small: tuple[str, ...]
    undefined: tuple[str, ...]
    """Groups that are large enough, but whose statistic is None."""


def group_scores(
    groups: Sequence[str],
    scores: Sequence[float] | np.ndarray | Statistic,
    *,
    clusters: Sequence[str] | None = None,
    least: int = LEAST,
) -> GroupScores:
    """The score of each group: the mean of ``scores``, or a statistic of the group's rows.

    ``clusters`` (identities or images) make the size of a group the number of its clusters, so that forty questions
    about one person are no group of forty. Raises ``FaceDataError`` for no rows and lengths that differ.
    """
    checked_length(groups=groups, **({} if clusters is None else {"clusters": clusters}))
    if callable(scores):
        statistic: Statistic = scores
    else:
        checked_length(groups=groups, scores=scores)
        statistic = mean_of(scores)
    names, code = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    found, sizes, too_small, undefined = {}, {}, [], []
    for at, name in enumerate(names.tolist()):
        if name == "":
            continue
        rows = np.flatnonzero(code == at)
        sizes[name] = len(rows) if clusters is None else len({clusters[row] for row in rows.tolist()})
        if sizes[name] < least:
            too_small.append(name)
        elif (value := statistic(rows)) is None:
            undefined.append(name)
        else:
            found[name] = float(value)
    return GroupScores(found, sizes, tuple(too_small), tuple(undefined))


def worst_group(found: GroupScores, higher_is_better: bool = True) -> tuple[str, float] | None:
    """(name, score) of the group with the worst score, the first by name of equals; None if none was scored."""
    sign = 1 if higher_is_better else -1
    return min(found.scores.items(), key=lambda item: sign * item[1], default=None)


def group_gap(found: GroupScores) -> float | None:
    """Highest less lowest score; None with fewer than two scored groups: there is nothing to compare."""
    values = found.scores.values()
    return max(values) - min(values) if len(values) > 1 else None


def mean_of(scores: Sequence[float] | np.ndarray) -> Statistic:
    """The mean of the rows' scores, as a statistic."""
    array = np.asarray(scores, dtype=np.float64)
    return lambda rows: float(np.sort(array[rows]).mean())  # sorted: the same bits in any order of rows
