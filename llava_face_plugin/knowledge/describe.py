"""What a knowledge file says, as plain values: for people, for scripts and for reports."""

from __future__ import annotations

from typing import Any

from .file import Knowledge
from .graph import edges
from .report import FLOOR, rule_report, strongest


def describe(knowledge: Knowledge, tau: float = 0.4, top: int = 20) -> dict[str, Any]:
    """JSON-ready: dataset, split, rows, sources, attributes, pairs (the ``top`` strongest p_ij of attributes with at
    least 50 rows), edges at ``tau``, rules
    (``report.rule_report``). Raises ``FaceConfigError`` unless 0 <= tau <= 1."""
    meta = knowledge.meta
    head = {key: meta.get(key) for key in ("dataset", "split", "rows", "created_by", "max_rate", "sources")}
    return head | {
        "attributes": _attributes(knowledge),
        "pairs": _pairs(knowledge, top),
        "tau": tau,
        "edges": edges(knowledge.cooccurrence, tau, FLOOR),
        "rules": rule_report(knowledge),
    }


def _attributes(knowledge: Knowledge) -> list[dict[str, Any]]:
    counts = knowledge.cooccurrence
    positive, known, prior = counts.joint.diagonal(), counts.known, counts.prior()
    return [
        {"name": name, "prompt": knowledge.prompts[name], "n": int(positive[i]), "known": int(known[i]),
         "prior": float(prior[i])}
        for i, name in enumerate(counts.vocabulary)
    ]  # fmt: skip


def _pairs(knowledge: Knowledge, top: int) -> list[dict[str, Any]]:
    counts, names = knowledge.cooccurrence, knowledge.vocabulary
    p, (low, high) = counts.conditional(), counts.interval()
    return [
        {"given": names[i], "then": names[j], "p": float(p[i, j]), "interval": [float(low[i, j]), float(high[i, j])],
         "joint": int(counts.joint[i, j]), "n": int(counts.support[i, j])}
        for i, j in strongest(counts, top)
    ]  # fmt: skip
