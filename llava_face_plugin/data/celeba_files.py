"""The official text files of CelebA (Liu et al., 2015), plain or zipped. Errors name file and line.

The files are of fixed size and content, so a row that cannot be used is an error and not a loss: a file that is not
the official one should not be trained on unnoticed. One exception: a row that is there twice in the very same
words is dropped and counted; two rows of one image that differ are an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FaceDataError
from ..labels import CELEBA_ATTRIBUTES
from ..registry import unknown_name
from . import files
from .columns import Columns, columns, lf
from .losses import Losses

FOLDERS = (".", "Anno", "Eval", "anno", "eval")
ATTRIBUTES, PARTITION, IDENTITIES = "list_attr_celeba.txt", "list_eval_partition.txt", "identity_CelebA.txt"
_OPTIONS = {PARTITION: "--partition", IDENTITIES: "--identities"}
DUPLICATE = "row that is there twice"


@dataclass(frozen=True)
class AttributeTable:
    """``names`` of N images and (N, 40) int8 ``values`` of 0 and 1 in the file's ``attributes`` order."""

    path: Path
    attributes: tuple[str, ...]
    names: list[str]
    values: np.ndarray
    lines: np.ndarray  # (N,) line of each row, counted from 1


def find_file(root: Path, name: str, given: Path | None = None) -> Path | None:
    """``given``; else ``root/name``, or the same below ``Anno/`` or ``Eval/``, or a ``.zip`` of that stem, or None."""
    return need_file(root, name, given) if given is not None else files.find_file(root, name, FOLDERS)


def need_file(root: Path, name: str, given: Path | None = None) -> Path:
    """As ``find_file``, but raises ``FaceDataError`` saying where it was looked for."""
    return files.need_file(root, name, FOLDERS, given, _OPTIONS.get(name, "--labels"))


def read_attributes(path: Path, losses: Losses | None = None, name: str = ATTRIBUTES) -> AttributeTable:
    """``list_attr_celeba.txt`` and its like: the count, the 40 names, then a name and 40 values of -1 or 1.

    ``name`` is that of the file in a ``.zip``. Raises ``FaceDataError`` for a wrong count, unknown or missing
    attribute names, a wrong number of columns, a value that is not -1 or 1, and a name that occurs twice with
    different values.
    """
    head, vocabulary, body = _head(path, name)
    count = _whole(head.strip(), f"{path}, line 1: expected the number of rows")
    attributes = tuple(vocabulary.decode("utf-8", "replace").split())
    check_vocabulary(attributes, f"{path}, line 2")
    width = len(attributes)
    expected = f"a name and {width} values"
    table = columns(path, body, width + 1, expected, first_line=3, found=lambda n: str(max(0, n - 1)))
    values, names = table.signs(1), table.texts(0)
    if (values > 1).any():
        row, column = (int(i[0]) for i in np.nonzero(values > 1))
        value = table.token(row, column + 1)
        raise FaceDataError(f"{table.where(row)} ({names[row]}): value {value!r} is neither -1 nor 1")
    kept = _unique(table, names, values, losses or Losses())
    if count != len(kept):
        raise FaceDataError(f"{path}, line 1: says {count} rows, but the file has {len(kept)}: is it complete?")
    return AttributeTable(path, attributes, [names[i] for i in kept], values[kept], kept + 3)


def read_partition(path: Path, losses: Losses | None = None) -> dict[str, int]:
    """``list_eval_partition.txt``: image name -> 0 train, 1 val, 2 test."""
    return _two_columns(path, PARTITION, "a partition 0, 1 or 2", 2, losses)


def read_identities(path: Path, losses: Losses | None = None) -> dict[str, int]:
    """``identity_CelebA.txt``: image name -> number of the person."""
    return _two_columns(path, IDENTITIES, "an identity number", None, losses)


def read_mapping(path: Path, losses: Losses | None = None) -> dict[int, str]:
    """``CelebA-HQ-to-CelebA-mapping.txt``: HQ index -> name of the CelebA image it was made from.

    Further columns, as in the ``image_list.txt`` of the HQ set's makers (checksums), are not read.
    """
    head, _, body = lf(files.read_bytes(path)).partition(b"\n")
    wanted = "idx orig_idx orig_file"
    if head.split()[:3] != wanted.encode().split():
        raise FaceDataError(f"{path}, line 1: expected the columns {wanted}")
    table = columns(path, body, len(head.split()), wanted, first_line=2)
    index, names = table.numbers(0, "an index"), table.texts(2)
    keys = [str(i) for i in index.tolist()]
    kept = _unique(table, keys, np.array(names, dtype=str)[:, None], losses or Losses())
    return {int(keys[i]): names[i] for i in kept}


def lookup(table: dict[str, int], names: Sequence[str]) -> np.ndarray:
    """(N,) int64: the value of every name, -1 where it has none."""
    return np.fromiter((table.get(n, -1) for n in names), dtype=np.int64, count=len(names))


def _head(path: Path, name: str) -> tuple[bytes, bytes, bytes]:
    parts = lf(files.read_bytes(path, name)).split(b"\n", 2)
    if len(parts) < 3 or not parts[2].strip():
        found = sum(bool(p.strip()) for p in parts)
        raise FaceDataError(
            f"{path}: expected a count, a line of attribute names and rows; found {found} lines", "empty"
        )
    return parts[0], parts[1], parts[2]


def check_vocabulary(attributes: tuple[str, ...], where: str) -> None:
    """Raise ``FaceDataError`` naming ``where`` unless these are CelebA's 40 names, in any order."""
    for name in attributes:
        if name not in CELEBA_ATTRIBUTES:
            raise FaceDataError(f"{where}: {unknown_name('attribute', name, CELEBA_ATTRIBUTES)}")
    missing = [a for a in CELEBA_ATTRIBUTES if a not in attributes]
    if missing or len(attributes) != len(CELEBA_ATTRIBUTES):
        raise FaceDataError(
            f"{where}: expected CelebA's {len(CELEBA_ATTRIBUTES)} attribute names once each, found "
            f"{len(attributes)}" + (f", without {', '.join(missing)}" if missing else "")
        )


def _two_columns(path: Path, name: str, wanted: str, most: int | None, losses: Losses | None) -> dict[str, int]:
    table = columns(path, lf(files.read_bytes(path, name)), 2, f"an image name and {wanted}")
    names, values = table.texts(0), table.numbers(1, wanted)
    if most is not None and (values > most).any():
        row = int(np.argmax(values > most))
        raise FaceDataError(f"{table.where(row)}: expected {wanted}, found {values[row]}")
    kept = _unique(table, names, values[:, None], losses or Losses()).tolist()
    listed = values.tolist()
    return {names[i]: listed[i] for i in kept}


def _unique(table: Columns, names: list[str], values: np.ndarray, losses: Losses) -> np.ndarray:
    """Rows to keep: all but the later ones of equal rows. Raises ``FaceDataError`` where they are not equal."""
    if len(set(names)) == len(names):
        return np.arange(len(names))
    seen: dict[str, int] = {}
    kept = []
    for row, name in enumerate(names):
        first = seen.setdefault(name, row)
        if first == row:
            kept.append(row)
            continue
        message = f"{table.where(row)}: {name} was already in line {table.first_line + first}"
        if not np.array_equal(values[first], values[row]):
            raise FaceDataError(f"{message}, with other values")
        losses.add(DUPLICATE, message)
    return np.array(kept)


def _whole(text: bytes, message: str) -> int:
    if not text.isdigit() or len(text) > 18:
        raise FaceDataError(f"{message}, found {text[:40].decode('utf-8', 'replace')!r}")
    return int(text)
