"""The files of published benchmarks: JSON that others wrote, read with one clear error where it is not as expected."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ...data.files import read_text, sha256_of
from ...errors import FaceDataError
from .base import Source


def read_json(source: Source, path: Path) -> Any:
    """What a JSON file holds; it becomes one of the header's sources. Raises ``FaceDataError`` naming it."""
    return _parsed(_text(source, path), str(path))


def read_json_lines(source: Source, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """("file, line N", object) of each line that is not empty, likewise."""
    for number, line in enumerate(_text(source, path).split("\n"), 1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, mapping(_parsed(line, where), where)


def mapping(value: Any, where: str) -> dict[str, Any]:
    """``value``, if it is a JSON object; else ``FaceDataError``."""
    if not isinstance(value, dict):
        raise FaceDataError(f"{where}: expected an object, found {type(value).__name__}", "format")
    return value


def listing(row: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """``row[key]``, if it is a list; else ``FaceDataError``."""
    value = row.get(key)
    if not isinstance(value, list):
        raise FaceDataError(f"{where}: {key} is {value!r:.60}; expected a list", "format")
    return value


def text(row: Mapping[str, Any], key: str, where: str) -> str:
    """``row[key]``, if it is text with something in it; else ``FaceDataError``."""
    return _shown(row.get(key), key, where, str)


def texts(row: Mapping[str, Any], key: str, where: str, least: int = 1, most: int = 26) -> tuple[str, ...]:
    """A list of texts or numbers, as texts, ``least`` to ``most`` of them; else ``FaceDataError``."""
    values = listing(row, key, where)
    if not least <= len(values) <= most:
        raise FaceDataError(f"{where}: {key} has {len(values)} entries; expected {least} to {most}", "format")
    return tuple(_shown(value, key, where, (str, int, float)) for value in values)


def image(name: Any, where: str, base: str = "") -> str:
    """An image's path below the root, ``base`` put before it; ``FaceDataError`` for one that leads out of there."""
    path = PurePosixPath(_shown(name, "the image", where, str))
    if path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise FaceDataError(f"{where}: image {name!r:.60}: expected a path below the benchmark's folder", "format")
    return str(PurePosixPath(base) / path)


def subfolder(root: Path, *names: str) -> str:
    """The first of these folders that ``root`` has; "" if it has none of them."""
    return next((name for name in names if (root / name).is_dir()), "")


def _text(source: Source, path: Path) -> str:
    if not path.is_file():
        raise FaceDataError(f"{path}: no such file", "missing")
    content = read_text(path)
    source.sources.append({"name": path.relative_to(source.root).as_posix(), "sha256": sha256_of(path)})
    return content


def _parsed(content: str, where: str) -> Any:
    try:
        value = json.loads(content, object_pairs_hook=_unique)
        # JSON can hold half a character, which no file of ours can.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        reason = str(error) if str(error) else type(error).__name__
        raise FaceDataError(f"{where}: not valid JSON: {reason:.200}", "damaged") from error
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that is there twice would lose a question in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r:.60} is there twice")
    return found


def _shown(value: Any, what: str, where: str, kinds: type | tuple[type, ...]) -> str:
    if isinstance(value, bool) or not isinstance(value, kinds) or not str(value).strip():
        raise FaceDataError(f"{where}: {what} is {value!r:.60}; expected text", "format")
    return str(value)
