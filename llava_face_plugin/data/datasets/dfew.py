"""DFEW (Jiang et al., ACM MM 2020): film clips with 7 expressions in 5 folds, those with a single label.

Layout as in public loaders (``EmoLabel_DataSplit``); not checked on real files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..manifest import Manifest
from ._clips import find_clips
from ._folds import clip_stems, fold_files, no_lists
from ._places import below
from ._rows import Part, Rows, build, constant_split
from ._tables import read_table
from .base import DatasetInfo, ReadOptions

LISTS = (
    "EmoLabel_DataSplit/{split}(single-labeled)/set_{fold}.csv",
    "EmoLabel_DataSplit/{split}_single-labeled/set_{fold}.csv",
    "{split}(single-labeled)/set_{fold}.csv",
    "label/single_{split}set_{fold}.csv",
)

EXPRESSIONS = ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")
"""Labels 1 to 7; 0: annotators did not agree on one."""

PUBLISHED = {
    1: {"train": 9_356, "test": 2_341}, 2: {"train": 9_356, "test": 2_341}, 3: {"train": 9_357, "test": 2_340},
    4: {"train": 9_358, "test": 2_339}, 5: {"train": 9_361, "test": 2_336},
}  # fmt: skip
"""Clips of each fold, as in public lists that were made from the official ones."""

_FOLDERS = ("Clip/clip_224x224", "Clip/jpg_256", "Clip/clip_224x224_16f", "data", "Clip/original")


def read(root: Path, options: ReadOptions) -> Manifest:
    """Expressions of one fold: the first, or that of ``options.partition`` (``.../set_3.csv``).

    Its train clips are train, its test clips test; there is no val. Raises ``FaceDataError``.
    """
    fold, lists = fold_files(root, options, LISTS)
    if not lists:
        raise no_lists(options.labels or root, LISTS)
    parts, notes = [], [f"fold {fold} of 5"]
    for split, (name, path) in lists.items():
        rows, stems, labels = _list(path, name)
        found = find_clips(root, options, below(root, options, _FOLDERS), stems, ".mp4")
        notes += [f"{split}: {note}" for note in found.notes]
        splits = constant_split(split, len(stems))
        parts.append(Part(rows, found.images, splits, {"expression": labels}, present=found.present))
    notes += [f"fold {fold} has no {split} list here" for split in ("train", "test") if split not in lists]
    published = PUBLISHED.get(fold, {})
    return build(INFO, root, options, parts, classes={"expression": EXPRESSIONS}, published=published, notes=notes)


def _list(path: Path, name: str) -> tuple[Rows, np.ndarray, np.ndarray]:
    """Rows, the clips' numbers with five digits (N,) str, and labels (N,) int16."""
    table = read_table(path, name, ("video_name", "label"))
    rows = Rows.of(table)
    stems = np.char.zfill(clip_stems(rows, table, "video_name"), 5)
    rows.drop(~np.char.isdecimal(stems), "bad image name", lambda i: f"{stems[i]!s} is no clip's number")
    codes = rows.coded(table, "label", [str(i) for i in range(8)])
    rows.drop(codes == 0, "no single label", "label 0: no single expression")
    return rows, stems, codes - np.int16(1)


INFO = DatasetInfo(
    name="dfew",
    title="DFEW",
    citation="Jiang et al., DFEW: A Large-Scale Database for Recognizing Dynamic Facial Expressions in the Wild, "
    "ACM MM 2020",
    licence="non-commercial research, by signed agreement (as generally known; not checked)",
    layout="EmoLabel_DataSplit/train(single-labeled)/set_1.csv\nEmoLabel_DataSplit/test(single-labeled)/set_1.csv\n"
    "Clip/clip_224x224/00001/00001_00001.jpg",
    read=read,
)
