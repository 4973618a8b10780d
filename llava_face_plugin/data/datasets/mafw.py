"""MAFW (Liu et al., ACM MM 2022): clips with 11 single expressions in 5 folds.

Layout as in the repository's README and in public loaders; not checked on real files.
"""

from __future__ import annotations

from pathlib import Path

from ..files import need_file
from ..manifest import Manifest
from ._clips import find_clips
from ._folds import clip_stems, fold_files
from ._places import below
from ._rows import Part, Rows, build, constant_split, hash_split
from ._tables import read_table
from .base import DatasetInfo, ReadOptions

_SET = "set_{fold}/{split}.txt"
LISTS = (
    "Train & Test Set/single/no_caption/" + _SET, "split/single/no_caption/" + _SET, "single/no_caption/" + _SET, _SET,
)  # fmt: skip
SINGLE = "single_label.txt"
"""All clips with their expression and captions, for copies without the folds."""

EXPRESSIONS = (
    "anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise", "contempt", "anxiety", "helplessness",
    "disappointment",
)  # fmt: skip

PUBLISHED = {
    1: {"train": 7_333, "test": 1_839}, 2: {"train": 7_335, "test": 1_837}, 3: {"train": 7_339, "test": 1_833},
    4: {"train": 7_340, "test": 1_832}, 5: {"train": 7_341, "test": 1_831},
}  # fmt: skip
"""Clips of each fold, as in public lists that were made from the official ones."""

COLUMNS = ("clip", "expression")

_FOLDERS = ("data/frames", "frames", "data/clips", "clips")


def read(root: Path, options: ReadOptions) -> Manifest:
    """Expressions of one fold: the first, or that of ``options.partition`` (``.../set_3/test.txt``).

    Its train clips are train, its test clips test; there is no val. Without folds ``single_label.txt`` is read,
    and the split is a hash of the name (80/10/10, our default). Raises ``FaceDataError``.
    """
    whole = options.labels if options.labels is not None and options.labels.is_file() else None
    fold, lists = (0, {}) if whole is not None else fold_files(root, options, LISTS)
    notes = [f"fold {fold} of 5", *(f"fold {fold} has no {s} list here" for s in ("train", "test") if s not in lists)]
    published = PUBLISHED.get(fold, {})
    if not lists:
        base = options.labels if options.labels is not None and whole is None else root
        path = need_file(base, SINGLE, ("caption-label", "caption-label/single_set", "labels", "."), given=whole)
        lists, published = {"all": (SINGLE, path)}, {"all": 9_172}
        notes = ["no folds here: the split is a hash of the name"]
    prefix = below(root, options, _FOLDERS)
    parts = []
    for split, (name, path) in lists.items():
        table = read_table(path, name, COLUMNS, separator=None, names=COLUMNS, cut=split == "all")
        rows = Rows.of(table)
        stems = clip_stems(rows, table, "clip")
        labels = {"expression": rows.coded(table, "expression", EXPRESSIONS)}
        found = find_clips(root, options, prefix, stems, ".mp4")
        notes += [f"{split}: {note}" for note in found.notes]
        splits = hash_split(stems) if split == "all" else constant_split(split, len(table))
        parts.append(Part(rows, found.images, splits, labels, present=found.present))
    return build(INFO, root, options, parts, classes={"expression": EXPRESSIONS}, published=published, notes=notes)


INFO = DatasetInfo(
    name="mafw",
    title="MAFW",
    citation="Liu et al., MAFW: A Large-scale, Multi-modal, Compound Affective Database for Dynamic Facial Expression "
    "Recognition in the Wild, ACM MM 2022",
    licence="non-commercial research only, by signed agreement; no further copies (README of MAFW-database/MAFW)",
    layout="Train & Test Set/single/no_caption/set_1/train.txt and test.txt, or caption-label/single_label.txt\n"
    "data/frames/00001/00001.jpg (or any frames' names)",
    read=read,
)
