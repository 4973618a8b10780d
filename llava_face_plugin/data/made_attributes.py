"""The attribute labels of made faces: a small generative model, written as one table.

All probabilities are our own invention. They are chosen so that attributes visibly co-occur (hats go with
beards no more than chance, lipstick goes with make-up and earrings) and so that ``RULES`` hold without
exception; they describe no real population.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import FaceDataError

MADE_ATTRIBUTES: tuple[str, ...] = (
    "Male", "Young", "Bald", "Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Eyeglasses",
    "Mustache", "Goatee", "No_Beard", "Smiling", "Mouth_Slightly_Open", "Wearing_Hat", "Wearing_Earrings",
    "Wearing_Necklace", "Wearing_Lipstick", "Heavy_Makeup", "Rosy_Cheeks",
)  # fmt: skip
"""The 20 attributes of a made face, all of them visible in the picture; names as in CelebA."""

HAIR_COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")

# attribute -> {condition: probability}. Drawn from top to bottom; the first condition that holds counts;
# "A -B" reads "A and not B" of attributes drawn before, "" is "else".
_TABLE: tuple[tuple[str, dict[str, float]], ...] = (
    ("Male", {"": 0.47}),
    ("Young", {"Male": 0.62, "": 0.78}),
    ("Wearing_Hat", {"Male": 0.15, "": 0.09}),
    ("Bald", {"-Male": 0.0, "Young": 0.06, "": 0.25}),
    ("Bangs", {"Bald": 0.0, "Wearing_Hat": 0.0, "Male": 0.12, "": 0.36}),
    ("Gray_Hair", {"Bald": 0.0, "Young": 0.02, "": 0.52}),
    ("Black_Hair", {"Bald": 0.0, "Gray_Hair": 0.0, "Male": 0.40, "": 0.30}),
    ("Brown_Hair", {"Bald": 0.0, "Gray_Hair": 0.0, "Black_Hair": 0.0, "": 0.45}),
    (
        "Blond_Hair",
        {"Bald": 0.0, "Gray_Hair": 0.0, "Black_Hair": 0.0, "Brown_Hair": 0.0, "Male": 0.45, "": 0.75},
    ),
    ("Eyeglasses", {"Young": 0.14, "": 0.34}),
    ("Goatee", {"-Male": 0.0, "": 0.22}),
    ("Mustache", {"-Male": 0.0, "Goatee": 0.55, "": 0.13}),
    ("No_Beard", {"Mustache": 0.0, "Goatee": 0.0, "": 1.0}),
    ("Heavy_Makeup", {"Male": 0.0, "Young": 0.46, "": 0.28}),
    ("Wearing_Lipstick", {"Male": 0.0, "Heavy_Makeup": 1.0, "": 0.30}),
    ("Rosy_Cheeks", {"Heavy_Makeup": 0.42, "Male": 0.05, "": 0.14}),
    ("Wearing_Earrings", {"Male": 0.06, "Wearing_Lipstick": 0.58, "": 0.27}),
    ("Wearing_Necklace", {"Male": 0.06, "Wearing_Earrings": 0.50, "": 0.22}),
    ("Smiling", {"Male": 0.44, "": 0.54}),
    ("Mouth_Slightly_Open", {"Smiling": 0.66, "": 0.20}),
)

RULES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("at most one", HAIR_COLOURS, ()),
    ("at least one", ("No_Beard", "Mustache", "Goatee"), ()),
    ("implies none of", ("Bald",), ("Bangs", *HAIR_COLOURS)),
    ("implies none of", ("Wearing_Hat",), ("Bangs",)),
    ("implies none of", ("No_Beard",), ("Mustache", "Goatee")),
    ("implies all of", ("Mustache",), ("Male",)),
    ("implies all of", ("Goatee",), ("Male",)),
    ("implies all of", ("Heavy_Makeup",), ("Wearing_Lipstick",)),
    ("implies all of", ("Wearing_Lipstick",), ("No_Beard",)),
    ("implies none of", ("Wearing_Lipstick",), ("Male",)),
)
"""(kind, premise or group, consequence): what no row of ``sample_attributes`` breaks."""

# The others are habits of the model only: the renderer can draw, say, lipstick on a bearded face.
_DRAWABLE = RULES[:5]


def sample_attributes(n: int, seed: int) -> np.ndarray:
    """(n, 20) int8 of 0 and 1 in the order of ``MADE_ATTRIBUTES``; every row obeys ``RULES``."""
    rng = np.random.default_rng([seed, 1])
    drawn: dict[str, np.ndarray] = {}
    for name, chances in _TABLE:
        conditions = [_holds(c, drawn, n) for c in chances]
        probability = np.select(conditions, list(chances.values()))
        drawn[name] = rng.random(n) < probability
    return np.stack([drawn[a] for a in MADE_ATTRIBUTES], axis=1).astype(np.int8)


def broken_rules(
    labels: np.ndarray, rules: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = RULES
) -> list[str]:
    """The rules, in words, that any row of (n, 20) 0/1 ``labels`` breaks; empty if none does."""
    on = {a: labels[:, i] != 0 for i, a in enumerate(MADE_ATTRIBUTES)}
    broken = []
    for kind, premise, consequence in rules:
        group = np.stack([on[a] for a in premise])
        then = np.stack([on[a] for a in consequence]) if consequence else group
        bad = {
            "at most one": group.sum(axis=0) > 1,
            "at least one": ~group.any(axis=0),
            "implies none of": group[0] & then.any(axis=0),
            "implies all of": group[0] & ~then.all(axis=0),
        }[kind]
        if bad.any():
            named = [", ".join(premise), kind, ", ".join(consequence)]
            broken.append(" ".join(named if consequence else [kind, named[0]]))
    return broken


def as_labels(attributes: np.ndarray | Mapping[str, int]) -> dict[str, bool]:
    """One face's 20 attributes by name. Raises ``FaceDataError`` if one is missing or undrawable."""
    if isinstance(attributes, Mapping):
        missing = [a for a in MADE_ATTRIBUTES if a not in attributes]
        if missing:
            raise FaceDataError(f"made face: attributes without a value: {', '.join(missing)}")
        row = np.array([int(attributes[a]) for a in MADE_ATTRIBUTES])
    else:
        row = np.asarray(attributes)
    if row.shape != (len(MADE_ATTRIBUTES),) or not np.isin(row, (0, 1)).all():
        raise FaceDataError(f"made face: expected {len(MADE_ATTRIBUTES)} values of 0 or 1, got {row.tolist()}")
    broken = broken_rules(row[None], _DRAWABLE)
    if broken:
        raise FaceDataError(f"made face: cannot be drawn true to its labels ({'; '.join(broken)})")
    return {a: bool(v) for a, v in zip(MADE_ATTRIBUTES, row, strict=True)}


def _holds(condition: str, drawn: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    result = np.ones(n, dtype=bool)
    for word in condition.split():
        result &= ~drawn[word[1:]] if word.startswith("-") else drawn[word]
    return result
