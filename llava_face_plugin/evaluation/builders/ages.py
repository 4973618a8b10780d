"""Ages in years of AgeDB and MORPH II, which come with files of their own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...data.datasets._rows import AGE_BINS, age_groups, hash_split
from ...data.datasets._tables import read_table
from ...data.files import source as file_record
from ...data.manifest import SPLITS
from ...errors import FaceDataError
from ..questions import Question
from ._shown import Shown
from .base import Benchmark, Source
from .labels import AGE_QUESTION

ALL = "all"
_AGEDB_NAME = re.compile(r"^\d+_(?P<person>.+)_(?P<age>\d{1,3})_(?P<gender>[mf])\.jpe?g$", re.IGNORECASE)
_GENDERS = {"m": "male", "f": "female"}

MORPH_FILES = ("morph_2008_nonCommercial.csv", "MORPH_Album2_comp.csv", "morph.csv")
MORPH_COLUMNS = ("id_num", "race", "gender", "age", "photo")
MORPH_RACES = {"B": "Black", "W": "White", "A": "Asian", "H": "Hispanic", "O": "other"}
OLDEST = 120


def agedb_questions(source: Source) -> Iterator[Question]:
    """Every image whose name is ``NUMBER_PersonName_AGE_SEX.jpg``, below ``--root`` in any folder.

    Other names of images are counted. Raises ``FaceDataError`` where there is none of these.
    """
    names = sorted(_jpegs(source.root))
    found = [(name, match) for name in names if (match := _AGEDB_NAME.match(name.rpartition("/")[2]))]
    if not found:
        raise FaceDataError(f"{source.root}: no image named as 0_MariaCallas_35_f.jpg", "empty")
    if len(found) < len(names):
        source.skipped["name is not NUMBER_PersonName_AGE_SEX.jpg"] += len(names) - len(found)
    people = [match["person"] for _, match in found]
    kept = _of_split(source, people)
    for (name, match), person, keep in zip(found, people, kept, strict=True):
        age = int(match["age"])
        if keep and _usable(source, age):
            groups = {"gender": _GENDERS[match["gender"].lower()], "age_group": _bin(age)}
            yield _asked(name, f"person {person}", groups, age)


def morph_questions(source: Source) -> Iterator[Question]:
    """Every row of the CSV of MORPH II; rows without a person, a photo or a whole age are counted.

    Raises ``FaceDataError`` where the CSV is not there or lacks a column.
    """
    path = next((source.root / name for name in MORPH_FILES if (source.root / name).is_file()), None)
    if path is None:
        raise FaceDataError(f"{source.root}: none of {', '.join(MORPH_FILES)} is here", "missing")
    table = read_table(path, path.name, MORPH_COLUMNS)
    source.sources.append(file_record(path, len(table)))
    if table.ragged:
        source.skipped["wrong number of columns"] += len(table.ragged)
    person, race, gender, photo = (table.strings(c).tolist() for c in ("id_num", "race", "gender", "photo"))
    ages = table.numbers("age").tolist()
    kept = _of_split(source, person)
    seen: set[str] = set()
    for row, keep in enumerate(kept):
        name = photo[row].replace("\\", "/")
        if not keep:
            continue
        if not (person[row] and name and ".." not in name and float(ages[row]).is_integer()):
            source.skipped["no person, photo or whole age"] += 1
        elif name in seen:
            source.skipped["photo listed twice"] += 1
        elif _usable(source, int(ages[row])):
            seen.add(name)
            groups = {
                "gender": _GENDERS.get(gender[row].lower(), ""), "race": MORPH_RACES.get(race[row].upper(), ""),
                "age_group": _bin(int(ages[row])),
            }  # fmt: skip
            yield _asked(name, f"person {person[row]}", groups, int(ages[row]))


def _jpegs(root: Path) -> Iterator[str]:
    """Paths below ``root`` of the images that are called .jpg or .jpeg."""
    for folder, _, names in os.walk(root):
        inside = Path(folder).relative_to(root)
        yield from ((inside / n).as_posix() for n in names if n.lower().endswith((".jpg", ".jpeg")))


def _of_split(source: Source, people: list[str]) -> list[bool]:
    """Who belongs to the split: there is no official one, so it is a hash of the person (80/10/10, our default)."""
    if source.split == ALL:
        return [True] * len(people)
    source.notes.append(f"split {source.split}: a hash of the person; the benchmark's own is all images")
    return (hash_split(np.array(people, dtype=np.str_)) == SPLITS.index(source.split)).tolist()


def _usable(source: Source, age: int) -> bool:
    if not 0 <= age <= OLDEST:
        source.skipped[f"age not from 0 to {OLDEST}"] += 1
    return 0 <= age <= OLDEST


def _bin(age: int) -> str:
    return AGE_BINS[int(age_groups(np.array([float(age)]))[0])]


def _asked(image: str, person: str, groups: dict[str, str], age: int) -> Question:
    return Shown(-1, image, person, groups, images=(image,)).number("age", AGE_QUESTION, age)


BENCHMARKS = (
    Benchmark(
        "face_agedb_age", "AgeDB: age in years", agedb_questions, split=ALL, splits=(ALL, *SPLITS),
        licence="non-commercial research only (as generally known from the data set's page; not checked)",
        layout="AgeDB/0_MariaCallas_35_f.jpg (number_person_age_sex, in any folder)",
    ),
    Benchmark(
        "face_morph_age", "MORPH II: age in years", morph_questions, split=ALL, splits=(ALL, *SPLITS),
        licence="research only, by signed agreement (as generally known; not checked)",
        layout="morph_2008_nonCommercial.csv (or MORPH_Album2_comp.csv; columns "
        f"{', '.join(MORPH_COLUMNS)})\nAlbum2/009055_1M54.JPG (the column photo)",
    ),
)  # fmt: skip
