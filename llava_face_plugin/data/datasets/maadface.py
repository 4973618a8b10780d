"""MAAD-Face (Terhoerst et al., 2021): 47 attributes of 3.3 million images of VGGFace2.

Layout as published (``MAAD_Face.csv``) and as in public loaders; not checked on real files.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ...errors import FaceDataError
from ..files import find_file, read_text
from ..manifest import SPLITS, UNKNOWN, Manifest
from ._places import annotation_files, below
from ._rows import Part, Rows, build, hash_split
from ._tables import Table, read_table
from .base import DatasetInfo, ReadOptions

FILE = "MAAD_Face.csv"

ATTRIBUTES = (
    "Male", "Young", "Middle_Aged", "Senior", "Asian", "White", "Black", "Rosy_Cheeks", "Shiny_Skin", "Bald",
    "Wavy_Hair", "Receding_Hairline", "Bangs", "Sideburns", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair",
    "No_Beard", "Mustache", "5_o_Clock_Shadow", "Goatee", "Oval_Face", "Square_Face", "Round_Face", "Double_Chin",
    "High_Cheekbones", "Chubby", "Obstructed_Forehead", "Fully_Visible_Forehead", "Brown_Eyes", "Bags_Under_Eyes",
    "Bushy_Eyebrows", "Arched_Eyebrows", "Mouth_Closed", "Smiling", "Big_Lips", "Big_Nose", "Pointy_Nose",
    "Heavy_Makeup", "Wearing_Hat", "Wearing_Earrings", "Wearing_Necktie", "Wearing_Lipstick", "No_Eyewear",
    "Eyeglasses", "Attractive",
)  # fmt: skip

_VALUES = ("-1", "0", "1")
_MEANING = np.array([0, UNKNOWN, 1], dtype=np.int8)
"""In the file -1 is no, 0 undefined, 1 yes; here no is 0 and undefined -1."""

_FOLDERS = ("", "data/", "VGGFace2/", "VGGFace2/data/")


def read(root: Path, options: ReadOptions) -> Manifest:
    """47 attributes of every row, and the person as identity.

    The split is VGGFace2's: of ``identity_meta.csv`` (column Flag: 1 train, 0 test; ``options.partition``), else of
    the folder train/ or test/ in which a person's images are, else a hash of the person (80/10/10, our default).
    No person is in two splits. Raises ``FaceDataError``.
    """
    (name, path), *_ = annotation_files(root, options, (FILE,), (".", "maad", "meta")).items()
    table = read_table(path, name, ("Filename", *ATTRIBUTES))
    rows = Rows.of(table)
    names = rows.names(table.strings("Filename"))
    person = _people(rows, names)
    attributes = np.zeros((len(table), len(ATTRIBUTES)), dtype=np.int8)
    wrong = np.zeros(len(table), dtype=bool)
    for i, attribute in enumerate(ATTRIBUTES):
        codes = table.codes(attribute, _VALUES)
        wrong |= codes < 0
        attributes[:, i] = _MEANING[codes]
    rows.drop(wrong, "unknown value", lambda i: _wrong_cell(table, i))
    split, places, notes = _splits(root, options, person)
    images = np.char.add(places, names)
    part = Part(rows, images, split, attributes=attributes, identity=person)
    if not 3.2e6 < len(table) < 3.4e6:
        notes.append(f"{len(table):,} rows; the published set has 3.3 million images of more than 9,000 persons")
    return build(INFO, root, options, [part], vocabulary=ATTRIBUTES, notes=notes)


def _people(rows: Rows, names: np.ndarray) -> np.ndarray:
    """(N,) int64: the number of the person, 2 in ``n000002/0001_01.jpg``. The column Identity is not used."""
    folders = np.char.partition(names, "/")[:, 0]
    unique, inverse = np.unique(folders, return_inverse=True)
    numbers = np.array([int(u[1:]) if u[:1] == "n" and u[1:8].isdecimal() and len(u) < 9 else -1 for u in unique])
    person = numbers[inverse.reshape(-1)].astype(np.int64)
    rows.drop(person < 0, "bad image name", lambda i: f"{names[i]!s} is not below a person's folder as n000002/")
    return person


def _wrong_cell(table: Table, i: int) -> str:
    for attribute in ATTRIBUTES:
        cell = table.columns[attribute][i].as_py()
        if cell.strip() not in _VALUES:
            return f"{attribute} is {cell[:40]!r}; expected -1 (no), 0 (undefined) or 1 (yes)"
    return "expected -1, 0 or 1"


def _splits(root: Path, options: ReadOptions, person: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(split (N,), what precedes the names (N,), notes)."""
    prefix, base = below(root, options, (".",)), options.images or root
    place = next((f for f in _FOLDERS if (base / f / "train").is_dir() or (base / f / "test").is_dir()), None)
    in_train, in_test = (
        np.isin(person, _numbers(base / place / s) if place is not None else []) for s in ("train", "test")
    )
    meta = options.partition or find_file(root, "identity_meta.csv", (".", "meta"))
    if meta is not None:
        official = _flags(meta, person)
    else:
        official = np.select([in_test, in_train], [SPLITS.index("test"), SPLITS.index("train")], -1)
    lost = int((official < 0).sum())
    notes = [f"{lost:,} rows of persons without an official split here: split by a hash of the person"] if lost else []
    split = np.where(official < 0, hash_split(person.astype(np.str_)), official).astype(np.int8)
    middle = np.where(in_test, "test/", "train/") if place is not None else np.full(len(person), "")
    return split, np.char.add(prefix + (place or ""), middle), notes


def _numbers(folder: Path) -> list[int]:
    """The persons who have a folder here."""
    found = (f.name for f in folder.iterdir() if f.is_dir()) if folder.is_dir() else ()
    return [int(n[1:]) for n in found if n[:1] == "n" and n[1:].isdecimal()]


def _flags(path: Path, person: np.ndarray) -> np.ndarray:
    """(N,) int: the official split by VGGFace2's list of persons, -1 for a person who is not in it."""
    lines = re.findall(r"(?m)^n(\d+),.*,\s*([01])\s*,\s*[mf]\s*$", read_text(path, "identity_meta.csv"))
    if not lines:
        raise FaceDataError(f"{path}: no line as 'n000002, Name, 315, 1, m' (Class_ID, ..., Flag, Gender)", "format")
    known = np.array(sorted((int(n), SPLITS.index("train" if flag == "1" else "test")) for n, flag in lines))
    at = np.clip(np.searchsorted(known[:, 0], person), 0, len(known) - 1)
    return np.where(known[at, 0] == person, known[at, 1], -1)


INFO = DatasetInfo(
    name="maadface",
    title="MAAD-Face",
    citation="Terhoerst et al., MAAD-Face: A Massively Annotated Attribute Dataset for Face Images, IEEE Transactions "
    "on Information Forensics and Security, 2021",
    licence="annotations: CC BY-SA 4.0 (README of pterhoer/MAAD-Face); images: VGGFace2's terms (not checked)",
    layout="MAAD_Face.csv\ntrain/n000002/0001_01.jpg, test/n000001/... (VGGFace2)\nidentity_meta.csv (optional)",
    read=read,
    groups=("Male",),
)
