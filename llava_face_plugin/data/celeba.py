"""CelebA (Liu et al., 2015): the user's own copy -> LLaVA conversations, questions and the knowledge file.

Expected in ``root``: ``list_attr_celeba.txt`` and ``list_eval_partition.txt`` (plain or zipped, here or below
``Anno/`` and ``Eval/``), ``img_align_celeba/`` (or ``Img/img_align_celeba/``) and, if identities are to be
kept apart in a held-out set, ``identity_CelebA.txt``. Images are never copied.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..errors import FaceDataError
from .celeba_files import (
    AttributeTable,
    find_file,
    need_file,
    read_attributes,
    read_identities,
    read_partition,
)
from .conversations import Sample
from .prepared import Prepared, Progress, attributes_of, existing_folder, within, write_index, write_knowledge
from .splits import SPLITS, SplitOptions, write_splits

IMAGE_FOLDERS = ("img_align_celeba", "Img/img_align_celeba", "Img/img_align_celeba/img_align_celeba")


def prepare(
    root: str | Path,
    out: str | Path,
    *,
    split: str = "train",
    limit: int | None = None,
    val_limit: int | None = None,
    holdout: float | None = None,
    k: int = 4,
    val_k: int | None = None,
    seed: int = 0,
    text_only: int = 0,
    knowledge: bool = True,
    rules: str | None = None,
    maps: str | Path | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Write ``<split>.json``, ``val_questions.jsonl`` and ``celeba.knowledge.safetensors`` into ``out``.

    Only rows whose image exists become samples; the others are counted in ``skipped``. Knowledge is always
    counted from all official train rows. ``maps``: a folder of PNG maps with the images' stems, for which an
    ``index.json`` is written. For the other arguments see ``splits.SplitOptions``. Raises ``FaceDataError``.
    """
    root, out = existing_folder(Path(root), "CelebA"), Path(out)
    options = SplitOptions(split, limit, val_limit, holdout, k, val_k, seed, text_only)
    images = image_folder(root)
    map_names = _map_names(Path(maps)) if maps is not None else None
    table = read_attributes(need_file(root, "list_attr_celeba.txt"))
    split_of = partition_of(table, need_file(root, "list_eval_partition.txt"))
    prepared = Prepared(
        out=out,
        vocabulary=table.attributes,
        labels={name: table.values[split_of == i] for i, name in enumerate(SPLITS)},
        image_folder=root,
    )

    there = set(os.listdir(images))
    available = np.flatnonzero(np.fromiter((n in there for n in table.names), dtype=bool, count=len(table.names)))
    for i, name in enumerate(SPLITS):
        prepared.skip(f"no image file ({name})", int((split_of == i).sum() - (split_of[available] == i).sum()))
    if not len(available):
        raise FaceDataError(f"{images}: none of the {len(table.names)} images of {table.path.name} is here")
    folder = within(images, root)
    map_folder = within(Path(maps), root) if maps is not None else ""

    def sample_at(i: int) -> Sample:
        row = int(available[i])
        stem = Path(table.names[row]).stem
        face_map = f"{map_folder}/{stem}.png" if map_names is not None and stem in map_names else None
        attributes = attributes_of(table.values[row], table.attributes)
        return Sample(stem, f"{folder}/{table.names[row]}", attributes, face_map)

    groups = _groups(root, table, available)
    train, val = write_splits(prepared, split_of[available], groups, sample_at, options)
    if map_names is not None:
        samples = [sample_at(int(i)) for i in np.union1d(train, val)]
        without = sum(s.face_map is None for s in samples)
        if without:
            prepared.notes.append(f"{without} of {len(samples)} images have no map in {maps}")
        if os.path.isabs(map_folder):
            prepared.notes.append(f"the maps are not below {root}: their paths in the JSON are absolute")
        write_index(prepared, samples, progress)
    if knowledge:
        if split == "train" and (split_of[available[val]] == 0).any():
            prepared.notes.append("knowledge is counted from all official train rows, also from those held out")
        write_knowledge(prepared, "celeba", rules=rules, source=table.path)
    return prepared


def image_folder(root: Path) -> Path:
    """The folder of the aligned images. Raises ``FaceDataError`` if there is none."""
    for name in reversed(IMAGE_FOLDERS):
        if (root / name).is_dir():
            return root / name
    raise FaceDataError(f"{root}: no image folder (looked for {', '.join(IMAGE_FOLDERS)})")


def partition_of(table: AttributeTable, path: Path) -> np.ndarray:
    """(N,) int: the official split of every row. Raises ``FaceDataError`` naming a row without one."""
    partition = read_partition(path)
    splits = np.fromiter((partition.get(n, -1) for n in table.names), dtype=np.int64, count=len(table.names))
    if (splits < 0).any():
        at = int(np.argmax(splits < 0))
        missing = f"{table.path}, line {table.first_line + at}: {table.names[at]} has no partition in {path}"
        raise FaceDataError(f"{missing} ({int((splits < 0).sum())} such images)")
    return splits


def _groups(root: Path, table: AttributeTable, available: np.ndarray) -> np.ndarray | None:
    path = find_file(root, "identity_CelebA.txt")
    if path is None:
        return None
    identities = read_identities(path)
    missing = next((n for n in (table.names[i] for i in available) if n not in identities), None)
    if missing is not None:
        raise FaceDataError(f"{path}: no identity for {missing}")
    return np.array([identities[table.names[i]] for i in available])


def _map_names(folder: Path) -> set[str]:
    return {Path(n).stem for n in os.listdir(existing_folder(folder, "maps")) if n.endswith(".png")}
