"""UTKFace (Zhang, Song and Qi, CVPR 2017): age, gender and race, all in the file names.

Layout as published on the data set's page and in public loaders; not checked on real files.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ...errors import FaceDataError
from ..files import existing_folder
from ..manifest import Manifest
from ._places import archive_names, below, joined
from ._rows import AGE_BINS, Part, Rows, age_groups, build, hash_split
from ._tables import arrow, as_text
from .base import DatasetInfo, ReadOptions

CLASSES = {
    "gender": ("male", "female"),
    "race": ("White", "Black", "Asian", "Indian", "Others"),
    "age_group": AGE_BINS,
}
"""gender and race in the order of the codes in the names; the age groups are FairFace's (our default)."""

FOLDERS = ("UTKFace", "utkcropped", "crop_part1", ".")
_ENDINGS = (".jpg", ".jpeg", ".png")
# The first three fields are the labels; what follows is a date, in a few names of the real set with a slip in it.
_NAME = r"^(?P<age>\d{1,3})_(?P<gender>[01])_(?P<race>[0-4])_\d{8}.*$"


def read(root: Path, options: ReadOptions) -> Manifest:
    """Every image whose name is ``[age]_[gender]_[race]_[date].jpg`` with an age from 0 to 116.

    Names come from the image folder and its subfolders, or from ``options.labels``: a ``.zip`` of the images
    (its members are not read). There are no official splits and no identities: the split is a hash of the name
    (80/10/10, our default), so one person may be in two of them. Raises ``FaceDataError``.
    """
    prefix = below(root, options, FOLDERS)
    if options.labels is not None:
        listing = options.labels
        found = (
            archive_names(listing) if listing.suffix.lower() == ".zip" else _walk(existing_folder(listing, "labels"))
        )
        found = [n.rsplit("/", 1)[-1] for n in found]
    else:
        listing = existing_folder(options.images or root / prefix, "UTKFace's images")
        found = _walk(listing)
    paths = np.array([n for n in found if n.lower().endswith(_ENDINGS)], dtype=np.str_)
    if not len(paths):
        raise FaceDataError(
            f"{listing}: no .jpg or .png files; expected names as 26_1_0_20170116184028385.jpg", "empty"
        )
    part = _part(listing, paths, prefix)
    notes = ["no official split and no identities: the split is a hash of the name, one person may be in two splits"]
    return build(INFO, root, options, [part], classes=CLASSES, published={"all": 23_708}, notes=notes)


def _walk(folder: Path) -> list[str]:
    """Names of all files below a folder, relative to it, in order."""
    found = []
    for place, _, files in os.walk(folder):
        inside = Path(place).relative_to(folder).as_posix()
        found += files if inside == "." else [f"{inside}/{f}" for f in files]
    return sorted(found)


def _part(listing: Path, paths: np.ndarray, prefix: str) -> Part:
    pa, pc = arrow(), arrow("compute")
    rows = Rows(listing, len(paths), lambda i: f"{listing}/{paths[i]!s}".encode("utf-8", "replace").decode())
    rows.names(paths)
    names = np.array([p.rsplit("/", 1)[-1] for p in paths.tolist()], dtype=np.str_)
    fields = pc.extract_regex(as_text(names), _NAME)
    good = fields.is_valid().to_numpy(zero_copy_only=False)

    def field(name: str) -> np.ndarray:
        return pc.cast(pc.fill_null(pc.struct_field(fields, name), "-1"), pa.int16()).to_numpy(zero_copy_only=False)

    rows.drop(~good, "malformed name", "the name is not [age]_[gender 0-1]_[race 0-4]_[date].jpg")
    age = field("age")
    rows.drop(age > 116, "unknown age", lambda i: f"age {age[i]} is above 116")
    first = np.unique(names, return_index=True)[1]
    again = np.ones(len(names), dtype=bool)
    again[first] = False
    rows.drop(again, "listed twice", "an image of that name is in another folder too")
    years = np.where(age < 0, np.nan, age).astype(np.float32)
    labels = {"gender": field("gender"), "race": field("race"), "age_group": age_groups(years)}
    return Part(rows, joined(prefix, paths), hash_split(names), labels, age=years)


INFO = DatasetInfo(
    name="utkface",
    title="UTKFace",
    citation="Zhang, Song and Qi, Age Progression/Regression by Conditional Adversarial Autoencoder, CVPR 2017",
    licence="non-commercial research only (as generally known from the data set's page; not checked)",
    layout="UTKFace/26_1_0_20170116184028385.jpg.chip.jpg ([age]_[gender]_[race]_[date], aligned and cropped)",
    read=read,
    groups=("gender", "race", "age_group"),
)
