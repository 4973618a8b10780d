"""LFW with the 73 attributes of Kumar et al. (ICCV 2009): ``lfw_attributes.txt``, 13,143 rows.

This is the common text file of real-valued scores of attribute classifiers. It is not LFWA (Liu et al., 2015, 40
names of CelebA), which is the data set ``lfwa``. Layout as published and as in public loaders; not checked on real
files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..files import read_lines
from ..manifest import Manifest
from ._places import annotation_files, below
from ._rows import Part, Rows, build, hash_split, numbered
from ._tables import read_table
from .base import DatasetInfo, ReadOptions

FILE = "lfw_attributes.txt"

COLUMNS = (
    "Male", "Asian", "White", "Black", "Baby", "Child", "Youth", "Middle Aged", "Senior", "Black Hair", "Blond Hair",
    "Brown Hair", "Bald", "No Eyewear", "Eyeglasses", "Sunglasses", "Mustache", "Smiling", "Frowning", "Chubby",
    "Blurry", "Harsh Lighting", "Flash", "Soft Lighting", "Outdoor", "Curly Hair", "Wavy Hair", "Straight Hair",
    "Receding Hairline", "Bangs", "Sideburns", "Fully Visible Forehead", "Partially Visible Forehead",
    "Obstructed Forehead", "Bushy Eyebrows", "Arched Eyebrows", "Narrow Eyes", "Eyes Open", "Big Nose", "Pointy Nose",
    "Big Lips", "Mouth Closed", "Mouth Slightly Open", "Mouth Wide Open", "Teeth Not Visible", "No Beard", "Goatee",
    "Round Jaw", "Double Chin", "Wearing Hat", "Oval Face", "Square Face", "Round Face", "Color Photo", "Posed Photo",
    "Attractive Man", "Attractive Woman", "Indian", "Gray Hair", "Bags Under Eyes", "Heavy Makeup", "Rosy Cheeks",
    "Shiny Skin", "Pale Skin", "5 o' Clock Shadow", "Strong Nose-Mouth Lines", "Wearing Lipstick", "Flushed Face",
    "High Cheekbones", "Brown Eyes", "Wearing Earrings", "Wearing Necktie", "Wearing Necklace",
)  # fmt: skip
"""The 73 columns of the file."""

VOCABULARY = tuple(c.replace("'", "").replace(" ", "_") for c in COLUMNS)
"""The same as CelebA writes names: ``5_o_Clock_Shadow``."""

_FOLDERS = ("lfw-deepfunneled", "lfw_funneled", "lfw", "images", ".")


def read(root: Path, options: ReadOptions) -> Manifest:
    """73 attributes, 1 where the score is above 0 and else 0 (our default), and the person as identity.

    There is no official split of these rows: it is a hash of the person (80/10/10, our default). Raises
    ``FaceDataError``.
    """
    (name, path), *_ = annotation_files(root, options, (FILE,)).items()
    needed = ("person", "imagenum", *COLUMNS)
    table = read_table(path, name, needed, separator="\t", skip=_comments(read_lines(path, name)))
    rows = Rows.of(table)
    people = rows.names(np.char.replace(table.strings("person"), " ", "_"))
    number = table.numbers("imagenum")
    bad = ~((number >= 1) & (number <= 9999) & (number == np.floor(number)))
    cells = table.columns["imagenum"]
    rows.drop(bad, "bad image number", lambda i: f"imagenum {cells[i].as_py()[:40]!r} is no number from 1 to 9999")
    attributes = np.zeros((len(table), len(COLUMNS)), dtype=np.int8)
    unread = np.zeros(len(table), dtype=bool)
    for i, column in enumerate(COLUMNS):
        scores = table.numbers(column)
        unread |= np.isnan(scores)
        attributes[:, i] = scores > 0
    rows.drop(unread, "unknown value", "a score is no number")
    digits = np.char.zfill(np.where(bad, 0, number).astype(np.int64).astype(np.str_), 4)
    images = np.char.add(np.char.add(np.char.add(people, "/"), people), np.char.add(np.char.add("_", digits), ".jpg"))
    part = Part(
        rows, np.char.add(below(root, options, _FOLDERS), images), hash_split(people), attributes=attributes,
        identity=numbered(people),
    )  # fmt: skip
    notes = ["the attributes are scores of classifiers above 0, not human labels; the split is a hash of the person"]
    return build(INFO, root, options, [part], vocabulary=VOCABULARY, published={"all": 13_143}, notes=notes)


def _comments(lines: list[bytes]) -> int:
    """How many lines precede that of the columns, which itself begins with ``#`` in the published file."""
    heads = [line.lstrip(b"#").strip().startswith(b"person\t") for line in lines[:5]]
    return heads.index(True) if True in heads else 0


INFO = DatasetInfo(
    name="lfw_attributes",
    title="LFW attributes (73 scores; LFWA is `lfwa`)",
    citation="Kumar, Berg, Belhumeur and Nayar, Attribute and Simile Classifiers for Face Verification, ICCV 2009; "
    "images: Huang et al., Labeled Faces in the Wild, 2007",
    licence="LFW is public for research; terms of the attribute file not checked",
    layout="lfw_attributes.txt\nlfw-deepfunneled/Aaron_Eckhart/Aaron_Eckhart_0001.jpg (or lfw_funneled/, lfw/)",
    read=read,
    groups=("Male",),
)
