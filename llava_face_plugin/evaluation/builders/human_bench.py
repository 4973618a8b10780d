"""Face-Human-Bench: the repository's JSON and the images that the user rebuilt with its ``prepare_data.py``."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from ...errors import FaceDataError
from ..questions import LETTERS, Question
from ._suite_files import image, listing, mapping, read_json, subfolder, text, texts
from .base import Benchmark, Source

SEED = 100
"""Of the options' rotation in the repository's ``eval.py``."""
PARTS = (
    ("face_age_basic_5", ("original", "cropped"), "age", "5-year-interval"),
    ("face_age_basic_10", ("original", "cropped"), "age", "10-year-interval"),
    ("face_age_basic_15", ("original", "cropped"), "age", "15-year-interval"),
    ("face_attack_digital_expression_swap", ("cropped",), "attack", "digital_attack"),
    ("face_attack_digital_identity_swap", ("cropped",), "attack", "digital_attack"),
    ("face_attack_physical_paper", ("cropped",), "attack", "physical_attack"),
    ("face_attack_physical_replay", ("cropped",), "attack", "physical_attack"),
    ("face_attribute_compound", ("original", "cropped"), "attribute", "compound"),
    ("face_expression_basic", ("original", "cropped"), "expression", "basic"),
    ("face_expression_compound", ("cropped",), "expression", "compound"),
    ("face_recognition_basic", ("cropped",), "recognition", "basic"),
    ("face_recognition_cross_age", ("cropped",), "recognition", "cross_age"),
    ("face_recognition_cross_pose", ("cropped",), "recognition", "cross_pose"),
    ("face_recognition_mask", ("cropped",), "recognition", "mask"),
    ("face_recognition_similar_looking", ("cropped",), "recognition", "similar_looking"),
    ("human_action_basic", ("boxed",), "action", "basic"),
    ("human_attribute_compound", ("boxed",), "attribute", "compound"),
    ("human_attribute_compound_cropped", ("cropped",), "attribute", "compound"),
    ("human_reid_basic", ("cropped",), "reid", "basic"),
    ("human_social_relation_occupation", ("boxed",), "social_relation", "occupation"),
    ("human_social_relation_relationship", ("boxed",), "social_relation", "social_relationship"),
    ("human_spatial_relation_count_10", ("original",), "spatial_relation", "count"),
    ("human_spatial_relation_count_100", ("original",), "spatial_relation", "count"),
    ("human_spatial_relation_count_100plus", ("original",), "spatial_relation", "count"),
    ("human_spatial_relation_location", ("boxed",), "spatial_relation", "relative_location"),
)  # fmt: skip
"""(file, versions of the image, ability, sub-ability), in the order in which ``eval.py`` asks: rotations depend on it.
The level, face or human, is the name's first word."""
FOLDERS = {"test": "test", "val": "dev"}
"""Split -> its folder in the repository."""
WORDS = {
    "en": ("Question: ", "Please select the correct answer from the options above."),
    "zh": ("问题: ", "请从以上选项中选择正确的答案。"),
}


def human_bench_questions(language: str, source: Source) -> Iterator[Question]:
    """All questions of a language, options rotated as by the repository's code (``--seed`` has no effect)."""
    base = subfolder(source.root, FOLDERS[source.split])
    images = subfolder(source.root, str(PurePosixPath(base, "output"))) or base
    asked = [
        (version, place, row, f"{where}, sample {number}", number)
        for place, (name, versions, _, _) in enumerate(PARTS)
        for where, rows in [_rows(source, base, language, name)]
        for version in versions
        for number, row in enumerate(rows)
    ]
    options = [texts(_answers(row, where), "options", where, 2, 4) for _, _, row, where, _ in asked]
    offsets = random.Random(SEED)
    if language == "zh":  # asked after the English ones, which have as many options each
        for shown in options:
            offsets.randint(0, len(shown) - 1)
    source.notes.append(f"options rotated by the benchmark's own seed {SEED}")
    for (version, place, row, where, number), choices in zip(asked, options, strict=True):
        yield _question(language, images, version, place, row, where, number, choices, offsets)


def _question(
    language: str, base: str, version: str, place: int, row: dict[str, Any], where: str, number: int,
    options: tuple[str, ...], offsets: random.Random,
) -> Question:  # fmt: skip
    name, _, ability, sub_ability = PARTS[place]
    qa = _answers(row, where)
    n, right = len(options), qa.get("answer")
    if isinstance(right, bool) or not isinstance(right, int) or not 0 <= right < n:
        raise FaceDataError(f"{where}: answer {right!r:.60}; expected the place of one of {n} options", "format")
    offset = offsets.randint(0, n - 1)
    permutation = tuple((i + offset) % n for i in range(n))
    shown = tuple(options[p] for p in permutation)
    paths = mapping(mapping(row.get("image"), f"{where}: image").get("image_paths"), f"{where}: image_paths")
    path = image(paths.get(version), f"{where}: {version}", base)
    head, tail = WORDS[language]
    lines = "".join(f"{letter}. {option}\n" for letter, option in zip(LETTERS, shown, strict=False))
    return Question(
        f"{name}-{version}:{number}", path, (path,), "text",
        f"{head}{text(qa, 'question', where)}\n{lines}{tail}", (LETTERS[permutation.index(right)],),
        f"{name}-{version}", shown, permutation, options[right],
        # Both versions show one scene.
        cluster=f"{name}:{number}",
        groups={"level": name.split("_")[0], "ability": ability, "sub_ability": sub_ability},
    )  # fmt: skip


def _rows(source: Source, base: str, language: str, name: str) -> tuple[str, list[dict[str, Any]]]:
    """A part's file and its samples."""
    path = source.root / base / "json" / language / f"{name}{'_zh' if language == 'zh' else ''}.json"
    rows = listing(mapping(read_json(source, path), str(path)), "data", str(path))
    return str(path), [mapping(row, f"{path}, sample {number}") for number, row in enumerate(rows)]


def _answers(row: dict[str, Any], where: str) -> dict[str, Any]:
    return mapping(row.get("QA"), f"{where}: QA")


_LAYOUT = """{test,dev}/json/{en,zh}/*.json (the repository's data/Face-Human-Bench), or json/{en,zh}/*.json
beside it eval_data/ or output/eval_data/, which the repository's prepare_data.py makes from 16 data sets"""

BENCHMARKS = tuple(
    Benchmark(
        f"face_human_bench_{language}", f"Face-Human-Bench, {name}: faces and people, multiple choice",
        partial(human_bench_questions, language),
        licence="MIT (questions); images under the licences of the 16 source data sets", layout=_LAYOUT,
        splits=tuple(FOLDERS),
    )
    for language, name in (("en", "English"), ("zh", "Chinese"))
)  # fmt: skip
