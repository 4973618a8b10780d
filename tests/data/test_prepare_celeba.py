"""CelebA: official files in, conversations, questions and knowledge out; every bad input one clear error."""

from __future__ import annotations

import json
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from llava_face_plugin.data.celeba_files import read_attributes, read_mapping
from llava_face_plugin.data.datasets import ReadOptions
from llava_face_plugin.data.knowledge_source import read_source
from llava_face_plugin.data.manifest_file import load_manifest
from llava_face_plugin.data.prepare import prepare as prepare_dataset
from llava_face_plugin.data.prepared import Prepared
from llava_face_plugin.data.splits import SplitOptions, hold_out
from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.knowledge.build import build as build_knowledge
from llava_face_plugin.knowledge.file import Knowledge
from llava_face_plugin.labels import CELEBA_ATTRIBUTES
from llava_face_plugin.maps.files import write_map

DATA = Path(os.environ.get("FACE_TEST_DATA", "unset"))
needs_faces = pytest.mark.skipif(
    not (DATA / "celeba").is_dir(),
    reason="FACE_TEST_DATA is unset or has no celeba/: real faces are not part of the project",
)


def prepare(root: Path, out: Path, *, maps: str | Path | None = None, knowledge: bool = True, **splits) -> Prepared:  # type: ignore[no-untyped-def]
    read = ReadOptions(maps=Path(maps) if maps is not None else None)
    return prepare_dataset("celeba", root, out, read, SplitOptions(**splits), knowledge=knowledge)


def rows_of(path: Path) -> list[dict]:  # type: ignore[type-arg]
    return json.loads(path.read_text())


def test_prepared_files(celeba: Path, tmp_path: Path) -> None:
    done = prepare(celeba, tmp_path / "out", holdout=3, seed=2)
    train = rows_of(done.files["train"])
    questions = [json.loads(line) for line in done.files["val questions"].read_text().splitlines()]
    held = {q["sample"] for q in questions}
    assert len(held) == 4 and len(train) == 8  # 3 asked for; persons of two images stay whole
    assert not held & {r["id"] for r in train}
    people = {f"{i + 1:06d}": i // 2 for i in range(24)}
    assert not {people[h] for h in held} & {people[r["id"]] for r in train}
    assert len(questions) == 40 * 4 and len({q["question_id"] for q in questions}) == 160
    table = read_attributes(celeba / "list_attr_celeba.txt")
    for row in train:
        assert (celeba / row["image"]).is_file() and "face_map" not in row
        expected = table.values[table.names.index(f"{row['id']}.jpg")]
        assert [row["face_attributes"][a] for a in CELEBA_ATTRIBUTES] == expected.tolist()
    assert done.skipped == {"no image file (train)": 4, "no image file (val)": 4, "no image file (test)": 4}
    assert any("held out of train" in n and "no identity is in both" in n for n in done.notes)
    assert done.labels["train"].shape == (12, 40)  # also those without an image, but not those held out
    knowledge = Knowledge.load(done.files["knowledge"])
    assert knowledge.cooccurrence.rows == 12 and knowledge.meta["dataset"] == "celeba"
    saved = load_manifest(done.files["manifest"])
    assert {str(i) for i in saved.ids[:16][saved.split[:16] == 1]} == held
    assert any("held out" in note and "val in the manifest" in note for note in saved.notes)
    learned = [i for i in range(16) if f"{i + 1:06d}" not in held]
    assert np.array_equal(knowledge.cooccurrence.joint.diagonal(), table.values[learned].sum(axis=0))
    built, _ = build_knowledge([read_source(done.files["manifest"], "train")])
    assert built.meta["sources"] == [knowledge.meta["sources"][0] | {"dropped": [], "mapped": {}}]
    assert np.array_equal(built.cooccurrence.joint, knowledge.cooccurrence.joint)


def test_zips_and_folders_are_found(celeba: Path, tmp_path: Path) -> None:
    plain = prepare(celeba, tmp_path / "a", knowledge=False)
    for name, folder in (
        ("list_attr_celeba", "Anno"),
        ("list_eval_partition", "Eval"),
        ("identity_CelebA", "Anno"),
    ):
        (celeba / folder).mkdir(exist_ok=True)
        with zipfile.ZipFile(celeba / folder / f"{name}.zip", "w") as archive:
            archive.write(celeba / f"{name}.txt", f"some/where/{name}.txt")
        (celeba / f"{name}.txt").unlink()
    (celeba / "Img").mkdir()
    (celeba / "img_align_celeba").rename(celeba / "Img" / "img_align_celeba")
    zipped = prepare(celeba, tmp_path / "b", knowledge=False)
    a, b = (p.files["train"].read_text() for p in (plain, zipped))
    assert a == b.replace("Img/img_align_celeba", "img_align_celeba") and a != b


def test_val_images_are_used_when_there(celeba: Path, tmp_path: Path) -> None:
    images = celeba / "img_align_celeba"
    (images / "000018.jpg").write_bytes((images / "000001.jpg").read_bytes())
    done = prepare(celeba, tmp_path / "out", val_k=5, knowledge=False)
    assert done.rows == {"train": 12, "val images": 1, "val questions": 5} and not done.notes


def test_limits_seeds_and_text_only(celeba: Path, tmp_path: Path) -> None:
    def made(name: str, **options: int) -> str:
        return prepare(celeba, tmp_path / name, limit=5, k=2, knowledge=False, **options).files["train"].read_text()

    rows = json.loads(made("a", text_only=3))
    assert [("image" in r, len(r["conversations"])) for r in rows] == [(True, 4)] * 5 + [(False, 2)] * 3
    assert made("b") == made("c") != made("d", seed=1)


def test_maps_outside_root_get_absolute_paths(celeba: Path, tmp_path: Path) -> None:
    for i in (1, 2, 3):
        write_map(tmp_path / "maps" / f"{i:06d}.png", np.full((22, 18), i, dtype=np.uint8))
    done = prepare(celeba, tmp_path / "out", maps=tmp_path / "maps", holdout=0, knowledge=False)
    found = {r["id"]: r.get("face_map") for r in rows_of(done.files["train"])}
    assert found["000002"] == str(tmp_path / "maps" / "000002.png") and found["000009"] is None
    assert any("absolute" in n for n in done.notes) and any("9 of 12 images have no map" in n for n in done.notes)
    assert len(json.loads(done.files["map index"].read_text())["maps"]) == 3


def edit(path: Path, line: int, change) -> None:  # type: ignore[no-untyped-def]
    lines = path.read_text().splitlines()
    lines[line - 1] = change(lines[line - 1])
    path.write_text("\r\n".join(lines) + "\r\n")


ATTR, PART, IDENTITY = "list_attr_celeba.txt", "list_eval_partition.txt", "identity_CelebA.txt"


@pytest.mark.parametrize(
    ("file", "line", "change", "message"),
    [
        (ATTR, 1, lambda s: "25", r"line 1: says 25 rows, but the file has 24"),
        (ATTR, 1, lambda s: "many", r"line 1: expected the number of rows, found 'many'"),
        (
            ATTR,
            2,
            lambda s: s.replace("Bald", "Balt"),
            r"line 2: unknown attribute 'Balt'; did you mean 'Bald'",
        ),
        (ATTR, 2, lambda s: s.replace("Bald", "Young"), r"line 2: expected CelebA's 40 .*without Bald"),
        (ATTR, 7, lambda s: s.rsplit(" ", 1)[0], r"line 7: expected a name and 40 values, found 39"),
        (ATTR, 7, lambda s: s + " 1", r"line 7: expected a name and 40 values, found 41"),
        (
            ATTR,
            9,
            lambda s: s.rsplit(" ", 1)[0] + " 0",
            r"line 9 \(000007.jpg\): value '0' is neither -1 nor 1",
        ),
        (ATTR, 9, lambda s: s.rsplit(" ", 1)[0] + " 11", r"line 9 \(000007.jpg\): value '11'"),
        (ATTR, 9, lambda s: s.rsplit(" ", 1)[0] + " x", r"line 9 \(000007.jpg\): value 'x'"),
        (ATTR, 9, lambda s: s.replace("000007", "000002"), r"line 9: 000002.jpg was already in line 4"),
        (ATTR, 5, lambda s: s.replace("000003", "999999"), r"line 5: 999999.jpg has no partition .*1 such"),
        (PART, 3, lambda s: "000003.jpg 7", r"line 3: expected a partition 0, 1 or 2, found 7"),
        (PART, 3, lambda s: "000003.jpg", r"line 3: expected an image name and a partition.*found 1 columns"),
        (PART, 3, lambda s: "000001.jpg 0", r"line 3: 000001.jpg was already in line 1"),
        (IDENTITY, 2, lambda s: "000002.jpg who", r"line 2: expected an identity number, found 'who'"),
        (IDENTITY, 2, lambda s: "x.jpg 4", r"no identity for 000002.jpg"),
    ],
)
def test_bad_lines_are_named(celeba: Path, tmp_path: Path, file: str, line: int, change, message: str) -> None:  # type: ignore[no-untyped-def]
    edit(celeba / file, line, change)
    with pytest.raises(FaceDataError, match=message) as error:
        prepare(celeba, tmp_path / "out")
    assert file in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda root: (root / ATTR).unlink(), r"list_attr_celeba.txt is missing"),
        (lambda root: (root / PART).unlink(), r"list_eval_partition.txt is missing"),
        (lambda root: (root / "img_align_celeba").rename(root / "pictures"), r"no image folder"),
        (lambda root: [p.unlink() for p in (root / "img_align_celeba").iterdir()], r"none of the 24 images"),
        (
            lambda root: (root / ATTR).write_text("3\n"),
            r"expected a count, a line of attribute names and rows",
        ),
        (
            lambda root: ((root / ATTR).unlink(), (root / "list_attr_celeba.zip").write_text("x")),
            r"cannot be read",
        ),
    ],
)
def test_missing_things_are_named(celeba: Path, tmp_path: Path, break_it, message: str) -> None:  # type: ignore[no-untyped-def]
    break_it(celeba)
    with pytest.raises(FaceDataError, match=message):
        prepare(celeba, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "trian"}, "expected one of train, val, test, got 'trian'"),
        ({"k": 0}, "k: must be at least 1"),
        ({"holdout": -1}, "holdout: must not be negative"),
        ({"holdout": 12}, "only 12 train images"),
        ({"split": "val"}, "no image of the val split"),
        ({"maps": "nowhere"}, "maps: no such folder"),
    ],
)
def test_bad_options(celeba: Path, tmp_path: Path, options: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(FaceDataError, match=message):
        prepare(celeba, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    with pytest.raises(FaceDataError, match="CelebA: no such folder"):
        prepare(tmp_path / "nowhere", tmp_path / "out")


def test_hold_out_takes_whole_groups_and_never_all() -> None:
    groups = np.repeat(np.arange(50), np.arange(50) % 4 + 1)
    for n in (0, 1, 10, 60):
        held = hold_out(groups, n, seed=n)
        assert n <= held.sum() <= (n + 3 if n else 0)
        assert not set(groups[held]) & set(groups[~held])
    assert not hold_out(np.zeros(5), 3, seed=0).any()
    assert np.array_equal(hold_out(groups, 9, 1), hold_out(groups, 9, 1))


def test_mapping_file(tmp_path: Path) -> None:
    path = tmp_path / "m.txt"
    path.write_text("idx     orig_idx    orig_file\n0       119613      119614.jpg\n1  99094  099095.jpg\n")
    assert read_mapping(path) == {0: "119614.jpg", 1: "099095.jpg"}
    for text, message in (("0 1 2\n", "line 1"), ("idx orig_idx orig_file\n0 1\n", "line 2: expected idx")):
        path.write_text(text)
        with pytest.raises(FaceDataError, match=message):
            read_mapping(path)


@needs_faces
def test_real_celeba_in_seconds(tmp_path: Path) -> None:
    start = time.monotonic()
    done = prepare(DATA / "celeba", tmp_path)
    took = time.monotonic() - start
    rows = len(done.labels["train"])
    assert 150_000 < rows < 162_770 and len(done.labels["val"]) == 19_867 + 162_770 - rows
    assert done.labels["test"].shape == (19_962, 40)
    assert done.skipped == {
        "no image file (train)": 160_770, "no image file (val)": 19_867, "no image file (test)": 19_962,
    }  # fmt: skip
    assert done.rows["train"] + done.rows["val images"] == 2000
    knowledge = Knowledge.load(done.files["knowledge"])
    bald, bangs = (CELEBA_ATTRIBUTES.index(a) for a in ("Bald", "Bangs"))
    assert knowledge.cooccurrence.rows == rows and knowledge.cooccurrence.joint[bald, bangs] == 0
    first = next(r for r in rows_of(done.files["train"]) if r["id"] in ("000001", "000002", "000003"))
    assert first["face_attributes"]["Mouth_Slightly_Open"] == (0 if first["id"] == "000003" else 1)
    assert took < 30  # about 4 s on two cores
