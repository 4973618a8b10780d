"""LFWA (Liu et al., 2015): 13,143 images of LFW with the 40 attributes of CelebA, in MATLAB files.

Not checked on real files. As public loaders read them: ``lfw_att_40.mat`` has ``AttrName`` (40 cells of text), ``name``
(cells as ``Abdullah_Gul\\Abdullah_Gul_0001.jpg``) and ``label`` (N x 40 of 0 and 1); ``indices_train_test.mat`` has
``indices_img_train`` and ``indices_img_test`` (rows, from 1) and the same of identities, which are not read: who is on
an image says its folder. How ``AttrName`` writes the names was not seen: they are compared by letters and digits.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ...errors import FaceDataError
from ...labels import CELEBA_ATTRIBUTES
from ..celeba_files import check_vocabulary
from ..files import need_file
from ..manifest import SPLITS, Manifest
from ..mat import read_mat
from ._places import annotation_files, below
from ._rows import Part, Rows, build, numbered
from .base import DatasetInfo, ReadOptions

ATTRIBUTES, PARTITION = "lfw_att_40.mat", "indices_train_test.mat"
_FOLDERS = ("lfw", "lfw-deepfunneled", "lfw_funneled", "images", ".")


def read(root: Path, options: ReadOptions) -> Manifest:
    """40 attributes, the person as identity, and the official train and test. There is no val. Raises
    ``FaceDataError``; ``FaceHostError`` without h5py.
    """
    (labels,) = annotation_files(root, options, (ATTRIBUTES,)).values()
    partition = need_file(root, PARTITION, given=options.partition, option="--partition")
    found = read_mat(labels, ATTRIBUTES, numbers=("label",), cells=("AttrName", "name"))
    vocabulary = _vocabulary(found["AttrName"].tolist(), f"{labels}: AttrName")
    values = found["label"]
    n = len(found["name"])
    if values.shape != (n, len(vocabulary)):
        expected = f"{n} names and {len(vocabulary)} attributes"
        raise FaceDataError(f"{labels}: label is {' x '.join(map(str, values.shape))}, but there are {expected}")
    split = _split(partition, labels, n)

    rows = Rows(labels, n, lambda i: f"{labels}, row {i + 1}")
    names = rows.names(np.char.replace(found["name"], "\\", "/"))
    person, inside, _ = np.char.partition(names, "/").T if n else np.zeros((3, 0), dtype=np.str_)
    rows.drop(inside == "", "bad image name", lambda i: f"{str(names[i])!a} is not in a person's folder")
    bad = ~np.isin(values, (0, 1))
    unread = np.asarray(bad.any(axis=1))
    rows.drop(unread, "unknown value", lambda i: f"a value is {values[i][bad[i]][0]:g}; expected 0 or 1")
    rows.drop(split < 0, "no official split", f"it is in neither list of {partition}")
    part = Part(
        rows, np.char.add(below(root, options, _FOLDERS), names), split, attributes=(values == 1).astype(np.int8),
        identity=numbered(person),
    )  # fmt: skip
    published = {"train": 6_263, "test": 6_880}
    return build(
        INFO, root, options, [part], vocabulary=vocabulary, published=published, sources=[labels, partition]
    )  # fmt: skip


def _vocabulary(names: list[str], where: str) -> tuple[str, ...]:
    """The file's attributes in its order, as CelebA writes them."""

    def key(name: str) -> str:
        return re.sub(r"[^a-z0-9]", "", name.lower())

    known = {key(a): a for a in CELEBA_ATTRIBUTES}
    vocabulary = tuple(known.get(key(name), name) for name in names)
    check_vocabulary(vocabulary, where)
    return vocabulary


def _split(path: Path, labels: Path, n: int) -> np.ndarray:
    """(N,) int8: the official split, -1 for a row that is in neither list."""
    split = np.full(n, -1, dtype=np.int8)
    lists = {"train": "indices_img_train", "test": "indices_img_test"}
    found = read_mat(path, PARTITION, numbers=tuple(lists.values()))
    for name, variable in lists.items():
        numbers = found[variable].reshape(-1)
        bad = ~((numbers >= 1) & (numbers <= n) & (numbers == np.floor(numbers)))
        if bad.any():
            at = int(np.argmax(bad))
            raise FaceDataError(
                f"{path}: {variable}, entry {at + 1}: {numbers[at]:g} is no row of {labels}, which has {n}"
            )
        unique, counts = np.unique(numbers.astype(np.int64) - 1, return_counts=True)
        again = unique[(counts > 1) | (split[unique] >= 0)]
        if len(again):
            raise FaceDataError(f"{path}: {variable}: row {again[0] + 1} of {labels} occurs twice")
        split[unique] = SPLITS.index(name)
    return split


INFO = DatasetInfo(
    name="lfwa",
    title="LFWA",
    citation="Liu, Luo, Wang, Tang: Deep Learning Face Attributes in the Wild. ICCV 2015; "
    "images: Huang et al., Labeled Faces in the Wild, 2007",
    licence="non-commercial research purposes only, as CelebA (known from the data set's page, not re-read)",
    layout="lfw_att_40.mat\nindices_train_test.mat\n"
    "lfw/Abdullah_Gul/Abdullah_Gul_0001.jpg (or lfw-deepfunneled/, lfw_funneled/)",
    read=read,
    rules="celeba",
    groups=("Male", "Young"),
)
