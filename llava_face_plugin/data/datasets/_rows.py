"""From annotated rows to a manifest: what is usable, what is not and why, and how the user's copy differs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...errors import FaceDataError
from ..files import existing_folder, look_for, source, within
from ..losses import NAMED, Losses
from ..manifest import SPLITS, UNKNOWN, Manifest
from ._tables import Table, arrow, as_text
from .base import DatasetInfo, ReadOptions

SHARES = (0.8, 0.1, 0.1)
"""Train, val and test where there is no official split (our default)."""

AGE_BINS = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
"""FairFace's age groups, into which ages in years are also put (our default)."""

_UNSAFE = r"^$|^/|^[A-Za-z]:|(^|/)\.\.?(/|$)|//|[\x00-\x1f\\]|\x{FFFD}"


class Rows:
    """N rows of one annotation file, of which some turn out to be unusable."""

    def __init__(self, path: Path, n: int, where: Callable[[int], str]) -> None:
        """``where(i)`` names row i for the user: the file and the line, or the file that stands for the row."""
        self.path = path
        self.where = where
        self.keep = np.ones(n, dtype=bool)
        self.losses = Losses()

    @classmethod
    def of(cls, table: Table) -> Rows:
        rows = cls(table.path, len(table), lambda i: f"{table.path}, line {table.lines[i]}")
        for line, found in table.ragged:
            message = f"{table.path}, line {line}: expected {table.width} columns, found {found}"
            rows.losses.add("wrong number of columns", message)
        return rows

    def drop(self, bad: np.ndarray, reason: str, says: Callable[[int], str] | str) -> None:
        """Leave out the rows of the mask ``bad`` (N,), counted as ``reason``; ``says`` is what is wrong (in row i)."""
        at = np.flatnonzero(bad & self.keep)
        for i in at[:NAMED].tolist():
            self.losses.add(reason, f"{self.where(i)}: {says if isinstance(says, str) else says(i)}")
        self.losses.add(reason, n=len(at[NAMED:]))
        self.keep[at] = False

    def names(self, names: np.ndarray) -> np.ndarray:
        """``names`` (N,) str; rows whose name is empty, leads out of its folder or is no UTF-8 are left out."""
        text = as_text(names)
        bad = arrow("compute").match_substring_regex(text, _UNSAFE).to_numpy(zero_copy_only=False)
        self.drop(bad, "bad image name", lambda i: f"{str(names[i])!a} is no image name")
        return names

    def coded(self, table: Table, column: str, values: Sequence[str]) -> np.ndarray:
        """(N,) int16: the place of each cell in ``values``; rows with another cell are left out."""
        codes, cells = table.codes(column, values), table.columns[column]

        def says(i: int) -> str:
            return f"{column} {cells[i].as_py()[:40]!r} is none of {', '.join(map(repr, values))}"

        self.drop(codes < 0, f"unknown {column}", says)
        return codes


@dataclass
class Part:
    """All rows of one annotation file, usable or not; every array is (N, ...), as in ``Manifest``."""

    rows: Rows
    images: np.ndarray
    """(N,) str: as in ``Manifest.images``."""
    split: np.ndarray
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    attributes: np.ndarray | None = None
    age: np.ndarray | None = None
    identity: np.ndarray | None = None
    present: np.ndarray | None = None
    """(N,) bool, where the reader knows; None: it is looked up."""


def build(
    info: DatasetInfo,
    root: Path,
    options: ReadOptions,
    parts: Sequence[Part],
    *,
    classes: Mapping[str, tuple[str, ...]] | None = None,
    vocabulary: tuple[str, ...] = (),
    published: Mapping[str, int] | None = None,
    notes: Sequence[str] = (),
    sources: Sequence[Path] | None = None,
) -> Manifest:
    """The usable rows of all parts, each image once (the first row that names it counts; where rows contradict each
    other, none does).

    ``published``: the known number of images of each split, compared with the usable rows. ``sources``: files
    whose checksums are recorded (None: those of the parts). Raises ``FaceDataError`` where nothing is usable.
    """
    losses = Losses(
        sum((p.rows.losses.skipped for p in parts), Counter()), [m for p in parts for m in p.rows.losses.problems]
    )
    keep = np.flatnonzero(np.concatenate([p.rows.keep for p in parts]))
    images = np.concatenate([p.images for p in parts])
    keep = _once(parts, images, keep, _facts(parts), losses)
    if not len(keep):
        found = ", ".join(f"{n} {reason}" for reason, n in losses.skipped.items()) or "no rows"
        first = f"; {losses.problems[0]}" if losses.problems else ""
        raise FaceDataError(f"{parts[0].rows.path}: no usable row of {info.title} ({found}){first}", "empty")

    def column(name: str) -> np.ndarray | None:
        values = [getattr(p, name) for p in parts]
        return None if any(v is None for v in values) else np.concatenate(values)[keep]

    present = _present(info, root, options, images[keep], column("present"), notes)
    attributes = column("attributes")
    manifest = Manifest(
        dataset=info.name,
        images=images[keep],
        split=np.concatenate([p.split for p in parts])[keep].astype(np.int8),
        vocabulary=vocabulary,
        attributes=np.zeros((len(keep), 0), dtype=np.int8) if attributes is None else attributes,
        classes=dict(classes or {}),
        labels={n: np.concatenate([p.labels[n] for p in parts])[keep].astype(np.int16) for n in classes or {}},
        age=column("age"),
        identity=column("identity"),
        present=present,
        groups=tuple(g for g in info.groups if g in (classes or {}) or g in vocabulary),
        sources=[source(p, n) for p, n in _sources(parts, sources)],
        skipped=losses.skipped,
        problems=losses.problems,
    )
    if options.maps is not None:
        manifest.maps = _maps(root, options.maps, manifest.ids)
    manifest.notes += [*notes, *_drift(manifest, published or {}), *_absent(manifest)]
    return manifest


def hash_split(keys: np.ndarray) -> np.ndarray:
    """(N,) int8: a split for every key (N,) str, the same wherever and whenever it is computed, by ``SHARES``."""
    unique, inverse = np.unique(keys, return_inverse=True)
    digests = b"".join(hashlib.blake2b(str(k).encode("utf-8", "surrogatepass"), digest_size=8).digest() for k in unique)
    position = np.frombuffer(digests, dtype="<u8") / 2.0**64
    return np.searchsorted(np.cumsum(SHARES[:2]), position, side="right").astype(np.int8)[inverse.reshape(-1)]


def constant_split(name: str, n: int) -> np.ndarray:
    """(N,) int8: all of the split ``name``."""
    return np.full(n, SPLITS.index(name), dtype=np.int8)


def numbered(keys: np.ndarray) -> np.ndarray:
    """(N,) int64: the same number for the same key (N,) str, -1 for an empty one."""
    unique, inverse = np.unique(keys, return_inverse=True)
    return np.where(keys == "", UNKNOWN, inverse.reshape(-1) - int("" in unique[:1])).astype(np.int64)


def age_groups(age: np.ndarray) -> np.ndarray:
    """(N,) int16: the place of ages in years (N,) in ``AGE_BINS``, -1 where the age is NaN."""
    place = np.searchsorted([3, 10, 20, 30, 40, 50, 60, 70], np.nan_to_num(age, nan=0.0), side="right")
    return np.where(np.isnan(age), UNKNOWN, place).astype(np.int16)


def _present(
    info: DatasetInfo,
    root: Path,
    options: ReadOptions,
    images: np.ndarray,
    known: np.ndarray | None,
    notes: Sequence[str],
) -> np.ndarray | None:
    if not options.look_for_images:
        return None
    present = look_for(root, images) if known is None else known
    if not present.any():
        said = "".join(f"; {note}" for note in notes)
        looked = f"looked for {images[0]} and so on"
        raise FaceDataError(
            f"{root}: none of the {len(images):,} images of {info.title} is here ({looked}){said}", "missing"
        )
    return present


def _maps(root: Path, folder: Path, ids: np.ndarray) -> np.ndarray:
    """(N,) str: ``folder/ID.png`` where that is there (an id is the image's stem, or its path where stems repeat)."""
    prefix = within(existing_folder(folder, "maps"), root).rstrip("/") + "/"
    names = np.array([f"{prefix}{i.removeprefix('/')}.png" for i in ids.tolist()], dtype=np.str_)
    return np.where(look_for(root, names), names, "")


def _facts(parts: Sequence[Part]) -> list[np.ndarray]:
    """What all parts say of their rows: arrays (N, C)."""
    every = [{**p.labels, "/attributes": p.attributes, "/age": p.age, "/identity": p.identity} for p in parts]
    names = [n for n in every[0] if all(e.get(n) is not None for e in every)]
    found = [np.concatenate([np.asarray(e[n]) for e in every]) for n in names]
    return [values if values.ndim == 2 else values[:, None] for values in found]


def _once(
    parts: Sequence[Part], images: np.ndarray, keep: np.ndarray, facts: Sequence[np.ndarray], losses: Losses
) -> np.ndarray:
    """``keep`` without rows whose image an earlier row has, and without all rows of an image whose ``facts`` differ.

    Those left out are counted and named.
    """
    if not len(keep):
        return keep
    codes = as_text(images[keep]).dictionary_encode().indices.to_numpy(zero_copy_only=False)
    first = np.unique(codes, return_index=True)[1]
    again = np.setdiff1d(np.arange(len(keep)), first, assume_unique=True)
    starts = np.cumsum([0, *(len(p.images) for p in parts)])

    def where(row: int) -> str:
        part = int(np.searchsorted(starts, row, side="right")) - 1
        return parts[part].rows.where(row - int(starts[part]))

    unlike = np.zeros(len(again), dtype=bool)
    for values in facts:
        a, b = values[keep[again]], values[keep[first[codes[again]]]]
        unlike |= ((a != b) & ((a == a) | (b == b))).any(axis=1)  # unknown ages are NaN
    contradicted = np.isin(codes, codes[again[unlike]])
    for reason, at, end in (
        ("listed twice", again[~contradicted[again]], ""),
        ("listed twice, with other labels", again[contradicted[again]], ", with other labels"),
    ):
        for i in at[:NAMED]:
            before = int(keep[first[codes[i]]])
            losses.add(reason, f"{where(int(keep[i]))}: {images[keep[i]]} was already in {where(before)}{end}")
        losses.add(reason, n=len(at[NAMED:]))
    losses.add("listed twice, with other labels", n=int(contradicted[first].sum()))
    return np.delete(keep, np.union1d(again, np.flatnonzero(contradicted)))


def _sources(parts: Sequence[Part], given: Sequence[Path] | None) -> list[tuple[Path, int]]:
    rows: dict[Path, int] = {}
    for p in parts:
        rows[p.rows.path] = rows.get(p.rows.path, 0) + len(p.images)
    return [(p, rows.get(p, 0)) for p in (rows if given is None else given) if p.is_file()]


def _drift(manifest: Manifest, published: Mapping[str, int]) -> list[str]:
    found = {name: int((manifest.split == SPLITS.index(name)).sum()) for name in SPLITS}
    if "all" in published:
        found = {"all": len(manifest)}
    differ = [
        f"{name} {n:,} ({published[name]:,} published)" for name, n in found.items() if n != published.get(name, n)
    ]
    return [f"usable rows differ from the published counts: {', '.join(differ)}"] if differ else []


def _absent(manifest: Manifest) -> list[str]:
    if manifest.present is None or manifest.present.all():
        return []
    absent = np.flatnonzero(~manifest.present)
    return [f"{len(absent):,} of {len(manifest):,} image files are not there (the first: {manifest.images[absent[0]]})"]
