"""What a reader of a data set is given, what it says about itself, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..manifest import Manifest

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)``."""


@dataclass(frozen=True)
class ReadOptions:
    """Where the user's copy differs from the official layout, and what is to be looked at.

    A given path wins over the official place; where it does not exist the reader raises ``FaceDataError``.
    """

    labels: Path | None = None
    """The annotation file, plain or ``.zip`` (or a folder of them, where the data set has several)."""
    partition: Path | None = None
    """The file of the official splits, plain or ``.zip``."""
    identities: Path | None = None
    """The file that says which images show one person, plain or ``.zip``."""
    images: Path | None = None
    """The folder of the images."""
    maps: Path | None = None
    """A folder of PNG maps with the images' stems (or ids, where stems repeat); not where ``own_maps``."""
    celeba_root: Path | None = None
    """Where CelebA's own files are, for data sets that are joined to them. None: the root."""
    look_for_images: bool = True
    """False: nobody looks for images (label-only preparation): ``Manifest.present`` is None, no file is opened."""
    derived: Path | None = None
    """Folder into which maps may be written that have to be made first (merged part masks). None: none are made."""
    workers: int = 4
    """Threads, for what has to open images."""
    progress: Progress | None = None


Reader = Callable[[Path, ReadOptions], Manifest]
"""``read(root, options)``. ``root`` is a folder. Raises ``FaceDataError`` naming file and line, and where nothing
usable is left; bad rows that can be left out are counted in ``Manifest.skipped`` and named in ``problems``."""


@dataclass(frozen=True)
class DatasetInfo:
    """One data set: what ``llava-face prepare --list`` shows, and its reader."""

    name: str
    """As on the command line: lower case, ``fairface``."""
    title: str
    """As its authors write it: ``FairFace``."""
    citation: str
    """Authors, year, venue in one line."""
    licence: str
    """The terms in a sentence, with where they are known from. Shown at every run, and kept in the manifest."""
    layout: str
    """The files below the root as users have them, one a line."""
    read: Reader
    rules: str | None = None
    """Built-in rules that fit the vocabulary. None: there are none."""
    groups: tuple[str, ...] = ()
    """Columns by which scores are split by default: closed-set labels or attributes."""
    own_maps: bool = False
    """Its maps come with it: it takes no ``ReadOptions.maps``."""
    rows: Callable[[Path, ReadOptions], Iterator[tuple[int, dict[str, Any]]]] | None = None
    """For a data set that has conversations of its own: (row of the manifest, or -1 for none; LLaVA row)."""
