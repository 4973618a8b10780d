"""AffectNet (Mollahosseini, Hasani and Mahoor, 2019), the manually annotated set, 8 expressions.

Both layouts, the CSVs of the first release and the folders of ``.npy`` files of the second, are as in public
loaders; not checked on real files. The set with 7 expressions, without contempt, is ``affectnet7``.
"""

from __future__ import annotations

import functools
import io
import re
from pathlib import Path

import numpy as np

from ...errors import FaceDataError
from ..files import read_bytes
from ..manifest import Manifest
from ._places import annotation_files, below, joined, small_files
from ._rows import Part, Rows, build, constant_split
from ._tables import Table, read_table
from .base import DatasetInfo, ReadOptions

FILES = {"training.csv": "train", "validation.csv": "val"}
FOLDERS = {"train_set": "train", "val_set": "val"}
COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression",
    "valence", "arousal",
)  # fmt: skip

EXPRESSIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
"""Labels 0 to 7."""

NO_EXPRESSION = ("none", "uncertain", "no face")
"""Labels 8 to 10 of the first release: left out and counted."""

PUBLISHED = {8: {"train": 287_651, "val": 4_000}, 7: {"train": 283_901, "val": 3_500}}
"""Usable images of the manual set by the number of classes, as in the literature; not checked."""

_IMAGES = ("Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images", ".")


def read(root: Path, options: ReadOptions) -> Manifest:
    """Expressions with the official train and val split. Raises ``FaceDataError``."""
    return read_classes(INFO, 8, root, options)


def read_classes(info: DatasetInfo, count: int, root: Path, options: ReadOptions) -> Manifest:
    """As ``read``, with the first ``count`` expressions; those beyond are left out and counted."""
    base = options.labels if options.labels is not None and options.labels.is_dir() else root
    folders = [f for f in FOLDERS if any((base / f / a).exists() for a in ("annotations", "annotations.zip"))]
    if folders and not (options.labels is not None and options.labels.is_file()):
        parts = [_folder_part(base / f, f, count, below(root, options, (".",))) for f in folders]
        missing = [f"{f}/ is not there: its split is left out" for f in FOLDERS if f not in folders]
    else:
        files = annotation_files(root, options, tuple(FILES), (".", "Manually_Annotated_file_lists"))
        prefix = below(root, options, _IMAGES)
        parts = [_csv_part(path, name, count, prefix) for name, path in files.items()]
        missing = [f"{name} is not there: its split is left out" for name in FILES if name not in files]
    classes = {"expression": EXPRESSIONS[:count]}
    return build(info, root, options, parts, classes=classes, published=PUBLISHED[count], notes=missing)


def _csv_part(path: Path, name: str, count: int, prefix: str) -> Part:
    table = _table(path, name)
    rows = Rows.of(table)
    images = joined(prefix, rows.names(table.strings(COLUMNS[0])))
    codes = _expressions(rows, table.codes("expression", [str(i) for i in range(11)]), count)
    return Part(rows, images, constant_split(FILES[name], len(table)), {"expression": codes})


def _table(path: Path, name: str) -> Table:
    """Some copies of the CSVs have no header line."""
    first = read_bytes(path, name).lstrip()[:4096].splitlines()[:1]
    headless = bool(first) and re.match(rb'"?[^,"]+\.\w{2,4}"?,', first[0]) is not None
    return read_table(path, name, (COLUMNS[0], "expression"), names=COLUMNS if headless else None)


def _folder_part(folder: Path, name: str, count: int, prefix: str) -> Part:
    """``annotations/N_exp.npy`` (or ``annotations.zip``): one number, as text or integer; ``images/N.jpg``."""
    place = folder / "annotations"
    place = place if place.is_dir() else folder / "annotations.zip"
    found = [(n, _number(data)) for n, data in small_files(place, "_exp.npy")]
    if not found:
        raise FaceDataError(f"{place}: no file N_exp.npy", "empty")
    rows = Rows(place, len(found), lambda i: f"{place}/{found[i][0]}")
    codes = np.array([n for _, n in found], dtype=np.int16)
    codes = _expressions(rows, codes, count)
    stems = np.array([n.removesuffix("_exp.npy") for n, _ in found], dtype=np.str_)
    images = joined(f"{prefix}{name}/images/", rows.names(stems), ".jpg")
    return Part(rows, images, constant_split(FOLDERS[name], len(found)), {"expression": codes})


@functools.lru_cache(maxsize=64)  # hundreds of thousands of files, of which about ten differ
def _number(data: bytes) -> int:
    """The label in a ``.npy`` file, -1 if there is none. Pickles are never opened."""
    try:
        text = str(np.lib.format.read_array(io.BytesIO(data), allow_pickle=False).item())
    except Exception:  # numpy lets SyntaxError, TokenError, MemoryError and more out of a damaged header
        return -1
    return int(text) if re.fullmatch(r"\d{1,2}", text) else -1


def _expressions(rows: Rows, codes: np.ndarray, count: int) -> np.ndarray:
    for i, what in enumerate(NO_EXPRESSION, start=8):
        rows.drop(codes == i, f"expression is {what}", f"expression {i} ({what})")
    rows.drop((codes < 0) | (codes > 10), "unknown expression", "the expression is no number from 0 to 10")
    if count < len(EXPRESSIONS):
        rows.drop(codes >= count, "expression is contempt", "contempt is not one of the 7 expressions")
    return codes


INFO = DatasetInfo(
    name="affectnet",
    title="AffectNet (8 expressions)",
    citation="Mollahosseini, Hasani and Mahoor, AffectNet: A Database for Facial Expression, Valence, and Arousal "
    "Computing in the Wild, IEEE Transactions on Affective Computing, 2019",
    licence="research only, by signed agreement (as generally known; not checked)",
    layout="training.csv\nvalidation.csv\nManually_Annotated_Images/689/....jpg\n(or) train_set/annotations/0_exp.npy\n"
    "train_set/images/0.jpg\nval_set/...",
    read=read,
)
