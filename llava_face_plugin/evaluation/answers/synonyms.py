"""The few other words that stand for an option's text (our default). Nothing else is taken for the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_GROUPS = (
    ("happy", "happiness"),
    ("sad", "sadness"),
    ("surprised", "surprise"),
    ("fearful", "fear", "afraid"),
    ("angry", "anger"),
    ("disgusted", "disgust"),
    ("contemptuous", "contempt"),
)
"""Words of one expression: any stands for the option that is another."""
_PAIRS = ({"male": "man", "female": "woman"},)
"""Option -> its other word, where all options of a pair are there."""
_PARTS = {"latinohispanic": ("latino", "hispanic"), "hispaniclatino": ("latino", "hispanic")}
"""Option -> words of it that stand for the whole, where no other option holds the word."""


def synonyms(names: Sequence[str]) -> Mapping[str, int]:
    """Other words for the options (in ``names.written`` form) -> the option's index. A word that would stand for two
    options, or is or stands in another option, gives none: its index is -1 or it is left out."""
    found: dict[str, int] = {}
    for i, name in enumerate(names):
        others = names[:i], names[i + 1 :]
        words = [w for group in _GROUPS if name in group for w in group]
        words += [pair[name] for pair in _PAIRS if name in pair and set(pair) <= set(names)]
        words += [w for w in _PARTS.get(name, ()) if not any(w in other for part in others for other in part)]
        for word in words:
            if word not in names:
                found[word] = -1 if word in found else i
    return found
