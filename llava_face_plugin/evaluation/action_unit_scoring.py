"""Action units asked about one by one: F1 of each unit beside the means of ``scoring.YES_NO``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import metrics
from .scoring import ITEMS, record, scorer


def unit_scorer(*names: str) -> Callable[..., dict[str, Any]]:
    """``process_results``: the metrics ``names`` of ``scoring.ITEMS``, and ``face_f1_au12`` of the unit asked about.

    A question gives an item to its own unit's metric only; lmms-eval leaves out a metric that has none.
    """
    scorer(*names)  # raises for unknown metrics

    def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, Any]:
        made = record(doc, results[0])
        unit = {f"face_f1_{made['topic'].lower()}": (made["gold"], made["pred"])}
        return {name: ITEMS[name](made) for name in names} | unit

    return process_results


def unit_f1(items: Sequence[tuple[str, str | None]]) -> float:
    """F1 of "yes" for one unit, NaN where no frame has it: then ``face_f1``, their mean, leaves it out, too.

    An answer that cannot be read is a miss where the unit is there, and no false alarm where it is not.
    """
    gold, pred = [g for g, _ in items], [p for _, p in items]
    return metrics.binary_f1(gold, pred, "yes") if "yes" in gold else float("nan")
