"""CelebAMask-HQ in both layouts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llava_face_plugin.data.celeba_files import read_attributes
from llava_face_plugin.data.datasets import ReadOptions
from llava_face_plugin.data.datasets.celebamask_hq import derive
from llava_face_plugin.data.prepare import prepare as prepare_dataset
from llava_face_plugin.data.prepared import Prepared
from llava_face_plugin.data.splits import SplitOptions
from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.labels import CELEBA_ATTRIBUTES
from llava_face_plugin.maps.files import open_image, read_map, write_map
from llava_face_plugin.parsing.precomputed import PrecomputedParser

DATA = Path(os.environ.get("FACE_TEST_DATA", "unset"))
needs_faces = pytest.mark.skipif(
    not (DATA / "celebamask_hq").is_dir(),
    reason="FACE_TEST_DATA is unset or has no celebamask_hq/: real faces are not part of the project",
)


def prepare(root: Path, out: Path, *, celeba_root: Path | None = None, knowledge: bool = True, **splits) -> Prepared:  # type: ignore[no-untyped-def]
    read = ReadOptions(celeba_root=celeba_root)
    return prepare_dataset("celebamask_hq", root, out, read, SplitOptions(**splits), knowledge=knowledge)


def simple(root: Path) -> Path:
    (root / "images").mkdir(parents=True)
    for stem, ids in {"a": [3], "b": [14, 16], "c": []}.items():
        Image.new("RGB", (32, 32), (len(ids) * 40, 5, 5)).save(root / "images" / f"{stem}.jpg")
        labels = np.ones((32, 32), dtype=np.uint8)
        for i, part in enumerate(ids):
            labels[i * 4 : i * 4 + 3] = part
        write_map(root / "masks" / f"{stem}.png", labels)
    return root


def test_official_layout_merges_parts_in_order(hq: Path, tmp_path: Path) -> None:
    done = prepare(hq, tmp_path / "out", holdout=0)
    rows = json.loads(done.files["train"].read_text())
    expected = np.zeros((32, 32), dtype=np.uint8)
    expected[4:28, 4:28] = 1
    expected[12:14, 18:22] = 4
    expected[0:10, 4:28] = 13  # hair comes after skin
    table = read_attributes(hq / "CelebAMask-HQ-attribute-anno.txt")
    for i, row in enumerate(rows):
        assert row["id"] == str(i) and (hq / row["image"]).is_file()
        assert np.array_equal(read_map(hq / row["face_map"]), expected)  # joined with the image folder
        assert [row["face_attributes"][a] for a in CELEBA_ATTRIBUTES] == table.values[i].tolist()
    assert any("absolute" in n for n in done.notes) and any("counts as train" in n for n in done.notes)
    found = PrecomputedParser(done.files["map index"]).parse([open_image(hq / rows[1]["image"])])[0].labels
    assert found is not None and found.shape == (64, 64) and np.array_equal(found[::2, ::2], expected)


def test_maps_below_root_are_relative_and_kept_on_a_second_run(hq: Path) -> None:
    prepare(hq, hq / "prepared", knowledge=False)
    before = (hq / "prepared" / "maps" / "0.png").stat().st_mtime_ns
    done = prepare(hq, hq / "prepared", knowledge=False)
    row = json.loads(done.files["train"].read_text())[0]
    assert row["face_map"] == f"prepared/maps/{row['id']}.png" and not any("absolute" in n for n in done.notes)
    assert (hq / "prepared" / "maps" / "0.png").stat().st_mtime_ns == before


def test_celebas_partition_gives_the_splits(hq: Path, tmp_path: Path) -> None:
    (hq / "CelebA-HQ-to-CelebA-mapping.txt").write_text(
        "idx orig_idx orig_file\n0 4 000005.jpg\n1 8 000009.jpg\n2 1 000002.jpg\n"
    )
    partition = tmp_path / "celeba"
    partition.mkdir()
    (partition / "list_eval_partition.txt").write_text("000002.jpg 2\n000005.jpg 1\n000009.jpg 0\n")
    done = prepare(hq, tmp_path / "out", celeba_root=partition, knowledge=False)
    assert [r["id"] for r in json.loads(done.files["train"].read_text())] == ["1"]
    assert {json.loads(s)["sample"] for s in done.files["val questions"].read_text().splitlines()} == {"0"}
    (partition / "list_eval_partition.txt").write_text("000002.jpg 2\n000005.jpg 1\n")
    with pytest.raises(FaceDataError, match=r"no partition for 000009.jpg \(image 1\)"):
        prepare(hq, tmp_path / "out", celeba_root=partition)


def test_skipped_and_broken_parts(hq: Path, tmp_path: Path) -> None:
    (hq / "CelebA-HQ-img" / "0.jpg").unlink()
    parts = hq / "CelebAMask-HQ-mask-anno" / "0"
    for path in parts.glob("00001_*"):
        path.unlink()
    done = prepare(hq, tmp_path / "out", knowledge=False, holdout=0)
    assert done.rows["train"] == 1 and done.skipped == {"no image file": 1, "no part mask": 1}
    Image.new("L", (16, 16), 255).save(parts / "00002_hair.png")
    with pytest.raises(FaceDataError, match=r"00002_hair.png: 16x16, but the other parts of image 2 are 32x32"):
        prepare(hq, tmp_path / "again")
    Image.new("RGB", (64, 32)).save(hq / "CelebA-HQ-img" / "2.jpg")
    Image.new("L", (32, 32), 255).save(parts / "00002_hair.png")
    with pytest.raises(FaceDataError, match=r"32x32 is not the shape of .*2.jpg \(64x32\)"):
        prepare(hq, tmp_path / "third")


def test_simple_layout_derives_four_attributes(tmp_path: Path) -> None:
    root = simple(tmp_path / "set")
    done = prepare(root, tmp_path / "out", holdout=0)
    rows = {r["id"]: r for r in json.loads(done.files["train"].read_text())}
    assert rows["a"]["face_attributes"] == {
        "Eyeglasses": 1, "Wearing_Earrings": 0, "Wearing_Hat": 0, "Wearing_Necklace": 0,
    }  # fmt: skip
    assert [a for a, v in rows["b"]["face_attributes"].items() if v] == ["Wearing_Hat", "Wearing_Necklace"]
    assert rows["c"]["face_map"] == "masks/c.png" and not any(rows["c"]["face_attributes"].values())
    assert (done.labels["train"] >= 0).sum() == 12
    (root / "masks" / "a.png").rename(root / "masks" / "z.png")
    again = prepare(root, tmp_path / "out", holdout=1, knowledge=False)
    assert again.skipped == {"no mask": 1, "no image file": 1}
    assert len(again.labels["train"]) == 1  # nothing is learned from the image that was held out


def test_stray_pixels_do_not_count() -> None:
    labels = np.ones((512, 512), dtype=np.uint8)
    labels[0, :19] = 15
    earrings = CELEBA_ATTRIBUTES.index("Wearing_Earrings")
    assert derive(labels)[earrings] == 0
    labels[0, 19] = 15
    assert derive(labels)[earrings] == 1 and (derive(labels) == -1).sum() == 36


def test_neither_layout(tmp_path: Path) -> None:
    with pytest.raises(FaceDataError, match="neither CelebA-HQ-img/"):
        prepare(tmp_path, tmp_path / "out")
    root = simple(tmp_path / "set")
    Image.new("RGB", (32, 32)).save(root / "masks" / "a.png")
    with pytest.raises(FaceDataError, match=r"a.png \(sample a\): .* mode RGB"):
        prepare(root, tmp_path / "out")


@needs_faces
def test_real_course_set(tmp_path: Path) -> None:
    done = prepare(DATA / "celebamask_hq", tmp_path, holdout=0, limit=40)
    assert done.rows["train"] == 40 and done.labels["train"].shape == (600, 40)
    counts = {a: int((done.labels["train"][:, CELEBA_ATTRIBUTES.index(a)] == 1).sum()) for a in CELEBA_ATTRIBUTES}
    assert counts["Eyeglasses"] == 35 and counts["Wearing_Hat"] == 31
    assert counts["Wearing_Earrings"] == 142 and counts["Wearing_Necklace"] == 19
    row = json.loads(done.files["train"].read_text())[0]
    image = open_image(DATA / "celebamask_hq" / row["image"])
    found = PrecomputedParser(tmp_path).parse([image])[0].labels
    assert found is not None and np.array_equal(found, read_map(DATA / "celebamask_hq" / row["face_map"]))
