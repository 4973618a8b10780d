"""CelebA (Liu et al., 2015): attributes, official splits, identities, aligned images.

Checked on the real label files (202,599 rows) and 2,000 of the images.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from ...errors import FaceDataError
from .. import files
from ..celeba_files import (
    ATTRIBUTES,
    IDENTITIES,
    PARTITION,
    AttributeTable,
    find_file,
    lookup,
    need_file,
    read_attributes,
    read_identities,
    read_partition,
)
from ..files import existing_folder, look_for, source, within
from ..losses import Losses
from ..manifest import Manifest
from .base import DatasetInfo, ReadOptions

IMAGE_FOLDERS = ("img_align_celeba", "Img/img_align_celeba", "Img/img_align_celeba/img_align_celeba")

ROWS = 202_599
OFFICIAL = {
    ATTRIBUTES: "75e246fa4810816ffd6ee81facbd244c", PARTITION: "d32c9cbf5e040fd4025c592c306e6668",
    IDENTITIES: "32bd1bd63d3c78cd57e08160ec5ed1e2",
}  # fmt: skip
"""md5 of the official files (the values in torchvision)."""


def read(root: Path, options: ReadOptions) -> Manifest:
    """All rows of the attribute file, with or without an image. Raises ``FaceDataError``."""
    folder = options.images or image_folder(root) if options.look_for_images else options.images
    existing_folder(folder, "images") if folder is not None else None
    stems = _map_stems(options.maps) if options.maps is not None else None
    labels = need_file(root, ATTRIBUTES, options.labels)
    partition = need_file(root, PARTITION, options.partition)
    identities = find_file(root, IDENTITIES, options.identities)

    losses = Losses()
    table = read_attributes(labels, losses)
    split = partition_of(table, partition, losses)
    prefix = within(folder, root) if folder is not None else IMAGE_FOLDERS[0]
    images = np.array([f"{prefix}/{name}" for name in table.names])
    present = look_for(root, images) if options.look_for_images else None
    if present is not None and not present.any():
        raise FaceDataError(f"{folder}: none of the {len(images)} images of {labels.name} is here", "missing")
    maps = None
    if options.maps is not None and stems is not None:
        there = within(options.maps, root)
        names = (Path(name).stem for name in table.names)
        maps = np.array([f"{there}/{stem}.png" if stem in stems else "" for stem in names])
    used = [(labels, ATTRIBUTES), (partition, PARTITION), *([(identities, IDENTITIES)] if identities else [])]
    return Manifest(
        "celeba", images, split, table.attributes, table.values,
        identity=identity_of(table.names, identities, present, losses) if identities is not None else None,
        present=present, maps=maps, groups=INFO.groups, sources=[source(path, len(table.names)) for path, _ in used],
        skipped=losses.skipped, problems=losses.problems,
        notes=[note for path, name in used if (note := _unofficial(path, name, len(table.names)))],
    )  # fmt: skip


def image_folder(root: Path) -> Path:
    """The folder of the aligned images. Raises ``FaceDataError`` if there is none."""
    for name in reversed(IMAGE_FOLDERS):
        if (root / name).is_dir():
            return root / name
    looked = f"looked for {', '.join(IMAGE_FOLDERS)}"
    raise FaceDataError(f"{root}: no image folder ({looked}); --labels-only prepares without images", "missing")


def partition_of(table: AttributeTable, path: Path, losses: Losses | None = None) -> np.ndarray:
    """(N,) int8: the official split of every row. Raises ``FaceDataError`` naming a row without one."""
    losses = losses or Losses()
    before = len(losses.problems)
    splits = lookup(read_partition(path, losses), table.names)
    if (splits < 0).any():
        at = int(np.argmax(splits < 0))
        missing = f"{table.path}, line {table.lines[at]}: {table.names[at]} has no partition in {path}"
        # A row that is there twice may stand where the missing one should.
        twice = f"; {losses.problems[before]}" if len(losses.problems) > before else ""
        raise FaceDataError(f"{missing} ({int((splits < 0).sum())} such images{twice})", "missing")
    return splits.astype(np.int8)


def identity_of(names: list[str], path: Path, present: np.ndarray | None, losses: Losses) -> np.ndarray:
    """(N,) int64: the person of every image, -1 = unknown. Raises ``FaceDataError`` for a present image without one."""
    identity = lookup(read_identities(path, losses), names)
    missing = (identity < 0) & (True if present is None else present)
    if missing.any():
        raise FaceDataError(f"{path}: no identity for {names[int(np.argmax(missing))]}", "missing")
    return identity


def _map_stems(folder: Path) -> set[str]:
    return {Path(n).stem for n in os.listdir(existing_folder(folder, "maps")) if n.endswith(".png")}


def _unofficial(path: Path, name: str, rows: int) -> str:
    """A note if the file has the official number of rows, but other contents."""
    if rows != ROWS or hashlib.md5(files.read_bytes(path, name), usedforsecurity=False).hexdigest() == OFFICIAL[name]:
        return ""
    return f"{path.name} has CelebA's {ROWS:,} rows, but is not the official file (md5 {OFFICIAL[name]})"


INFO = DatasetInfo(
    name="celeba",
    title="CelebA",
    citation="Liu, Luo, Wang, Tang: Deep Learning Face Attributes in the Wild. ICCV 2015",
    licence="non-commercial research purposes only (CUHK MMLab; known from the data set's page, not re-read)",
    layout="""list_attr_celeba.txt      40 attributes (here or in Anno/; every text file may be a .zip)
list_eval_partition.txt   official splits (here or in Eval/)
identity_CelebA.txt       persons, optional (here or in Anno/)
img_align_celeba/*.jpg    images (here or in Img/)""",
    read=read,
    rules="celeba",
    groups=("Male", "Young"),
)
