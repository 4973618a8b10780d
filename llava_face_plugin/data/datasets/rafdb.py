"""RAF-DB, basic expressions (Li, Deng and Du, CVPR 2017). The label list was checked on the real file; the
images' names and the manual annotation follow the set's own README and were not checked on real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import FaceDataError
from ..files import find_file
from ..manifest import SPLITS, Manifest
from ._places import annotation_files, below, joined, small_files
from ._rows import Part, Rows, build
from ._tables import read_table
from .base import DatasetInfo, ReadOptions

FILES = ("list_patition_label.txt", "list_partition_label.txt")
"""The first name is spelled so in the data set."""

EXPRESSIONS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""Labels 1 to 7."""

MANUAL = {
    "gender": ("male", "female"),
    "race": ("Caucasian", "African-American", "Asian"),
    "age_group": ("0-3", "4-19", "20-39", "40-69", "70+"),
}
"""Codes from 0 on, in the last three lines of every ``Annotation/manual`` file; gender 2 is "unsure", here unknown."""

PUBLISHED = {"train": 12_271, "test": 3_068}
_ENDING = "_manu_attri.txt"


def read(root: Path, options: ReadOptions) -> Manifest:
    """Expression of every listed image, and gender, race and age group where the manual annotation is there.

    The split is the beginning of the name, train or test. Images are the aligned ones, or the original ones
    where those are not there. Raises ``FaceDataError``.
    """
    name, path = next(iter(annotation_files(root, options, FILES, ("EmoLabel", ".")).items()))
    table = read_table(path, name, ("image", "label"), separator=None, names=("image", "label"))
    rows = Rows.of(table)
    names = rows.names(table.strings("image"))
    start = np.char.partition(names, "_")[:, 0]
    split = np.select([start == "train", start == "test"], [SPLITS.index("train"), SPLITS.index("test")], -1)
    rows.drop(split < 0, "unknown split", lambda i: f"{names[i]!s} begins neither with train_ nor with test_")
    cells = table.columns["label"]
    codes = table.codes("label", [str(i) for i in range(1, 8)])
    rows.drop(codes < 0, "unknown expression", lambda i: f"{cells[i].as_py()[:40]!r} is no label from 1 to 7")
    labels, notes = {"expression": codes}, list[str]()
    manual = find_file(root, "manual", ("Annotation",)) or _folder(root / "Annotation" / "manual")
    if manual is not None:
        labels |= _manual(manual, np.char.replace(names, ".jpg", ""), notes)
    classes = {"expression": EXPRESSIONS} | {k: v for k, v in MANUAL.items() if k in labels}
    parts = [Part(rows, _images(root, options, names), split, labels)]
    return build(INFO, root, options, parts, classes=classes, published=PUBLISHED, notes=notes)


def _images(root: Path, options: ReadOptions, names: np.ndarray) -> np.ndarray:
    prefix = below(root, options, ("Image/aligned", "Image/original", "aligned", "original"))
    if prefix.rstrip("/").endswith("original"):
        return joined(prefix, names)
    return joined(prefix, np.char.replace(names, ".jpg", ""), "_aligned.jpg")


def _folder(path: Path) -> Path | None:
    return path if path.is_dir() else None


def _manual(path: Path, stems: np.ndarray, notes: list[str]) -> dict[str, np.ndarray]:
    """Columns of ``MANUAL``: (N,) int16, -1 where a file is missing, unreadable or says "unsure"."""
    unique, inverse = np.unique(stems, return_inverse=True)
    row = {str(stem): i for i, stem in enumerate(unique)}
    found = {name: np.full(len(unique), -1, dtype=np.int16) for name in MANUAL}
    bad: list[str] = []
    for name, data in small_files(path, _ENDING):
        cells = data.split()[-3:]
        at = row.get(name.removesuffix(_ENDING))
        if at is None:
            continue
        if len(data.split()) < 13 or any(len(c) != 1 or c not in b"01234" for c in cells):
            bad.append(name)
            continue
        for (label, values), cell in zip(MANUAL.items(), cells, strict=True):
            found[label][at] = int(cell) if int(cell) < len(values) else -1
    if bad:
        notes.append(f"{path}: {len(bad)} files are no manual annotation (the first: {bad[0]}); unknown there")
    if all((codes < 0).all() for codes in found.values()):
        raise FaceDataError(f"{path}: no file NAME{_ENDING} that fits the list; remove or repair it", "format")
    return {name: codes[inverse.reshape(-1)] for name, codes in found.items()}


INFO = DatasetInfo(
    name="rafdb",
    title="RAF-DB (basic)",
    citation="Li, Deng and Du, Reliable Crowdsourcing and Deep Locality-Preserving Learning for Expression "
    "Recognition in the Wild, CVPR 2017",
    licence="non-commercial research and education only, on request (README of the data set)",
    layout="EmoLabel/list_patition_label.txt\nImage/aligned/train_00001_aligned.jpg (or Image/original/train_00001.jpg)"
    "\nAnnotation/manual/train_00001_manu_attri.txt or manual.zip (optional: gender, race, age group)",
    read=read,
    groups=("gender", "race", "age_group"),
)
