"""Video sets with folds: which files belong to the chosen one, and the clips of a two-column list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import FaceDataError
from ..files import find_file
from ._rows import Rows
from ._tables import Table
from .base import ReadOptions

SPLITS = ("train", "test")
DEFAULT = 1


def fold_files(root: Path, options: ReadOptions, layouts: Sequence[str]) -> tuple[int, dict[str, tuple[str, Path]]]:
    """(fold, split -> (name of the list, the file or ``.zip`` that holds it)); a fold that is not there is empty.

    ``layouts``: paths below the root (or ``options.labels``, a folder) with ``{split}`` and ``{fold}``. The fold
    is the number after "set_" in ``options.partition``, the path of one of its files, and else the first.
    """
    fold, given = DEFAULT, options.partition
    if given is not None:
        match = re.search(r"set_?(\d)", "/".join(given.parts[-2:]))
        if match is None or not given.exists():
            raise FaceDataError(f"{given}: expected a file of one fold, as {layouts[0].format(split='test', fold=3)}")
        fold = int(match[1])
    base = root if options.labels is None else options.labels
    found: dict[str, tuple[str, Path]] = {}
    for split in SPLITS:
        for layout in layouts:
            name = layout.format(split=split, fold=fold)
            path = find_file(base, name)
            if path is not None:
                found[split] = (Path(name).name, path)
                break
    return fold, found


def no_lists(root: Path, layouts: Sequence[str]) -> FaceDataError:
    shown = layouts[0].format(split="train", fold=DEFAULT)
    return FaceDataError(f"{root}: no {shown}, plain or zipped", "missing")


def clip_stems(rows: Rows, table: Table, column: str) -> np.ndarray:
    """(N,) str: the names of clips without a video's ending; bad names are left out."""
    names = rows.names(table.strings(column))
    return np.array([re.sub(r"\.(mp4|avi|flv|mkv|mov|webm)$", "", n) for n in names.tolist()], dtype=np.str_)
