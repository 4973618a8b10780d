"""Candidate rules between two attributes, read off the co-occurrence counts (our default)."""

from __future__ import annotations

import numpy as np

from .cooccurrence import Cooccurrence
from .rulebook import Rule


def candidates(
    cooc: Cooccurrence, max_rate: float = 0.01, min_count: int = 50, max_lift: float = 0.1
) -> list[tuple[Rule, float]]:
    """Implications i => j and i => not j with their violation rates, the rarest violations first.

    A candidate is broken by at most ``max_rate`` of at least ``min_count`` rows, and at most ``max_lift``
    times as often as if the attributes were independent; the last keeps out rules that hold because j is
    nearly always (or never) present. Of i => not j and j => not i, which say the same, the one with the lower
    rate is listed. They are for a person to read: that a relation holds in the labels does not make it a fact
    about faces.
    """
    p, prior, names = cooc.conditional(), cooc.prior(), cooc.vocabulary
    rates = {
        "": (1.0 - p, 1.0 - prior),
        "not ": (p, prior),
    }
    found = []
    for prefix, (rate, expected) in rates.items():
        keep = (cooc.support >= min_count) & (rate <= max_rate) & (rate <= max_lift * expected)
        for i, j in np.argwhere(keep & ~np.eye(len(names), dtype=bool)):
            twin = prefix and keep[j, i] and (rate[j, i], j) < (rate[i, j], i)
            if not twin:
                rule = Rule("implication", if_=(names[i],), then=(prefix + names[j],), source="mined")
                found.append((rule, float(rate[i, j])))
    return sorted(found, key=lambda item: (item[1], item[0].text()))
