"""What a knowledge file says, as plain values: for people, for scripts and for the report."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import FaceDataError
from ..rulebook import Rule
from .cooccurrence import Cooccurrence, wilson
from .file import Knowledge
from .graph import edges

FLOOR = 50
"""Rows with y_i = 1 that a listed p_ij needs: the floor of the graph's edges."""
STRONGEST = 60
"""How many p_ij the report lists."""


def summary(knowledge: Knowledge, tau: float = 0.4, top: int = 20) -> dict[str, Any]:
    """JSON-ready: dataset, split, rows, sources, attributes, pairs (the ``top`` strongest p_ij of attributes with at
    least 50 rows), edges at ``tau``, rules (``rule_report``), and (A, A) lists of lists: the counts ``joint``,
    ``support`` and ``both`` of ``Cooccurrence``, and P. Raises ``FaceConfigError`` unless 0 <= tau <= 1."""
    meta, counts = knowledge.meta, knowledge.cooccurrence
    head = {key: meta.get(key) for key in ("dataset", "split", "rows", "created_by", "max_rate", "sources")}
    return head | {
        "attributes": attributes(knowledge), "pairs": pairs(counts, top), "tau": tau,
        "edges": edges(counts, tau, FLOOR), "rules": rule_report(knowledge),
        "joint": counts.joint.tolist(), "support": counts.support.tolist(), "both": counts.both.tolist(),
        "p": counts.conditional().tolist(),
    }  # fmt: skip


def attributes(knowledge: Knowledge) -> list[dict[str, Any]]:
    """Of every attribute its name, prompt, n (rows that have it), known and prior."""
    counts = knowledge.cooccurrence
    positive, known, prior = counts.joint.diagonal(), counts.known, counts.prior()
    return [
        {"name": name, "prompt": knowledge.prompts[name], "n": int(positive[i]), "known": int(known[i]),
         "prior": float(prior[i])}
        for i, name in enumerate(counts.vocabulary)
    ]  # fmt: skip


def pairs(counts: Cooccurrence, top: int) -> list[dict[str, Any]]:
    """The ``strongest`` p_ij: given, then, p and its 95 % interval, joint (m_ij), n (n_i), and the prior of j."""
    p, prior, (low, high), names = counts.conditional(), counts.prior(), counts.interval(), counts.vocabulary
    return [
        {"given": names[i], "then": names[j], "p": float(p[i, j]), "interval": [float(low[i, j]), float(high[i, j])],
         "joint": int(counts.joint[i, j]), "n": int(counts.support[i, j]), "prior": float(prior[j])}
        for i, j in strongest(counts, top)
    ]  # fmt: skip


def strongest(counts: Cooccurrence, most: int = STRONGEST, floor: int = FLOOR) -> list[tuple[int, int]]:
    """The (i, j) with the largest p_ij, i != j, among those with at least ``floor`` rows; ties by the vocabulary."""
    p = np.where(counts.support >= floor, counts.conditional(), -1.0)
    np.fill_diagonal(p, -1.0)
    order = np.argsort(-p, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, p.shape), strict=True)
    return [(int(i), int(j)) for i, j in pairs if p[i, j] > 0]


def rule_report(knowledge: Knowledge) -> list[dict[str, Any]]:
    """The file's ``rule_report`` (``RuleTally.weigh``) with every key in every row; for a file without one, its rules.

    Raises ``FaceDataError`` for a report of another shape.
    """
    entries = knowledge.meta.get("rule_report")
    if entries is None:
        entries = [
            {"rule": rule.text(), "group": rule.group, "violated": 0, "applicable": 0, "rate": None, "kept": True,
             "weight": rule.weight, "definition": rule.to_dict()}
            for rule in knowledge.rules
        ]  # fmt: skip
    weights = {rule.text(): rule.weight for rule in knowledge.rules}
    rows = []
    try:
        for entry in entries:
            low, high = wilson(int(entry["violated"]), int(entry["applicable"]))
            definition = entry.get("definition")
            source = Rule.from_dict(definition).source if definition is not None else ""
            rows.append(
                {"interval": [float(low), float(high)] if entry["applicable"] else None, "source": source,
                 "weight": weights.get(entry["rule"], 0.0), **entry, "rule": str(entry["rule"]),
                 "rate": None if entry["rate"] is None else float(entry["rate"]), "kept": bool(entry["kept"])}
            )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FaceDataError(f"the knowledge's rule_report is not one of this package ({error})") from error
    return rows
