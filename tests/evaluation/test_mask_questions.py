"""Questions from masks whose shares are known by construction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic_sources as sources

from llava_face_plugin.data.manifest import Manifest
from llava_face_plugin.data.manifest_file import save_manifest
from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.evaluation.builders import BENCHMARKS, BuildOptions, build
from llava_face_plugin.evaluation.builders.masks import PRESENCE
from llava_face_plugin.evaluation.questions import LETTERS, load_questions
from llava_face_plugin.labels import FACE_PARTS
from llava_face_plugin.maps.files import write_map

pytest.importorskip("pyarrow", reason="manifests are parquet")


def asked(kind: str, root: Path, *masks: dict[str, int]) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """Topic -> question about the last of these masks of 100 x 100 pixels, given by pixels a part; what was skipped."""
    names = [f"{i}.png" for i in range(len(masks))]
    for name, pixels in zip(names, masks, strict=True):
        flat = np.repeat([FACE_PARTS.index(p) for p in pixels], list(pixels.values())).astype(np.uint8)
        mask = np.zeros(10_000, dtype=np.uint8)
        mask[: len(flat)] = flat
        sources.picture(root / "images" / name)
        (root / "masks").mkdir(exist_ok=True)
        write_map(root / "masks" / name, mask.reshape(100, 100))
    manifest = Manifest(
        "celebamask_hq", np.array([f"images/{n}" for n in names]), np.full(len(names), 2, dtype=np.int8),
        maps=np.array([f"masks/{n}" for n in names]),
    )  # fmt: skip
    save_manifest(manifest, root / "manifest.parquet")
    path, header = build(BENCHMARKS[f"face_celebamask_hq_{kind}"], root, root / "q", root / "manifest.parquet")
    rows = load_questions(path)[1].to_pylist()
    return {q["topic"]: q for q in rows if q["image_id"] == str(len(masks) - 1)}, header.skipped


def right(question: dict[str, Any]) -> str:
    return question["options"][LETTERS.index(question["answer"][0])]


def test_presence_by_pixels(tmp_path: Path) -> None:
    # The least share is 20 pixels of 512 x 512: 0.76 pixels of 10,000, so that a single one counts.
    found, skipped = asked("presence", tmp_path, {"hair": 900, "r_ear": 40, "hat": 1, "skin": 2000})
    assert not skipped and set(found) == set(PRESENCE)
    yes = {topic for topic, q in found.items() if q["answer"] == ["yes"]}
    assert yes == {"hair", "r_ear", "hat"}
    assert "left side of the picture" in found["r_ear"]["question"]
    assert "right side of the picture" in found["l_ear"]["question"] and found["l_ear"]["answer"] == ["no"]


def test_a_few_stray_pixels_are_not_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava_face_plugin.evaluation.builders.masks.MIN_SHARE", 0.01)
    found, skipped = asked("presence", tmp_path, {"hair": 100, "hat": 99})
    assert found["hair"]["answer"] == ["yes"] and "hat" not in found
    assert skipped == {"question about a part of too few pixels to tell": 1}


def test_the_larger_of_two(tmp_path: Path) -> None:
    mask = {"hair": 3040, "skin": 2000, "neck": 100, "cloth": 149, "l_eye": 40, "r_eye": 40, "l_brow": 30, "r_brow": 10}
    found, _ = asked("area", tmp_path, mask)
    answers = {topic: right(q) for topic, q in found.items()}
    # background: 10,000 - 5,409 = 4,591; neck and clothing are closer than 1.5, there are no lips
    assert answers == {
        "hair / the skin of the face": "hair", "the background / hair": "the background",
        "the background / the skin of the face": "the background", "hair / clothing": "hair",
        "the eyes / the eyebrows": "the eyes",
    }  # fmt: skip
    assert all(len(q["options"]) == 2 and sorted(q["permutation"]) == [0, 1] for q in found.values())


def test_shares_in_bins(tmp_path: Path) -> None:
    found, _ = asked("share", tmp_path, {"hair": 1000, "skin": 3500})
    answers = {topic: right(q) for topic, q in found.items()}
    assert answers == {
        "hair": "less than 15 percent", "the skin of the face": "30 to 45 percent",
        "the background": "more than 45 percent",
    }  # fmt: skip
    near, _ = asked("share", tmp_path, {"hair": 1690, "skin": 4310})  # 16.9, 43.1 and 40 %: two near a border
    assert set(near) == {"the background"}


def test_a_mask_that_is_missing_or_damaged_is_counted(tmp_path: Path) -> None:
    masks = [{"hair": 900}] * 3
    asked("presence", tmp_path, *masks)
    (tmp_path / "masks" / "0.png").unlink()
    (tmp_path / "masks" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    path, header = build(
        BENCHMARKS["face_celebamask_hq_presence"], tmp_path, tmp_path / "q", tmp_path / "manifest.parquet"
    )
    assert sum(header.skipped.values()) == 2 and all(reason.startswith("mask ") for reason in header.skipped)
    assert set(load_questions(path)[1].column("image_id").to_pylist()) == {"2"}


def test_a_manifest_without_masks(tmp_path: Path) -> None:
    sources.picture(tmp_path / "1.png")
    manifest = Manifest("celebamask_hq", np.array(["1.png"]), np.full(1, 2, dtype=np.int8))
    save_manifest(manifest, tmp_path / "manifest.parquet")
    for kind in ("presence", "area", "share"):
        with pytest.raises(FaceDataError, match="no masks"):
            build(
                BENCHMARKS[f"face_celebamask_hq_{kind}"], tmp_path, tmp_path / "q", tmp_path / "manifest.parquet",
                BuildOptions(),
            )  # fmt: skip
