"""The knowledge of the drawn faces: what their label generator puts in, counted from a large sample of it."""

from __future__ import annotations

import numpy as np

from ..knowledge.file import Knowledge
from ..knowledge.rules import load_rules
from .made_attributes import MADE_ATTRIBUTES, sample_attributes

_ROWS = 20_000


def made_knowledge(labels: np.ndarray | None = None) -> Knowledge:
    """Knowledge of (N, 20) int8 labels, or of 20,000 rows from the generator with a fixed seed."""
    if labels is None:
        labels = sample_attributes(_ROWS, seed=20_240_815)
    meta = {"dataset": "made", "split": "train"}
    return Knowledge.build(MADE_ATTRIBUTES, [labels], load_rules("made"), 0.02, meta)
