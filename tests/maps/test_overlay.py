"""Blending and contact sheets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llava_face_plugin.labels import PALETTE
from llava_face_plugin.maps.overlay import blend, contact_sheet, paint


def test_blend_colours_parts_and_spares_background_and_unknown() -> None:
    image = Image.new("RGB", (4, 1), (100, 100, 100))
    labels = np.array([[0, 255, 1, 13]], dtype=np.uint8)
    out = np.asarray(blend(image, labels, alpha=1.0))[0]
    assert out.tolist() == [[100] * 3, [100] * 3, PALETTE[1].tolist(), PALETTE[13].tolist()]
    half = np.asarray(blend(image, labels))[0, 2].astype(int)
    assert np.abs(half - (PALETTE[1].astype(int) + 100) / 2).max() <= 1
    assert np.array_equal(np.asarray(blend(image, labels, alpha=0.0)), np.asarray(image))


def test_blend_resizes_the_map() -> None:
    labels = np.array([[0, 1]], dtype=np.uint8)
    out = np.asarray(blend(Image.new("RGB", (40, 20)), labels, alpha=1.0))
    assert (out[:, :20] == 0).all() and (out[:, 20:] == PALETTE[1]).all()


def test_contact_sheet_shows_every_row_and_the_colours(tmp_path: Path) -> None:
    labels = np.full((50, 40), 14, dtype=np.uint8)
    image = Image.new("RGB", (40, 50), (7, 90, 8))
    one = contact_sheet([(image, labels)], tmp_path / "one.png", ["a title"])
    four = contact_sheet([(image, labels), (image, None)] * 2, tmp_path / "four.png")
    with Image.open(one) as sheet, Image.open(four) as large:
        pixels = np.asarray(sheet).reshape(-1, 3)
        assert large.height > sheet.height and large.width > sheet.width
    for colour in ((7, 90, 8), tuple(PALETTE[14])):
        assert (pixels == colour).all(axis=1).sum() > 1000
    assert not (pixels == PALETTE[13]).all(axis=1).any()  # absent parts are not in the legend


def test_titles_must_fit_the_rows(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        contact_sheet([(Image.new("RGB", (4, 4)), None)], tmp_path / "s.png", ["a", "b"])


def test_paint_uses_the_palette() -> None:
    ids = np.arange(19, dtype=np.uint8)[None]
    assert np.array_equal(np.asarray(paint(ids))[0], PALETTE)
