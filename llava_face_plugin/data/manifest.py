"""The manifest: what is known of every image of a data set, in one typed table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

SPLITS = ("train", "val", "test")
UNKNOWN = -1


@dataclass
class Manifest:
    """N images, A attributes. Arrays are parallel; row order is the annotation file's."""

    dataset: str
    images: np.ndarray
    """(N,) str: path below the data set's root, posix, as ``--image_folder`` expects it."""
    split: np.ndarray
    """(N,) int8: index into ``SPLITS``."""
    vocabulary: tuple[str, ...] = ()
    attributes: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int8))
    """(N, A) int8: 1, 0, -1 = unknown."""
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Closed-set labels: column name (``expression``, ``race``, ``gender``, ``age_group``) -> its values in order."""
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    """Column name -> (N,) int16 index into ``classes``, -1 = unknown."""
    age: np.ndarray | None = None
    """(N,) float32 years; NaN = unknown."""
    identity: np.ndarray | None = None
    """(N,) int64 person; -1 = unknown."""
    present: np.ndarray | None = None
    """(N,) bool: the image file is there; None: nobody looked (label-only preparation)."""
    maps: np.ndarray | None = None
    """(N,) str: map path as ``face_map`` in the data, "" = none."""
    groups: tuple[str, ...] = ()
    """Columns of ``labels`` or attributes by which scores are split."""
    sources: list[dict[str, object]] = field(default_factory=list)
    """Annotation files: name, sha256, rows."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Rows left out, by reason."""
    problems: list[str] = field(default_factory=list)
    """The first messages, each naming file and line."""
    notes: list[str] = field(default_factory=list)
    """What the user should know: licence, drift from the published counts."""

    def __len__(self) -> int:
        return len(self.images)
