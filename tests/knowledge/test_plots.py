from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from llava_face_plugin.knowledge import count
from llava_face_plugin.knowledge.plots import plot_conditional
from llava_face_plugin.labels import CELEBA_ATTRIBUTES


def test_forty_attributes_and_a_bare_matrix(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    labels = np.random.default_rng(0).integers(0, 2, (200, 40)).astype(np.int8)
    cooc = count(CELEBA_ATTRIBUTES, [labels])
    plot_conditional(cooc, tmp_path / "p.png", "P of random labels")
    with image.open(tmp_path / "p.png") as picture:
        assert min(picture.size) > 1500  # 40 labels of 7 points need this many pixels at 150 dpi
        colours = picture.convert("RGB").getcolors(maxcolors=1 << 24)
        assert len(colours) > 100  # more than the axes
    plot_conditional(cooc.conditional()[:3, :3], tmp_path / "q.svg", "three")
    assert "<svg" in (tmp_path / "q.svg").read_text()


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(ImportError, match=r"llava-face-plugin\[plots\]"):
        plot_conditional(np.eye(2), tmp_path / "p.png", "two")
