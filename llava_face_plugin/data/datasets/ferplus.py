"""FER+ (Barsoum et al., ICMI 2016): FER2013's images with the votes of 10 annotators.

The label file was checked on the real one; the images' folders follow the script that its authors publish, and
were not checked on real files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..manifest import SPLITS, Manifest
from ._places import annotation_files, below
from ._rows import Part, Rows, build
from ._tables import Table, read_table
from .base import DatasetInfo, ReadOptions

FILE = "fer2013new.csv"

EXPRESSIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
VOTES = (*EXPRESSIONS, "unknown", "NF")
"""The columns of votes; NF: no face."""

USAGES = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
FOLDERS = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}
"""Where the authors' ``generate_training_data.py`` writes the PNGs."""

PUBLISHED = {"train": 28_709, "val": 3_589, "test": 3_589}
"""Rows of the label file, those without a usable label included."""

ANNOTATORS = 10


def read(root: Path, options: ReadOptions) -> Manifest:
    """The expression with most of the votes (our default: plurality).

    Left out and counted: no face or "unknown" has most votes, two have equally many, no image name, votes that
    are no whole numbers from 0 to 10 or more than 10 in all. Fewer than 10 votes are used, and noted.
    LLaVA reads image files: the PNGs have to be written from ``fer2013.csv`` by FER+'s own script. Raises
    ``FaceDataError``.
    """
    (name, path), *_ = annotation_files(root, options, (FILE,), (".", "data")).items()
    table = read_table(path, name, ("Usage", "Image name", *VOTES))
    rows, notes = Rows.of(table), list[str]()
    names = table.strings("Image name")
    rows.drop(names == "", "no image name", "no image name (in the official file these show no face)")
    rows.names(names)
    usage = rows.coded(table, "Usage", tuple(USAGES))
    label = _majority(table, rows, notes)
    places = np.array([FOLDERS[u] for u in USAGES])[usage]
    prefix = below(root, options, (".",) if (root / "FER2013Train").is_dir() else ("data", "."))
    images = np.char.add(np.char.add(prefix, np.char.add(places, "/")), names)
    split = np.array([SPLITS.index(s) for s in USAGES.values()])[usage]
    if options.look_for_images and not any((root / prefix / f).is_dir() for f in FOLDERS.values()):
        # First, for the error says it where no image is there.
        notes.insert(0, "LLaVA reads image files: FER+'s generate_training_data.py writes them from fer2013.csv")
    parts = [Part(rows, images, split, {"expression": label})]
    rows_in = {s: int((split == SPLITS.index(s)).sum()) for s in USAGES.values()}
    if rows_in != PUBLISHED:
        notes.append(f"rows by split {rows_in}, published {PUBLISHED}")
    return build(INFO, root, options, parts, classes={"expression": EXPRESSIONS}, notes=notes)


def _majority(table: Table, rows: Rows, notes: list[str]) -> np.ndarray:
    """(N,) int16: the place in ``VOTES`` of the column with most votes; other rows are left out."""
    votes = np.stack([table.codes(c, [str(n) for n in range(ANNOTATORS + 1)]) for c in VOTES], axis=1)
    total = votes.sum(axis=1)
    bad = (votes < 0).any(axis=1) | (total > ANNOTATORS) | (total == 0)
    rows.drop(bad, "bad votes", f"expected 1 to {ANNOTATORS} votes in {len(VOTES)} whole numbers")
    few = np.flatnonzero((total < ANNOTATORS) & rows.keep)
    if len(few):
        notes.append(f"{rows.where(int(few[0]))}: {total[few[0]]} votes of {ANNOTATORS} ({len(few)} such rows, used)")
    best = votes.argmax(axis=1).astype(np.int16)
    tied = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) > 1
    rows.drop(~tied & (best == VOTES.index("NF")), "no face", "most votes are for NF, no face")
    rows.drop(~tied & (best == VOTES.index("unknown")), "most votes unknown", "most votes are for unknown")
    rows.drop(tied, "tied votes", "two columns have equally many votes")
    return best


INFO = DatasetInfo(
    name="ferplus",
    title="FER+",
    citation="Barsoum, Zhang, Canton Ferrer and Zhang, Training Deep Networks for Facial Expression Recognition with "
    "Crowd-Sourced Label Distribution, ICMI 2016",
    licence="labels: MIT (repository microsoft/FERPlus); images: FER2013's terms (Kaggle 2013; not checked)",
    layout="fer2013new.csv\nFER2013Train/fer0000000.png, FER2013Valid/, FER2013Test/ (written by FER+'s own script)",
    read=read,
)
