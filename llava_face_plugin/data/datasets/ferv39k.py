"""FERV39k (Wang et al., CVPR 2022): clips from 22 scenes with 7 expressions.

Layout as in public loaders (``4_setups/All_scenes``); not checked on real files.
"""

from __future__ import annotations

from pathlib import Path

from ..manifest import Manifest
from ._clips import find_clips
from ._folds import clip_stems
from ._places import annotation_files, below
from ._rows import Part, Rows, build, constant_split
from ._tables import read_table
from .base import DatasetInfo, ReadOptions

FILES = {"train_All.csv": "train", "test_All.csv": "test"}
COLUMNS = ("clip", "expression")

EXPRESSIONS = ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")
"""The words of the lists, there with a capital, in DFEW's order."""

PUBLISHED = {"train": 31_088, "test": 7_847}


def read(root: Path, options: ReadOptions) -> Manifest:
    """Expressions of all scenes with the official train and test lists; there is no val. Raises ``FaceDataError``."""
    files = annotation_files(root, options, tuple(FILES), ("4_setups/All_scenes", "."))
    prefix = below(root, options, ("2_ClipsforFaceCrop",))
    parts, notes = [], [f"{name} is not there: its split is left out" for name in FILES if name not in files]
    for name, path in files.items():
        table = read_table(path, name, COLUMNS, separator=None, names=COLUMNS)
        rows = Rows.of(table)
        stems = clip_stems(rows, table, "clip")
        labels = {"expression": rows.coded(table, "expression", [e.capitalize() for e in EXPRESSIONS])}
        found = find_clips(root, options, prefix, stems, ".mp4")
        notes += [f"{FILES[name]}: {note}" for note in found.notes]
        split = constant_split(FILES[name], len(table))
        parts.append(Part(rows, found.images, split, labels, present=found.present))
    return build(INFO, root, options, parts, classes={"expression": EXPRESSIONS}, published=PUBLISHED, notes=notes)


INFO = DatasetInfo(
    name="ferv39k",
    title="FERV39k",
    citation="Wang et al., FERV39k: A Large-Scale Multi-Scene Dataset for Facial Expression Recognition in Videos, "
    "CVPR 2022",
    licence="non-commercial research only, on request; no further copies (README of wangyanckxx/FERV39k)",
    layout="4_setups/All_scenes/train_All.csv\n4_setups/All_scenes/test_All.csv (Action/Happy/0267 Happy)\n"
    "2_ClipsforFaceCrop/Action/Happy/0267/00001.jpg",
    read=read,
)
