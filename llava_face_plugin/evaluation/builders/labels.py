"""Closed-set labels as lettered choices: expression, gender, race, age group; and the age in years."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ...data.wording import bare_choice
from ..questions import Question
from ._shown import MEDIA, Rows, clips, pictures
from .base import Benchmark, Source

AGE_QUESTION = "How old is the person?"


def label_questions(column: str, rows: Rows = pictures) -> Callable[[Source], Iterator[Question]]:
    """A builder: one choice a row whose label in ``column`` is known, among all values of the column."""

    def questions(source: Source) -> Iterator[Question]:
        m, text = source.the_manifest(), bare_choice(column)
        for shown in rows(source):
            code = int(m.labels[column][shown.row])
            if code < 0:
                source.skipped[f"{column} unknown"] += 1
            else:
                yield shown.choice(column, text, m.classes[column], code, source.seed)

    return questions


def age_questions(source: Source) -> Iterator[Question]:
    """The age in years of every row where it is known."""
    m = source.the_manifest()
    for shown in pictures(source):
        years = np.nan if m.age is None else float(m.age[shown.row])
        if np.isnan(years):
            source.skipped["age unknown"] += 1
        else:
            yield shown.number("age", AGE_QUESTION, years)


def _faces(dataset: str, title: str, split: str) -> Iterator[Benchmark]:
    """Age group, gender and race of one data set."""
    for name, column in (("age", "age_group"), ("gender", "gender"), ("race", "race")):
        said = f"{title}: {column.replace('_', ' ')}"
        yield Benchmark(f"face_{dataset}_{name}", said, label_questions(column), (dataset,), split)


def _expression(task: str, dataset: str, title: str, split: str = "test", rows: Rows = pictures) -> Benchmark:
    settings = MEDIA if rows is clips else {}
    said = f"{title}: expression"
    return Benchmark(task, said, label_questions("expression", rows), (dataset,), split, settings=settings)


BENCHMARKS = (
    *_faces("fairface", "FairFace", "val"),
    *_faces("utkface", "UTKFace", "test"),
    Benchmark("face_utkface_age_years", "UTKFace: age in years", age_questions, ("utkface",)),
    _expression("face_rafdb", "rafdb", "RAF-DB (basic)"),
    _expression("face_affectnet7", "affectnet7", "AffectNet, 7 classes", "val"),
    _expression("face_affectnet8", "affectnet", "AffectNet, 8 classes", "val"),
    _expression("face_ferplus", "ferplus", "FER+"),
    _expression("face_dfew", "dfew", "DFEW clips", rows=clips),
    _expression("face_mafw", "mafw", "MAFW clips", rows=clips),
    _expression("face_ferv39k", "ferv39k", "FERV39k clips", rows=clips),
    _expression("face_cremad", "cremad", "CREMA-D clips", rows=clips),
)
