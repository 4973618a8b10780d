"""A manifest on disk: one parquet file with a JSON header in its metadata, and the JSON Schema of its rows.

Columns: ``id`` and ``image`` (string), ``split`` (dictionary), ``identity`` (int64, null = unknown), ``age``
(float32, null = unknown), one dictionary column of strings per closed-set label (null = unknown), one int8 column
``attribute:<Name>`` per attribute (1, 0, -1 = unknown), ``map`` (string, null = none), ``present`` (bool).
``identity``, ``age``, ``map`` and ``present`` are left out where nothing is known of them.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..errors import FaceDataError
from ..maps.files import atomic_path
from ..maps.shards import pyarrow
from .manifest import SPLITS, UNKNOWN, Manifest

FORMAT = 1
_KEY = b"face_manifest"
_HEADER: dict[str, type] = {
    "dataset": str, "vocabulary": list, "classes": dict, "groups": list, "sources": list, "skipped": dict,
    "problems": list, "notes": list,
}  # fmt: skip


def save_manifest(manifest: Manifest, path: Path) -> None:
    """Write ``path`` and ``<stem>.schema.json`` beside it; each appears whole or not at all.

    Raises ``FaceDataError`` for a manifest that is not valid, ``FaceHostError`` without pyarrow.
    """
    pa = pyarrow()
    manifest.check(str(path))
    schema = _schema(pa, manifest).with_metadata({_KEY: json.dumps(_header(manifest)).encode()})
    table = pa.table([values for _, values in _columns(pa, manifest)], schema=schema)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        # Checksums: a flipped bit in a label would otherwise go unnoticed.
        pa.parquet.write_table(
            table, temporary, compression="zstd", use_dictionary=_dictionaries(manifest), write_page_checksum=True
        )
    with atomic_path(schema_path(path)) as temporary:
        temporary.write_text(json.dumps(row_schema(manifest), indent=1) + "\n", encoding="utf-8")


def load_manifest(path: Path) -> Manifest:
    """Read a manifest. Raises ``FaceDataError`` naming the file, and column and row where one is at fault."""
    pa = pyarrow()
    if not path.is_file():
        raise FaceDataError(f"{path}: no such manifest", "missing")
    try:
        table = pa.parquet.read_table(path, use_threads=False, page_checksum_verification=True)
        table.validate(full=True)
    # pyarrow raises OSError, its own errors, and for damaged metadata also ValueError or a bare KeyError
    except (OSError, pa.ArrowException, ValueError, KeyError, MemoryError) as error:
        why = " ".join(str(error).split())
        raise FaceDataError(f"{path}: not a manifest, or damaged ({why})", "damaged") from error
    header = _read_header(path, table.schema.metadata or {})
    manifest = Manifest(
        dataset=header["dataset"], images=np.zeros(0, dtype=str), split=np.zeros(0, dtype=np.int8),
        vocabulary=tuple(header["vocabulary"]), classes={c: tuple(v) for c, v in header["classes"].items()},
        groups=tuple(header["groups"]), sources=header["sources"], skipped=Counter(header["skipped"]),
        problems=header["problems"], notes=header["notes"],
    )  # fmt: skip
    _check_columns(path, table.schema, _schema(pa, manifest, optional=set(table.column_names)))
    _fill(manifest, path, table)
    manifest.check(str(path))
    return manifest


def schema_path(path: Path) -> Path:
    """``manifest.parquet`` -> ``manifest.schema.json``."""
    return path.with_name(f"{path.stem}.schema.json")


def row_schema(manifest: Manifest) -> dict[str, Any]:
    """The JSON Schema (2020-12) of one row, as ``pyarrow.Table.to_pylist`` gives it."""
    properties: dict[str, Any] = {
        "id": {"type": "string", "minLength": 1},
        "image": {"type": "string", "minLength": 1, "description": "path below the image folder, or absolute"},
        "split": {"enum": list(SPLITS)},
    }
    if manifest.identity is not None:
        properties["identity"] = {"type": ["integer", "null"], "minimum": 0}
    if manifest.age is not None:
        properties["age"] = {"type": ["number", "null"], "minimum": 0, "maximum": 150, "description": "years"}
    properties |= {name: {"enum": [*values, None]} for name, values in manifest.classes.items()}
    properties |= {f"attribute:{name}": {"enum": [-1, 0, 1]} for name in manifest.vocabulary}
    if manifest.maps is not None:
        properties["map"] = {"type": ["string", "null"]}
    if manifest.present is not None:
        properties["present"] = {"type": "boolean"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{manifest.dataset}: a row of the manifest", "type": "object",
        "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip


def _header(manifest: Manifest) -> dict[str, Any]:
    values = {key: getattr(manifest, key) for key in _HEADER}
    return {"format": FORMAT, "created_by": f"llava_face_plugin {__version__}", "rows": len(manifest), **values}


def _read_header(path: Path, metadata: dict[bytes, bytes]) -> dict[str, Any]:
    if _KEY not in metadata:
        raise FaceDataError(f"{path}: no manifest (its metadata has no {_KEY.decode()!r})", "format")
    try:
        header = json.loads(metadata[_KEY])
    except ValueError as error:
        raise FaceDataError(f"{path}: the header is not JSON: {error}", "damaged") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else None
        raise FaceDataError(f"{path}: manifest of format {found!r}; this version reads format {FORMAT}", "format")
    for key, kind in _HEADER.items():
        if not isinstance(header.get(key), kind):
            raise FaceDataError(f"{path}: header key {key!r} is {header.get(key)!r}; expected a {kind.__name__}")
    texts = [*header["vocabulary"], *header["groups"], *header["problems"], *header["notes"]]
    for values in header["classes"].values():
        if not isinstance(values, list):
            raise FaceDataError(f"{path}: header key 'classes' holds {values!r}; expected a list of names")
        texts += values
    if not all(isinstance(t, str) for t in texts) or not all(type(n) is int for n in header["skipped"].values()):
        raise FaceDataError(f"{path}: the header holds a name that is not text, or a count that is not a number")
    return header


def _schema(pa: Any, manifest: Manifest, optional: set[str] | None = None) -> Any:
    """The file's schema; ``optional`` names the columns that are there, for a manifest that is not filled yet."""
    word = pa.dictionary(pa.int16(), pa.string())

    def has(column: str, values: np.ndarray | None) -> bool:
        return values is not None if optional is None else column in optional

    fields = [pa.field("id", pa.string()), pa.field("image", pa.string()), pa.field("split", word)]
    fields += [pa.field("identity", pa.int64())] * has("identity", manifest.identity)
    fields += [pa.field("age", pa.float32())] * has("age", manifest.age)
    fields += [pa.field(name, word) for name in manifest.classes]
    fields += [pa.field(f"attribute:{name}", pa.int8()) for name in manifest.vocabulary]
    fields += [pa.field("map", pa.string())] * has("map", manifest.maps)
    fields += [pa.field("present", pa.bool_())] * has("present", manifest.present)
    return pa.schema(fields)


def _columns(pa: Any, manifest: Manifest) -> list[tuple[str, Any]]:
    """The arrays, in the order of ``_schema``."""

    def words(codes: np.ndarray, values: tuple[str, ...]) -> Any:
        indices = pa.array(codes.astype(np.int16), mask=codes < 0)
        return pa.DictionaryArray.from_arrays(indices, pa.array(values, pa.string()))

    columns = [("id", pa.array(manifest.ids)), ("image", pa.array(manifest.images))]
    columns.append(("split", words(manifest.split, SPLITS)))
    if manifest.identity is not None:
        columns.append(("identity", pa.array(manifest.identity.astype(np.int64), mask=manifest.identity < 0)))
    if manifest.age is not None:
        columns.append(("age", pa.array(manifest.age.astype(np.float32), mask=np.isnan(manifest.age))))
    columns += [(name, words(manifest.labels[name], values)) for name, values in manifest.classes.items()]
    by_column = np.ascontiguousarray(manifest.attributes.astype(np.int8).T)
    columns += [(f"attribute:{n}", pa.array(v)) for n, v in zip(manifest.vocabulary, by_column, strict=True)]
    if manifest.maps is not None:
        columns.append(("map", pa.array(manifest.maps, pa.string(), mask=manifest.maps == "")))
    if manifest.present is not None:
        columns.append(("present", pa.array(manifest.present)))
    return columns


def _dictionaries(manifest: Manifest) -> list[str]:
    return ["split", *manifest.classes, *(f"attribute:{name}" for name in manifest.vocabulary)]


def _check_columns(path: Path, found: Any, expected: Any) -> None:
    for name in (f.name for f in expected):
        if name not in found.names:
            raise FaceDataError(f"{path}: column {name} is missing")
    for column in found:
        if column.name not in expected.names or found.names.count(column.name) > 1:
            raise FaceDataError(
                f"{path}: column {column.name} is not one that the header announces, or it is there twice"
            )
        wanted = expected.field(column.name).type
        if column.type != wanted:
            raise FaceDataError(f"{path}: column {column.name} is {column.type}; expected {wanted}")


def _fill(manifest: Manifest, path: Path, table: Any) -> None:
    """The arrays of ``table`` into ``manifest``."""

    def column(name: str, fill: Any = None) -> np.ndarray:
        values = table.column(name)
        if values.null_count and fill is None:
            row = values.is_null().to_pylist().index(True)
            raise FaceDataError(f"{path}: column {name}, row {row}: it is empty")
        return np.asarray((values.fill_null(fill) if values.null_count else values).to_numpy())

    def codes(name: str, known: tuple[str, ...]) -> np.ndarray:
        values = table.column(name).combine_chunks()
        values = values if hasattr(values, "dictionary") else values.unify_dictionaries().chunk(0)
        words = values.dictionary.to_pylist()
        place = np.array([known.index(w) if w in known else -2 for w in words] + [UNKNOWN], dtype=np.int16)
        found = place[values.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)]
        if (found == -2).any():
            row = int(np.argmax(found == -2))
            value = words[values.indices[row].as_py()]
            raise FaceDataError(f"{path}: column {name}, row {row}: {value!r} is none of {', '.join(known)}")
        return found

    names = table.column_names
    manifest.ids, manifest.images = column("id").astype(str), column("image").astype(str)
    manifest.split = codes("split", SPLITS).astype(np.int8)
    manifest.labels = {name: codes(name, values) for name, values in manifest.classes.items()}
    manifest.attributes = np.empty((len(table), len(manifest.vocabulary)), dtype=np.int8)
    for i, name in enumerate(manifest.vocabulary):
        manifest.attributes[:, i] = column(f"attribute:{name}")
    manifest.identity = column("identity", UNKNOWN) if "identity" in names else None
    manifest.age = column("age", float("nan")) if "age" in names else None
    manifest.maps = column("map", "").astype(str) if "map" in names else None
    manifest.present = column("present").astype(bool) if "present" in names else None
