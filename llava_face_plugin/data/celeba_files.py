"""The official text files of CelebA (Liu et al., 2015), plain or zipped. Errors name file and line."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FaceDataError
from ..labels import CELEBA_ATTRIBUTES
from ..registry import unknown_name

FOLDERS = (".", "Anno", "Eval", "anno", "eval")


@dataclass(frozen=True)
class AttributeTable:
    """``names`` of N images and (N, 40) int8 ``values`` of 0 and 1 in the file's ``attributes`` order."""

    path: Path
    attributes: tuple[str, ...]
    names: list[str]
    values: np.ndarray
    first_line: int  # line of names[0], counted from 1


def find_file(root: Path, name: str) -> Path | None:
    """``root/name``, or the same below ``Anno/`` or ``Eval/``, or a ``.zip`` of that stem; None if absent."""
    for folder in FOLDERS:
        for candidate in (root / folder / name, (root / folder / name).with_suffix(".zip")):
            if candidate.is_file():
                return candidate
    return None


def need_file(root: Path, name: str) -> Path:
    """As ``find_file``, but raises ``FaceDataError`` saying where it was looked for."""
    path = find_file(root, name)
    if path is None:
        raise FaceDataError(
            f"{root}: {name} is missing (looked for it or {Path(name).stem}.zip here, in Anno/ and in Eval/)"
        )
    return path


def read_attributes(path: Path) -> AttributeTable:
    """``list_attr_celeba.txt`` and its like: the count, the 40 names, then a name and 40 values of -1 or 1.

    Raises ``FaceDataError`` for a wrong count, unknown or missing attribute names, a wrong number of
    columns, a value that is not -1 or 1, and a name that occurs twice.
    """
    lines = _lines(path)
    if len(lines) < 3:
        raise FaceDataError(f"{path}: expected a count, a line of attribute names and rows; found {len(lines)} lines")
    count = _whole(lines[0].strip(), f"{path}, line 1: expected the number of rows")
    attributes = tuple(lines[1].decode("utf-8", "replace").split())
    _check_vocabulary(attributes, f"{path}, line 2")
    names: list[str] = []
    rows: list[bytes] = []
    for number, line in enumerate(lines[2:], start=3):
        name, row = _attribute_row(line, len(attributes), path, number)
        names.append(name)
        rows.append(row)
    if len(names) != count:
        raise FaceDataError(f"{path}, line 1: says {count} rows, but the file has {len(names)}: is it complete?")
    _check_unique(names, path, 3)
    values = np.frombuffer(b"".join(rows), dtype=np.int8).reshape(len(rows), len(attributes)) - ord("0")
    return AttributeTable(path, attributes, names, values.astype(np.int8), 3)


def read_partition(path: Path) -> dict[str, int]:
    """``list_eval_partition.txt``: image name -> 0 train, 1 val, 2 test."""
    return _two_columns(path, "a partition 0, 1 or 2", lambda n: 0 <= n <= 2)


def read_identities(path: Path) -> dict[str, int]:
    """``identity_CelebA.txt``: image name -> number of the person."""
    return _two_columns(path, "an identity number", lambda n: n >= 0)


def read_mapping(path: Path) -> dict[int, str]:
    """``CelebA-HQ-to-CelebA-mapping.txt``: HQ index -> name of the CelebA image it was made from."""
    lines = _lines(path)
    if not lines or lines[0].split()[:3] != [b"idx", b"orig_idx", b"orig_file"]:
        raise FaceDataError(f"{path}, line 1: expected the columns idx orig_idx orig_file")
    mapping: dict[int, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        parts = line.split()
        if len(parts) < 3:
            raise FaceDataError(f"{path}, line {number}: expected idx orig_idx orig_file, found {len(parts)} columns")
        index = _whole(parts[0], f"{path}, line {number}: expected an index")
        if index in mapping:
            raise FaceDataError(f"{path}, line {number}: index {index} occurs twice")
        mapping[index] = parts[2].decode("utf-8", "replace")
    return mapping


def _attribute_row(line: bytes, width: int, path: Path, number: int) -> tuple[str, bytes]:
    """(image name, one byte '0' or '1' an attribute). Written for speed: 202,599 rows in about a second."""
    parts = line.split()
    if len(parts) != width + 1:
        raise FaceDataError(
            f"{path}, line {number}: expected a name and {width} values, found {max(0, len(parts) - 1)}"
        )
    joined = b" ".join(parts[1:])
    spaced = joined.replace(b"-1", b"0")
    marks = spaced[::2]
    if b"0" in joined or len(spaced) != 2 * width - 1 or marks.strip(b"01"):
        bad = next(v for v in parts[1:] if v not in (b"1", b"-1"))
        name, value = (b.decode("utf-8", "replace") for b in (parts[0], bad))
        raise FaceDataError(f"{path}, line {number} ({name}): value {value!r} is neither -1 nor 1")
    return parts[0].decode("utf-8", "replace"), marks


def _check_vocabulary(attributes: tuple[str, ...], where: str) -> None:
    for name in attributes:
        if name not in CELEBA_ATTRIBUTES:
            raise FaceDataError(f"{where}: {unknown_name('attribute', name, CELEBA_ATTRIBUTES)}")
    missing = [a for a in CELEBA_ATTRIBUTES if a not in attributes]
    if missing or len(attributes) != len(CELEBA_ATTRIBUTES):
        raise FaceDataError(
            f"{where}: expected CelebA's {len(CELEBA_ATTRIBUTES)} attribute names once each, found "
            f"{len(attributes)}" + (f", without {', '.join(missing)}" if missing else "")
        )


def _check_unique(names: list[str], path: Path, first_line: int) -> None:
    if len(set(names)) == len(names):
        return
    seen: dict[str, int] = {}
    for number, name in enumerate(names, start=first_line):
        if name in seen:
            raise FaceDataError(f"{path}, line {number}: {name} was already in line {seen[name]}")
        seen[name] = number


def _two_columns(path: Path, wanted: str, accept: Callable[[int], bool]) -> dict[str, int]:
    names: list[str] = []
    values: list[int] = []
    for number, line in enumerate(_lines(path), start=1):
        parts = line.split()
        if len(parts) != 2:
            raise FaceDataError(
                f"{path}, line {number}: expected an image name and {wanted}, found {len(parts)} columns"
            )
        value = _whole(parts[1], f"{path}, line {number}: expected {wanted}")
        if not accept(value):
            raise FaceDataError(f"{path}, line {number}: expected {wanted}, found {value}")
        names.append(parts[0].decode("utf-8", "replace"))
        values.append(value)
    _check_unique(names, path, 1)
    return dict(zip(names, values, strict=True))


def _whole(text: bytes, message: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise FaceDataError(f"{message}, found {text.decode('utf-8', 'replace')!r}") from None


def _lines(path: Path) -> list[bytes]:
    """Lines without line ends; empty lines at the end are dropped."""
    lines = _read(path).removeprefix(b"\xef\xbb\xbf").splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _read(path: Path) -> bytes:
    try:
        if path.suffix != ".zip":
            return path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            wanted = path.with_suffix(".txt").name
            inside = [m for m in archive.namelist() if m.rsplit("/", 1)[-1] == wanted]
            if not inside:
                raise FaceDataError(f"{path}: the archive holds no {wanted}")
            return archive.read(inside[0])
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise FaceDataError(f"{path}: cannot be read ({error})") from error
