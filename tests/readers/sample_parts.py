"""What all samples of data sets consist of, and how they are written and read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from llava_face_plugin.data.datasets import DATASETS, ReadOptions
from llava_face_plugin.data.manifest import Manifest

TRAIN, VAL, TEST = 0, 1, 2


@dataclass
class Truth:
    """What a reader must find. ``split``: None where it is the reader's hash."""

    images: list[str]
    split: list[int] | None = None
    labels: dict[str, list[str]] = field(default_factory=dict)
    """Column -> the words; "" = unknown."""
    attributes: np.ndarray | None = None
    age: list[float] | None = None
    annotations: tuple[str, ...] = ()
    """Annotation files that can be zipped, corrupted and removed."""
    people: list[str] | None = None
    """Who is on each image, where the reader tells people apart."""


def touch(root: Path, images: list[str]) -> None:
    for image in images:
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        (root / image).touch()


def text(root: Path, name: str, lines: list[str], end: str = "\n") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes((end.join(lines) + end).encode())


def bin_of(age: float) -> str:
    for top, name in ((3, "0-2"), (10, "3-9"), (70, None)):
        if age < top:
            return name or f"{int(age) // 10 * 10}-{int(age) // 10 * 10 + 9}"
    return "more than 70"


def read(name: str, root: Path, **options: object) -> Manifest:
    return DATASETS[name].read(root, ReadOptions(**{"look_for_images": False} | options))  # type: ignore[arg-type]


def edit(path: Path, line: int, old: str, new: str) -> None:
    lines = path.read_text().splitlines()
    changed = re.sub(old, new, lines[line - 1], count=1)
    assert changed != lines[line - 1]
    lines[line - 1] = changed
    path.write_text("\n".join(lines) + "\n")
