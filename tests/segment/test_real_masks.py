"""Real masks: what a store gives back is what went in."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from llava_face_plugin.maps.store import MapStore
from llava_face_plugin.parsing.base import Parsed
from llava_face_plugin.segment.run import Options, segment


@pytest.mark.parametrize(("form", "n"), [("png", 600), ("parquet", 100)])
def test_real_masks_come_back_bit_for_bit(
    tmp_path: Path, real_faces: Path, form: Literal["png", "parquet"], n: int
) -> None:
    masks = real_faces / "celebamask_hq/masks"
    if not masks.is_dir():
        pytest.skip("FACE_TEST_DATA has no celebamask_hq/masks")

    class Stored:
        name = "stored-masks"
        digest = "0" * 64

        def parse(self, images: list[Image.Image], names: list[str]) -> list[Parsed]:
            return [Parsed(np.asarray(Image.open(masks / name))) for name in names]

    # the masks stand for their images, which have the same size
    summary = segment(masks, tmp_path / "store", Stored, Options(format=form, limit=n))
    assert summary.ok == summary.images == n
    store = MapStore.open(tmp_path / "store")
    for path in sorted(masks.iterdir())[:n]:
        np.testing.assert_array_equal(store.get(path.name), np.asarray(Image.open(path)))
