"""FairFace (Karkkainen and Joo, WACV 2021): age group, gender and race. Checked on the real label files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..manifest import SPLITS, Manifest
from ._places import annotation_files, below, joined
from ._rows import AGE_BINS, Part, Rows, build
from ._tables import read_table
from .base import DatasetInfo, ReadOptions

FILES = ("fairface_label_train.csv", "fairface_label_val.csv")

CLASSES = {
    "age_group": AGE_BINS,
    "gender": ("Male", "Female"),
    "race": ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern"),
}
"""In the order of the authors' prediction code."""

PUBLISHED = {"train": 86_744, "val": 10_954}


def read(root: Path, options: ReadOptions) -> Manifest:
    """``age``, ``gender`` and ``race`` of ``file``; the split is the first folder of ``file``, train or val.

    The column ``service_test`` is not used. Raises ``FaceDataError``.
    """
    files = annotation_files(root, options, FILES)
    prefix = below(root, options, (".",))
    missing = [f"{name} is not there: its split is left out" for name in FILES if name not in files]
    parts = [_part(path, name, prefix) for name, path in files.items()]
    return build(INFO, root, options, parts, classes=CLASSES, published=PUBLISHED, notes=missing)


def _part(path: Path, member: str, prefix: str) -> Part:
    table = read_table(path, member, ("file", "age", "gender", "race"))
    rows = Rows.of(table)
    names = rows.names(table.strings("file"))
    folders = np.char.partition(names, "/")[:, 0]
    split = np.select([folders == "train", folders == "val"], [SPLITS.index("train"), SPLITS.index("val")], -1)
    rows.drop(split < 0, "unknown split", lambda i: f"{names[i]!s} is neither below train/ nor below val/")
    columns = {"age_group": "age", "gender": "gender", "race": "race"}
    labels = {label: rows.coded(table, column, CLASSES[label]) for label, column in columns.items()}
    return Part(rows, joined(prefix, names), split, labels)


INFO = DatasetInfo(
    name="fairface",
    title="FairFace",
    citation="Karkkainen and Joo, FairFace: Face Attribute Dataset for Balanced Race, Gender, and Age, WACV 2021",
    licence="CC BY 4.0 (README of joojs/fairface): name the authors, and say what was changed",
    layout="fairface_label_train.csv\nfairface_label_val.csv\ntrain/1.jpg\nval/1.jpg",
    read=read,
    groups=("gender", "race", "age_group"),
)
