"""FER2013 (Goodfellow et al., 2013) as folders of images, one a class.

Layout as in the widespread Kaggle copy (``train/angry/...``); not checked on real files. ``fer2013.csv`` itself
holds pixels as text, which LLaVA cannot read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import FaceDataError
from ..manifest import Manifest
from ._places import archive_names, below, joined
from ._rows import Part, Rows, build, constant_split
from .base import DatasetInfo, ReadOptions

EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Labels 0 to 6, and the names of the folders."""

FOLDERS = {"train": "train", "test": "test"}
PUBLISHED = {"train": 28_709, "test": 7_178}
"""test: PublicTest and PrivateTest together, as the folders have them."""

_ENDINGS = (".jpg", ".jpeg", ".png")


def read(root: Path, options: ReadOptions) -> Manifest:
    """The folder's name is the label. ``options.labels``: a ``.zip`` of the folders. Raises ``FaceDataError``."""
    prefix = below(root, options, (".",))
    base = options.images or root
    if options.labels is not None:
        listing, found = options.labels, archive_names(options.labels)
    else:
        listing = base
        found = [
            f"{f}/{e}/{file.name}"
            for f in FOLDERS for e in _subfolders(base / f) for file in sorted((base / f / e).iterdir())
        ]  # fmt: skip
    found = [n for n in found if n.lower().endswith(_ENDINGS) and n.count("/") >= 2]
    if not found:
        pixels = (
            " (fer2013.csv holds pixels as text, which LLaVA cannot read)" if (base / "fer2013.csv").exists() else ""
        )
        raise FaceDataError(f"{listing}: no images in train/angry/ and its like{pixels}", "empty")
    cells = np.array([n.rsplit("/", 3)[-3:] if n.count("/") > 2 else n.split("/") for n in found], dtype=np.str_)
    rows = Rows(listing, len(found), lambda i: f"{listing}/{found[i]}")
    place = {e: i for i, e in enumerate(EXPRESSIONS)}
    codes = np.array([place.get(e, -1) for e in cells[:, 1]], dtype=np.int16)
    rows.drop(codes < 0, "unknown expression", lambda i: f"folder {cells[i, 1]!s} is no expression")
    is_train, is_test = cells[:, 0] == "train", cells[:, 0] == "test"
    rows.drop(~is_train & ~is_test, "unknown split", lambda i: f"folder {cells[i, 0]!s} is neither train nor test")
    split = np.where(is_test, constant_split("test", len(found)), constant_split("train", len(found)))
    images = joined(prefix, rows.names(np.array(["/".join(c) for c in cells], dtype=np.str_)))
    part = Part(rows, images, split, {"expression": codes})
    return build(INFO, root, options, [part], classes={"expression": EXPRESSIONS}, published=PUBLISHED)


def _subfolders(folder: Path) -> list[str]:
    return sorted(f.name for f in folder.iterdir() if f.is_dir()) if folder.is_dir() else []


INFO = DatasetInfo(
    name="fer2013",
    title="FER2013",
    citation="Goodfellow et al., Challenges in Representation Learning: A Report on Three Machine Learning Contests, "
    "ICONIP 2013",
    licence="of the Kaggle competition of 2013 (not checked)",
    layout="train/angry/Training_3908.jpg\ntest/happy/PublicTest_....jpg (7 folders each)",
    read=read,
)
