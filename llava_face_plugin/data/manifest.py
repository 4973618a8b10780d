"""The manifest: what is known of every image of a data set, in one typed table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import FaceDataError

SPLITS = ("train", "val", "test")
UNKNOWN = -1
COLUMNS = ("id", "image", "split", "identity", "age", "map", "present")
"""Names of the parquet file's own columns: no closed-set label may have one of these."""


@dataclass
class Manifest:
    """N images, A attributes. Arrays are parallel; row order is the annotation file's."""

    dataset: str
    images: np.ndarray
    """(N,) str: path below the data set's root, posix, as ``--image_folder`` expects it; every one once."""
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
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=str))
    """(N,) str, every one once. Left out: the images' stems, or where two are alike their paths without suffix."""

    def __post_init__(self) -> None:
        if not self.vocabulary and not self.attributes.size:
            self.attributes = np.zeros((len(self), 0), dtype=np.int8)
        if not len(self.ids) and len(self):
            self.ids = _ids(self.images.tolist())

    def __len__(self) -> int:
        return len(self.images)

    def hot_columns(self) -> tuple[str, ...]:
        """Closed-set labels that say more than the attributes: their values are no attributes themselves."""
        return tuple(c for c, values in self.classes.items() if not set(values) <= set(self.vocabulary))

    def one_hot(self, columns: Iterable[str] | None = None) -> tuple[tuple[str, ...], np.ndarray]:
        """Closed-set labels as attributes: names like ``expression:happiness`` and (N, V) int8 of 1, 0 and -1.

        ``columns``: default those of ``hot_columns``. An unknown label makes the whole group -1.
        """
        names, parts = [], [np.zeros((len(self), 0), dtype=np.int8)]
        for column in self.hot_columns() if columns is None else columns:
            codes = self.labels[column][:, None]
            hot = (codes == np.arange(len(self.classes[column]))[None, :]).astype(np.int8)
            parts.append(np.where(codes < 0, np.int8(UNKNOWN), hot))
            names += [f"{column}:{value}" for value in self.classes[column]]
        return tuple(names), np.concatenate(parts, axis=1)

    def check(self, where: str) -> None:
        """Raise ``FaceDataError`` naming ``where``, column and row if the parts are not as described above."""
        n = len(self)
        if not n:
            raise FaceDataError(f"{where}: the manifest has no row", "empty")
        self._check_names(where)
        for name, values, kind in (("id", self.ids, "U"), ("image", self.images, "U")):
            _shaped(where, name, values, kind, (n,))
            _once(where, name, values)
        _shaped(where, "split", self.split, "i", (n,))
        _within(where, "split", self.split, 0, len(SPLITS) - 1)
        _shaped(where, "attributes", self.attributes, "i", (n, len(self.vocabulary)))
        if self.attributes.size and (self.attributes.min() < UNKNOWN or self.attributes.max() > 1):
            for name, values in zip(self.vocabulary, self.attributes.T, strict=True):
                _within(where, f"attribute:{name}", values, UNKNOWN, 1)
        for name, values in self.labels.items():
            _shaped(where, name, values, "i", (n,))
            _within(where, name, values, UNKNOWN, len(self.classes[name]) - 1)
        if self.identity is not None:
            _shaped(where, "identity", self.identity, "i", (n,))
            _within(where, "identity", self.identity, UNKNOWN, np.iinfo(np.int64).max)
        if self.age is not None:
            _shaped(where, "age", self.age, "f", (n,))
            _within(where, "age", np.where(np.isnan(self.age), 0, self.age), 0, 150)
        if self.present is not None:
            _shaped(where, "present", self.present, "b", (n,))
        if self.maps is not None:
            _shaped(where, "map", self.maps, "U", (n,))

    def _check_names(self, where: str) -> None:
        for what, names in (
            ("vocabulary", self.vocabulary),
            *((f"classes of {c}", v) for c, v in self.classes.items()),
        ):
            if len(set(names)) < len(names) or not all(isinstance(n, str) and n for n in names):
                raise FaceDataError(f"{where}: {what}: every name must be text and occur once, got {list(names)}")
        if set(self.labels) != set(self.classes):
            raise FaceDataError(f"{where}: labels {sorted(self.labels)} and classes {sorted(self.classes)} differ")
        if taken := [c for c in self.classes if c in COLUMNS or c.startswith("attribute:")]:
            raise FaceDataError(f"{where}: a closed-set label must not be called {taken[0]!r}")
        if unknown := [g for g in self.groups if g not in self.classes and g not in self.vocabulary]:
            raise FaceDataError(f"{where}: group {unknown[0]!r} is neither a closed-set label nor an attribute")


def _ids(images: Sequence[str]) -> np.ndarray:
    bare = [image.rpartition(".")[0] or image for image in images]
    for names in ([b.rpartition("/")[2] for b in bare], bare):
        if len(set(names)) == len(names):
            return np.array(names, dtype=str)
    return np.array(images, dtype=str)


def _shaped(where: str, name: str, values: np.ndarray, kind: str, shape: tuple[int, ...]) -> None:
    if values.dtype.kind != kind or values.shape != shape:
        wanted = {"U": "text", "i": "whole numbers", "f": "floats", "b": "true or false"}[kind]
        raise FaceDataError(
            f"{where}: column {name}: {values.dtype} of shape {values.shape}; expected {wanted} {shape}"
        )


def _within(where: str, name: str, values: np.ndarray, least: float, most: float) -> None:
    bad = ~((values >= least) & (values <= most))
    if bad.any():
        row = int(np.argmax(bad))
        raise FaceDataError(f"{where}: column {name}, row {row}: {values[row]} is not from {least} to {most}")


def _once(where: str, name: str, values: np.ndarray) -> None:
    listed = values.tolist()
    if "" in listed:
        raise FaceDataError(f"{where}: column {name}, row {listed.index('')}: it is empty")
    if len(set(listed)) == len(listed):
        return
    seen: dict[str, int] = {}
    for row, value in enumerate(listed):
        if value in seen:
            raise FaceDataError(f"{where}: column {name}, row {row}: {value!r} was already in row {seen[value]}")
        seen[value] = row
