"""Candidate rules between two attributes, read off the co-occurrence counts (our default)."""

from __future__ import annotations

import numpy as np

from .cooccurrence import Cooccurrence
from .rulebook import Rule


def candidates(
    cooc: Cooccurrence, max_rate: float = 0.01, max_lift: float = 0.1, min_expected: float = 50.0
) -> list[tuple[Rule, float]]:
    """Implications i => j and i => not j with their violation rates, the rarest violations first.

    A candidate is broken by at most ``max_rate`` of the rows with i, and at most ``max_lift`` times as often
    as if the attributes were independent, where independence would break it in ``min_expected`` rows or more.
    The last two keep out rules that hold because i is rare, or j nearly always (or never) present. Of
    i => not j and j => not i, which say the same, the one with the lower rate is listed.

    They are for a person to read: that a relation holds in the labels does not make it a fact about faces.
    """
    p, prior, names = cooc.conditional(), cooc.prior(), cooc.vocabulary
    rates = {
        "": (1.0 - p, 1.0 - prior),
        "not ": (p, prior),
    }
    found = []
    for prefix, (rate, expected) in rates.items():
        keep = (cooc.support * expected >= min_expected) & (rate <= max_rate) & (rate <= max_lift * expected)
        for i, j in np.argwhere(keep & ~np.eye(len(names), dtype=bool)):
            twin = prefix and keep[j, i] and (rate[j, i], j) < (rate[i, j], i)
            if not twin:
                rule = Rule("implication", if_=(names[i],), then=(prefix + names[j],), source="mined")
                found.append((rule, float(rate[i, j])))
    return sorted(found, key=lambda item: (item[1], item[0].text()))
