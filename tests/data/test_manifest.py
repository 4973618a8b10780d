"""The manifest on disk: what goes in comes out, and what is not valid does not go in."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pytest

from llava_face_plugin import __version__
from llava_face_plugin.data.label_table import exactly_one, label_prompts, label_table
from llava_face_plugin.data.manifest import Manifest
from llava_face_plugin.data.manifest_file import load_manifest, save_manifest
from llava_face_plugin.errors import FaceDataError

pq = pytest.importorskip("pyarrow.parquet")


def made(n: int = 200, attributes: int = 3) -> Manifest:
    rng = np.random.default_rng(0)
    manifest = Manifest(
        dataset="test",
        images=np.array([f"a/{i}.jpg" for i in range(n)]),
        split=rng.integers(0, 3, n).astype(np.int8),
        vocabulary=tuple(f"A {i}" for i in range(attributes)),
        attributes=rng.integers(-1, 2, (n, attributes)).astype(np.int8),
        classes={"expression": ("sad", "happy", "nobody has it"), "race": ("x", "y")},
        labels={c: rng.integers(-1, 2, n).astype(np.int16) for c in ("expression", "race")},
        age=np.where(rng.random(n) < 0.3, np.nan, rng.random(n) * 90).astype(np.float32),
        identity=rng.integers(-1, 50, n),
        present=rng.random(n) < 0.5,
        maps=np.where(rng.random(n) < 0.5, "", "maps/ü.png"),
        groups=("race", "A 1"),
        sources=[{"name": "labels.txt", "sha256": "0" * 64, "rows": n}],
        problems=["labels.txt, line 3: no"],
        notes=["licence: none"],
    )
    manifest.skipped["no name"] += 2
    return manifest


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    manifest = made()
    save_manifest(manifest, tmp_path / "new" / "manifest.parquet")
    found = load_manifest(tmp_path / "new" / "manifest.parquet")
    for field in dataclasses.fields(Manifest):
        a, b = getattr(manifest, field.name), getattr(found, field.name)
        if field.name == "labels":
            assert all(np.array_equal(a[c], b[c]) and b[c].dtype == np.int16 for c in a) and a.keys() == b.keys()
        elif isinstance(a, np.ndarray):
            assert a.dtype.kind == b.dtype.kind and np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), field.name
        else:
            assert a == b, field.name
    assert found.attributes.dtype == found.split.dtype == np.int8 and found.age is not None
    assert found.age.dtype == np.float32


def test_what_is_not_known_has_no_column(tmp_path: Path) -> None:
    bare = Manifest("bare", np.array(["x/1.jpg", "y/1.jpg"]), np.zeros(2, dtype=np.int8))
    assert bare.ids.tolist() == ["x/1", "y/1"]  # the stems are alike
    save_manifest(bare, tmp_path / "m.parquet")
    assert pq.read_schema(tmp_path / "m.parquet").names == ["id", "image", "split"]
    found = load_manifest(tmp_path / "m.parquet")
    assert found.present is found.maps is found.age is found.identity is None and found.attributes.shape == (2, 0)


def test_columns_header_and_json_schema(tmp_path: Path) -> None:
    manifest = made()
    save_manifest(manifest, tmp_path / "manifest.parquet")
    table = pq.read_table(tmp_path / "manifest.parquet")
    header = json.loads(table.schema.metadata[b"face_manifest"])
    assert header["created_by"] == f"llava_face_plugin {__version__}" and header["rows"] == 200
    assert header["skipped"] == {"no name": 2} and header["sources"] == manifest.sources
    types = {f.name: str(f.type) for f in table.schema}
    assert types["attribute:A 1"] == "int8" and types["identity"] == "int64" and types["present"] == "bool"
    assert types["race"].startswith("dictionary<values=string") and types["split"] == types["race"]
    schema = json.loads((tmp_path / "manifest.schema.json").read_text())
    assert list(schema["properties"]) == table.column_names == schema["required"]
    for row in table.to_pylist():
        for name, value in row.items():
            known = schema["properties"][name]
            assert value in known["enum"] if "enum" in known else kind_of(value) in np.atleast_1d(known["type"])


def kind_of(value: object) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    return kinds[type(value)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.array(["a.jpg"] * 200)}, r"column image, row 1: 'a.jpg' was already in row 0"),
        ({"images": np.array(["", *map(str, range(199))])}, "column image, row 0: it is empty"),
        ({"split": np.full(200, 3, dtype=np.int8)}, r"column split, row 0: 3 is not from 0 to 2"),
        ({"split": np.zeros(200)}, r"column split: float64 of shape \(200,\); expected whole numbers"),
        ({"attributes": np.full((200, 3), 2, dtype=np.int8)}, "column attribute:A 0, row 0: 2 is not from -1 to 1"),
        ({"attributes": np.zeros((200, 2), dtype=np.int8)}, r"column attributes: int8 of shape \(200, 2\)"),
        ({"age": np.full(200, np.inf, dtype=np.float32)}, "column age, row 0: inf"),
        ({"vocabulary": ("A", "A", "B")}, "vocabulary: every name must be text and occur once"),
        ({"classes": {"expression": ("a", "b", "c")}}, "labels .* and classes .* differ"),
        ({"groups": ("Male",)}, "group 'Male' is neither"),
        ({"identity": np.full(200, -2)}, "column identity, row 0: -2"),
        ({"ids": np.array(["x"] * 200)}, "column id, row 1: 'x' was already"),
    ],
)
def test_what_is_not_valid_is_not_saved(tmp_path: Path, change: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(FaceDataError, match=message) as error:
        save_manifest(dataclasses.replace(made(), **change), tmp_path / "manifest.parquet")
    assert "manifest.parquet" in str(error.value) and not list(tmp_path.iterdir())


def test_a_label_must_not_shadow_a_column(tmp_path: Path) -> None:
    manifest = made()
    manifest.classes["split"], manifest.labels["split"] = ("a",), np.zeros(200, dtype=np.int16)
    with pytest.raises(FaceDataError, match="must not be called 'split'"):
        save_manifest(manifest, tmp_path / "manifest.parquet")
    with pytest.raises(FaceDataError, match="has no row"):
        save_manifest(
            Manifest("none", np.zeros(0, dtype=str), np.zeros(0, dtype=np.int8)), tmp_path / "manifest.parquet"
        )


def test_an_unknown_value_is_named_with_its_row(tmp_path: Path) -> None:
    import pyarrow as pa

    path = tmp_path / "manifest.parquet"
    save_manifest(made(), path)
    table = pq.read_table(path)
    values = table.column("race").to_pylist()
    values[7] = "z"
    word = table.schema.field("race").type
    table = table.set_column(table.column_names.index("race"), "race", pa.array(values).cast(word))
    pq.write_table(table, path)
    with pytest.raises(FaceDataError, match=r"manifest.parquet: column race, row 7: 'z' is none of x, y"):
        load_manifest(path)
    with pytest.raises(FaceDataError, match="no such manifest"):
        load_manifest(tmp_path / "none.parquet")
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(FaceDataError, match="no manifest"):
        load_manifest(path)


def test_one_hot_labels_keep_unknowns_and_their_rules_hold() -> None:
    manifest = made()
    names, values = label_table(manifest)
    assert names[:4] == ("A 0", "A 1", "A 2", "expression:sad") and values.shape == (200, 8)
    assert np.array_equal(values[:, :3], manifest.attributes)
    for column, places in (("expression", slice(3, 6)), ("race", slice(6, 8))):
        known = manifest.labels[column] >= 0
        assert (values[~known, places] == -1).all() and (values[known, places].sum(axis=1) == 1).all()
        assert np.array_equal(values[known, places].argmax(axis=1), manifest.labels[column][known])
    assert [r.kind for r in exactly_one(manifest)] == ["exactly_one"] * 2
    assert {a for r in exactly_one(manifest) for a in r.attributes()} == set(names[3:])
    assert label_prompts(manifest)["expression:nobody has it"] == "expression nobody has it"


def test_200_000_rows_in_a_few_seconds(tmp_path: Path) -> None:
    manifest = made(202_599, 40)
    start = time.process_time()
    save_manifest(manifest, tmp_path / "manifest.parquet")
    load_manifest(tmp_path / "manifest.parquet")
    assert time.process_time() - start < 6  # 0.7 s and 1.0 s on a busy two-core machine
