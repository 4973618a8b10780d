"""Is one model better than another? Paired, on the same questions, corrected for the number of tasks.

A pair of answers is compared by what each question scores: right or wrong, an F1 or ROUGE of its own, the error of an
age. So a figure that is no mean over questions is not compared itself: an equal error rate, a recall by class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import FaceDataError
from .metrics import absolute_errors, paired_bootstrap
from .results import TaskResult
from .scoring import NUMBER_RANGES


@dataclass(frozen=True)
class Comparison:
    """Two models on the questions of one task. Scores are means over the questions, in 0..1; of ages in years."""

    task: str
    of: str
    """What is compared."""
    higher_is_better: bool
    first: str
    second: str
    n: int
    clusters: int
    first_score: float
    second_score: float
    difference: float
    """second - first."""
    low: float | None
    """Ends of the 95 % interval of the difference; None for a single cluster."""
    high: float | None
    p: float
    """Two-sided, by swapping the models' answers on whole clusters (``metrics.paired_bootstrap``)."""
    p_holm: float
    """The same after Holm's (1979) correction over the tasks of this pair of models."""
    limited: bool
    """Made with a limit: not a result."""


YEARS = "face_mae (years: less is better)"
AT_50 = "accuracy at a threshold of 50 (not face_eer)"


def compare(
    first: tuple[str, Sequence[TaskResult]], second: tuple[str, Sequence[TaskResult]]
) -> tuple[list[Comparison], list[str]]:
    """(comparisons, tasks that only one of the two has).

    Both are (name, results). Raises ``FaceDataError`` for a task whose questions were not the same.
    """
    (a, left), (b, right) = first, second
    by_task = {r.info.task: r for r in right}
    pairs = [(r, by_task[r.info.task]) for r in left if r.info.task in by_task]
    alone = sorted({r.info.task for r in left} ^ set(by_task))
    made = [_pair(a, x, b, y) for x, y in pairs]
    corrected = holm([c.p for c in made])
    return [replace(c, p_holm=p) for c, p in zip(made, corrected, strict=True)], alone


def unlike(first: Sequence[TaskResult], second: Sequence[TaskResult]) -> list[str]:
    """What else was different in tasks that are compared: the folder of the images, the kind of device."""
    by_task = {r.info.task: r.info for r in second}
    out = []
    for info in (r.info for r in first if r.info.task in by_task):
        other = by_task[info.task]
        if info.questions.image_root != other.questions.image_root:
            out.append(f"{info.task}: images of {info.questions.image_root} and of {other.questions.image_root}")
        if info.device_type != other.device_type:
            out.append(f"{info.task}: on {info.device_type or '?'} and on {other.device_type or '?'}")
    return out


def holm(p: Sequence[float]) -> list[float]:
    """Step-down corrected p-values (Holm, Scand. J. Statist. 1979), in the order given."""
    out = [0.0] * len(p)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[place]))
        out[place] = largest
    return out


def _pair(a: str, x: TaskResult, b: str, y: TaskResult) -> Comparison:
    _same_questions(a, x, b, y)
    clusters = [r["cluster"] for r in x.output.records]
    of, left, right = _of(x), _scores(x), _scores(y)  # both by question id
    paired = paired_bootstrap(right, left, clusters)
    n = len(left)
    return Comparison(
        x.info.task, of, of != YEARS, a, b, n, len(set(clusters)), sum(left) / n, sum(right) / n, paired.difference,
        paired.low, paired.high, paired.p, paired.p, x.info.limit is not None,
    )  # fmt: skip


def _of(result: TaskResult) -> str:
    if "face_mae" in result.output.figures:
        return YEARS
    return AT_50 if result.output.main == "face_eer" else result.output.main


def _scores(result: TaskResult) -> list[float]:
    """What each question scores; of an age, its error as ``face_mae`` counts it."""
    records = result.output.records
    if _of(result) != YEARS:
        return [r["score"] for r in records]
    gold, pred = [r["gold"] for r in records], [r["pred"] for r in records]
    errors: list[float] = absolute_errors(gold, pred, *NUMBER_RANGES["age"])[0].tolist()
    return errors


def _same_questions(a: str, x: TaskResult, b: str, y: TaskResult) -> None:
    task, (p, q) = x.info.task, (x.info.questions, y.info.questions)
    if p.digest != q.digest:
        raise FaceDataError(
            f"{task}: {a} and {b} were asked different questions ({p.rows:,} of digest {p.digest[:12]}, split "
            f"{p.split}, seed {p.seed}; {q.rows:,} of {q.digest[:12]}, split {q.split}, seed {q.seed}): "
            "evaluate both on one question file"
        )
    if x.info.task_digest != y.info.task_digest:
        raise FaceDataError(f"{task}: {a} and {b} ran different versions of the task: run one again")
    if x.output.main != y.output.main:
        raise FaceDataError(f"{task}: {a} and {b} have different main metrics")
    if [r["question_id"] for r in x.output.records] != [r["question_id"] for r in y.output.records]:
        raise FaceDataError(
            f"{task}: {a} has {len(x.output.records):,} of the questions (limit {x.info.limit}), {b} "
            f"{len(y.output.records):,} (limit {y.info.limit}): run both with the same limit"
        )
