"""What there is to segment: folders, LLaVA JSONs, parquet files."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stand_in_parser import StandIn, ids_of, make_images, picture, run

from llava_face_plugin.errors import FaceConfigError, FaceDataError
from llava_face_plugin.maps.store import MapStore
from llava_face_plugin.segment.entries import find
from llava_face_plugin.segment.run import Options, segment


def names_of(*args: Any, **options: Any) -> list[str]:
    return [entry.name for entry in find(*args, **options)]


def test_a_folder_is_sorted_and_has_neither_hidden_files_nor_the_store(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "b/10.jpg", "a.jpg", ".hidden.jpg", ".git/x.jpg", "store/maps/a.jpg.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names_of(tmp_path, leave_out=tmp_path / "store") == ["a.jpg", "b/10.jpg", "b/2.jpg"]


def test_links_to_folders_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/x.jpg").touch()
    (tmp_path / "in/sub").mkdir(parents=True)
    (tmp_path / "in/coco").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/sub/up").symlink_to(tmp_path / "in")
    assert names_of(tmp_path / "in") == ["coco/x.jpg"]


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in/sub").mkdir(parents=True)
    real = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(FaceDataError, match="sub: cannot be listed"):
        find(tmp_path / "in")


@pytest.mark.parametrize(
    ("name", "told"),
    [("nothing", "no such file or folder"), ("x.txt", "expected a folder"), ("empty", "there is no image in it")],
)
def test_other_inputs_are_refused(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "x.txt").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(FaceDataError, match=told):
        find(tmp_path / name)


def llava_json(tmp_path: Path, images: list[Any]) -> Path:
    samples = [{"id": str(i), "conversations": []} | ({} if x is None else {"image": x}) for i, x in enumerate(images)]
    path = tmp_path / "train.json"
    path.write_text(json.dumps(samples))
    return path


def test_a_llava_json_with_lists(tmp_path: Path) -> None:
    names = make_images(tmp_path / "images", 4)
    inside = str(tmp_path / "images" / names[3])
    path = llava_json(tmp_path, [names[0], [names[1], f"./{names[2]}"], None, names[0], inside])
    (tmp_path / "images/unnamed.png").touch()
    summary = run(path, tmp_path / "store", image_folder=tmp_path / "images")
    assert (summary.ok, summary.images) == (4, 4)
    assert sorted(row.image for row in MapStore.open(tmp_path / "store").rows()) == names
    assert MapStore.open(tmp_path / "store").get(f"./{names[2]}") is not None


def test_names_that_lead_out_of_the_folder_are_failed_rows(tmp_path: Path) -> None:
    names = make_images(tmp_path / "images", 1)
    picture(0).save(tmp_path / "outside.png")
    bad = ["../outside.png", "a/../../outside.png", str(tmp_path / "outside.png"), "", "a\0b", "x" * 300]
    path = llava_json(tmp_path, [names[0], *bad])
    summary = run(path, tmp_path / "store", image_folder=tmp_path / "images")
    assert summary.ok == 1 and summary.failed == {"path": 6}
    store = MapStore.open(tmp_path / "store")
    for name in bad:
        assert store.get(name) is None
        row = store.row(name)
        assert row is not None and (row.reason, row.image) == ("path", name)
    assert not (tmp_path / "store/outside.png.png").exists()
    assert run(path, tmp_path / "store", image_folder=tmp_path / "images").done == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [("{", "cannot be read as JSON"), ("{}", "expected a list"), ('[{"image": 3}]', "row 0: image is 3")],
)
def test_other_jsons_are_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(FaceDataError, match=told):
        find(tmp_path / "x.json", image_folder=tmp_path)


def test_options_that_do_not_fit_the_input_are_refused(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 1)
    with pytest.raises(FaceConfigError, match="not for a folder"):
        find(tmp_path / "images", image_folder=tmp_path)
    with pytest.raises(FaceConfigError, match="--image-folder"):
        find(llava_json(tmp_path, ["a"]))
    with pytest.raises(FaceConfigError, match="shard 3/2"):
        Options(shard=(3, 2))


def encoded(seed: int) -> bytes:
    out = io.BytesIO()
    picture(seed).save(out, "PNG")
    return out.getvalue()


def parquet(path: Path, columns: dict[str, list[Any]], row_group_size: int = 3) -> Path:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def test_parquet_of_paths(tmp_path: Path) -> None:
    names = make_images(tmp_path / "images", 4)
    path = parquet(tmp_path / "x.parquet", {"file": [*names, names[0], "gone.png"]})
    summary = run(path, tmp_path / "store", image_folder=tmp_path / "images", image_column="file")
    assert summary.ok == 4 and summary.failed == {"missing": 1}
    np.testing.assert_array_equal(MapStore.open(tmp_path / "store").get(names[2]), ids_of(int(names[2][2:5])))


def test_parquet_of_bytes_with_ids(tmp_path: Path) -> None:
    columns = {"image": [encoded(i) for i in range(8)], "key": [100 + i for i in range(8)]}
    path = parquet(tmp_path / "x.parquet", columns)
    assert run(path, tmp_path / "store", id_column="key", workers=3).ok == 8
    store = MapStore.open(tmp_path / "store")
    for i in range(8):
        np.testing.assert_array_equal(store.get(str(100 + i)), ids_of(i))
    assert run(path, tmp_path / "store", id_column="key").done == 0
    # the file is written anew with one image changed
    columns["image"][3] = encoded(77)
    parquet(path, columns)
    os.utime(path, (2e9, 2e9))
    again = run(path, tmp_path / "store", id_column="key")
    assert (again.ok, again.there) == (1, 7)
    np.testing.assert_array_equal(MapStore.open(tmp_path / "store").get("103"), ids_of(77))


def test_parquet_of_bytes_without_ids_goes_by_file_and_row(tmp_path: Path) -> None:
    for part in range(2):
        parquet(tmp_path / f"data/{part}.parquet", {"image": [encoded(10 * part + i) for i in range(4)] + [None]})
    summary = run(tmp_path / "data", tmp_path / "store", format="parquet")
    assert summary.ok == 8 and summary.failed == {"missing": 2}
    np.testing.assert_array_equal(MapStore.open(tmp_path / "store").get("1/00000002"), ids_of(12))


def test_parquet_of_structs(tmp_path: Path) -> None:
    make_images(tmp_path, 1)  # a/000.png
    values = [
        {"bytes": encoded(5), "path": "five.png"},
        {"bytes": None, "path": "a/000.png"},
        {"bytes": encoded(6), "path": "sub/six.png"},
    ]
    path = parquet(tmp_path / "x.parquet", {"image": values})
    assert run(path, tmp_path / "store").ok == 3
    store = MapStore.open(tmp_path / "store")
    for name, seed in (("five.png", 5), ("a/000.png", 0), ("sub/six.png", 6)):
        np.testing.assert_array_equal(store.get(name), ids_of(seed))


def test_parquet_structs_whose_paths_are_not_unique_go_by_row(tmp_path: Path) -> None:
    values = [{"bytes": encoded(i), "path": "image.png"} for i in range(3)]
    path = parquet(tmp_path / "x.parquet", {"image": values})
    assert names_of(path) == [f"x/{i:08d}" for i in range(3)]


def test_parquet_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "x.parquet", {"picture": [b"1", b"2"], "n": [1, 2], "id": ["a", "a"], "none": ["a", None]}
    )
    with pytest.raises(FaceConfigError, match=r"no column 'image'; it has \['picture', 'n', 'id', 'none'\]"):
        find(path)
    with pytest.raises(FaceDataError, match="column 'n' is int64"):
        find(path, image_column="n")
    with pytest.raises(FaceDataError, match="1 ids of column 'id' occur twice, for example 'a'"):
        find(path, image_column="picture", id_column="id")
    with pytest.raises(FaceDataError, match="row 1: no id in column 'none'"):
        find(path, image_column="picture", id_column="none")
    (tmp_path / "y.parquet").write_bytes(b"nonsense")
    with pytest.raises(FaceDataError, match=r"y\.parquet: cannot be read"):
        find(tmp_path / "y.parquet")


def test_entries_made_in_python_are_taken_too(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 3)
    entries = find(tmp_path / "images")[1:]
    assert segment(entries, tmp_path / "store", StandIn).images == 2
    assert isinstance(entries[-1].source, Path) and Image.open(entries[-1].source).size == (24, 32)
