from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llava_face_plugin.errors import FaceHostError
from llava_face_plugin.knowledge import Rule, count, edges, plots, weigh
from llava_face_plugin.labels import CELEBA_ATTRIBUTES

image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib", reason="needs the extra plots")


def labels_of(rows: int = 300, width: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (rows, width)).astype(np.int8)


def colours(path: Path) -> dict[tuple[int, int, int], int]:
    with image.open(path) as picture:
        found = picture.convert("RGB").getcolors(maxcolors=1 << 24)
    return {colour: number for number, colour in found}


def rgb(text: str) -> tuple[int, ...]:
    return tuple(int(text[i : i + 2], 16) for i in (1, 3, 5))


def test_forty_attributes_and_a_bare_matrix(tmp_path: Path) -> None:
    cooc = count(CELEBA_ATTRIBUTES, [labels_of()])
    plots.plot_conditional(cooc, tmp_path / "p.png", "P of random labels")
    with image.open(tmp_path / "p.png") as picture:
        assert min(picture.size) > 1500  # 40 labels of 7 points need this many pixels at 150 dpi
    assert len(colours(tmp_path / "p.png")) > 100  # more than the axes
    plots.plot_conditional(cooc.conditional()[:3, :3], tmp_path / "q.svg", "three")
    assert "<svg" in (tmp_path / "q.svg").read_text()


def test_what_no_row_says_is_gray_and_not_zero(tmp_path: Path) -> None:
    labels = np.array([[1, -1], [-1, 1]] * 5, dtype=np.int8)
    plots.plot_conditional(count(("a", "b"), [labels]), tmp_path / "p.png", "never known together")
    found = colours(tmp_path / "p.png")
    assert found.get((204, 204, 204), 0) > 10_000  # two of four cells
    plots.plot_conditional(np.array([[1.0, 0.0], [0.0, 1.0]]), tmp_path / "q.png", "zeros")
    assert colours(tmp_path / "q.png").get((204, 204, 204), 0) < 10_000


def test_kept_and_dropped_rules_differ_in_colour(tmp_path: Path) -> None:
    labels = np.zeros((1000, 4), dtype=np.int8)
    labels[:400, :2] = 1
    labels[:40, 1] = 0
    rules = [
        Rule("implication", ("a",), ("b",)),  # 10 %
        Rule("implication", ("b",), ("a",)),  # never broken
        Rule("implication", ("c",), ("a",)),  # applies to no row
    ]
    _, report = weigh(rules, [labels], ("a", "b", "c", "$d$"))
    path = tmp_path / "v.png"
    plots.plot_violations(report, 0.02, path, "rules")
    assert colours(path)[rgb(plots.DROPPED)] > 3000
    bar = colours(path).get(rgb(plots.KEPT), 0)
    assert 0 < bar < 2000  # the legend alone: both kept bars have no length
    plots.plot_violations(report[1:], 0.02, path, "rules")
    assert colours(path)[rgb(plots.DROPPED)] < 2000  # the legend alone


def test_priors_of_known_and_never_known_attributes(tmp_path: Path) -> None:
    labels = np.array([[1, 0, -1]] * 8 + [[0, 1, -1]] * 2, dtype=np.int8)
    plots.plot_priors(count(("a", "$b$", "never"), [labels]), tmp_path / "p.png", "priors")
    assert colours(tmp_path / "p.png")[rgb(plots.KEPT)] > 3000


def test_the_graph_draws_every_arrow_and_lists_the_isolated(tmp_path: Path) -> None:
    pytest.importorskip("networkx", reason="needs the extra knowledge")
    labels = labels_of(500)
    labels[:, 20:] &= labels[:, :20]  # i + 20 => i
    labels[:, 5] = 0
    cooc = count(CELEBA_ATTRIBUTES, [labels])
    graph = edges(cooc, 0.7)
    assert len(graph) == 19
    for name, drawn in (("full", graph), ("empty", {})):
        path = tmp_path / f"{name}.svg"
        plots.plot_graph(drawn, cooc.vocabulary, path, "graph", cooc.prior())
        texts = re.findall("<!-- (.*?) -->", path.read_text(), re.DOTALL)  # every line of text, in matplotlib's SVG
        joined = {*drawn, *(j for row in drawn.values() for j in row)}
        assert {text for text in texts if text in cooc.vocabulary} == joined
        listed = " ".join(text for text in texts if text not in joined).split("without an edge: ", 1)[1]
        assert set(listed.replace("\n", " ").split(", ")) == set(cooc.vocabulary) - joined
    number = [(tmp_path / f"{name}.svg").read_text().count("<path") for name in ("full", "empty")]
    assert number[0] > number[1] + 2 * 19  # a line and a head for every arrow


def test_thin_arrows_are_seen_and_the_title_is_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edge that tells nothing beyond the prior is gray, but not paler than a line on white may be."""
    pytest.importorskip("networkx", reason="needs the extra knowledge")
    figures: list[Any] = []
    monkeypatch.setattr(plots, "save", lambda figure, _: figures.append(figure))
    plots.plot_graph({"a": {"b": 0.2}}, ("a", "b"), tmp_path / "g.png", "the title", np.array([0.2, 0.2]))
    (arrow,) = figures[0].axes[0].patches
    red, _, _, alpha = arrow.get_edgecolor()
    assert 1 - alpha * (1 - red) < 0.75 and arrow.get_linewidth() >= 0.5
    assert figures[0].get_suptitle() == "the title"  # the axes stand left of the scale


def test_the_graph_is_the_same_every_time(tmp_path: Path) -> None:
    pytest.importorskip("networkx", reason="needs the extra knowledge")
    cooc = count(("a", "b", "c"), [labels_of(400, 3)])
    for name in ("1.png", "2.png"):
        plots.plot_graph(edges(cooc, 0.4), cooc.vocabulary, tmp_path / name, "graph", cooc.prior())
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()


def test_names_in_the_graph_do_not_cover_each_other() -> None:
    draw = np.random.default_rng(0)
    at = plots._apart(draw.uniform(0, 8, (40, 2)), np.full(40, 1.4))
    dx, dy = (np.abs(at[:, None, axis] - at[None, :, axis]) + np.eye(40) * 99 for axis in (0, 1))
    assert not ((dx < 1.4) & (dy < 0.26)).any()
    assert len(np.unique(plots._apart(np.zeros((4, 2)), np.ones(4))[:, 1])) == 4  # even from one place


def test_pyplot_keeps_its_state(tmp_path: Path) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    plots.plot_priors(count(("a", "b"), [labels_of(9, 2)]), tmp_path / "p.png", "priors")
    assert pyplot.get_fignums() == []


def test_without_matplotlib_or_networkx_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(FaceHostError, match=r"llava-face-plugin\[knowledge\]"):
        plots.plot_graph({"a": {"b": 0.5}}, ("a", "b"), tmp_path / "g.png", "graph", np.array([0.5, 0.5]))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(FaceHostError, match=r"llava-face-plugin\[plots\]"):
        plots.plot_conditional(np.eye(2), tmp_path / "p.png", "two")
