"""Pictures of a knowledge file's contents: P, the graph after tau, violation rates, priors. Extra ``plots``.

Nothing here touches pyplot: figures belong to their function alone, and are drawn without a display.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FaceHostError
from ..reports.figures import new_figure, plain, save, shortened
from .cooccurrence import Cooccurrence, wilson

if TYPE_CHECKING:
    from .graph import Edges

KEPT, DROPPED, LIMIT = "#0072B2", "#D55E00", "#222222"  # Okabe and Ito's, told apart by the colour-blind
_GAIN = ("#2166AC", "#8C8C8C", "#B2182B")  # from less to more; the middle is dark enough for a thin line on white
_MIDDLE = 4.5  # inches: the width of the axes of the bars


def plot_conditional(
    cooc_or_P: Cooccurrence | np.ndarray,
    path: str | Path,
    title: str,
    vocabulary: Sequence[str] | None = None,
) -> None:
    """Write a heat map of P, (A, A) in [0, 1], to ``path`` (PNG, PDF or SVG by its suffix).

    Row i, column j shows p(y_j | y_i); what no row of the labels says (n_i = 0) is gray. ``vocabulary`` labels the
    axes of a bare matrix, which has none of its own. Raises ``FaceHostError`` naming the extra if matplotlib is
    absent, as every function here.
    """
    if isinstance(cooc_or_P, Cooccurrence):
        p = np.where(cooc_or_P.support > 0, cooc_or_P.conditional(), np.nan)
        names = list(cooc_or_P.vocabulary)
    else:
        p, names = np.asarray(cooc_or_P), list(vocabulary or map(str, range(len(cooc_or_P))))
    side = 4.0 + 0.24 * len(names)  # inches: leaves a 7-point label its own line
    figure = new_figure(side + 1.0, side)
    axes = figure.add_subplot()
    axes.set_facecolor("0.8")
    image = axes.imshow(p, cmap="viridis", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(len(names)), map(plain, names), rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), map(plain, names), fontsize=7)
    axes.set_xlabel("attribute j")
    axes.set_ylabel("given attribute i")
    axes.set_title(title, fontsize=11)
    figure.colorbar(image, ax=axes, label="p(j | i)", shrink=0.8)
    save(figure, path)


def plot_priors(cooc: Cooccurrence, path: str | Path, title: str) -> None:
    """Write bars of every attribute's prior with its 95 % Wilson interval, the most frequent first."""
    order = np.argsort(-cooc.prior(), kind="stable")
    prior, known = cooc.prior()[order], cooc.known[order]
    labels = [cooc.vocabulary[i] for i in order]
    notes = [f"{p:.1%} of {n:,}" if n else "never known" for p, n in zip(prior, known, strict=True)]
    low, high = wilson(cooc.joint.diagonal()[order], known)
    axes = _bars(labels, prior, low, high, [KEPT] * len(order), notes, known > 0)
    axes.set_xlim(0.0, 1.0)
    axes.set_xlabel("p(i), among the rows where i is known")
    axes.set_title(title, fontsize=11)
    save(axes.figure, path)


def plot_violations(report: Sequence[Mapping[str, Any]], max_rate: float, path: str | Path, title: str) -> None:
    """Write bars of the rules' violation rates with their 95 % Wilson intervals, the highest first.

    ``report`` is that of ``RuleTally.weigh``. Kept and dropped rules differ in colour, ``max_rate`` is a line. The
    scale is that of the square root: most rates are below a percent, a few are not.
    """
    rows = sorted(report, key=lambda row: -1.0 if row["rate"] is None else row["rate"], reverse=True)
    counts = np.array([(row["violated"], row["applicable"]) for row in rows], dtype=np.int64).reshape(-1, 2)
    rates = np.array([row["rate"] or 0.0 for row in rows])
    low, high = wilson(counts[:, 0], counts[:, 1])
    notes = [f"{broken:,} of {n:,}" if n else "applies to no row" for broken, n in counts.tolist()]
    colours = [KEPT if row["kept"] else DROPPED for row in rows]
    axes = _bars([row["rule"] for row in rows], rates, low, high, colours, notes, counts[:, 1] > 0)
    axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0.0)), np.square))
    known_high = high[counts[:, 1] > 0]
    top = min(1.0, 1.15 * max(max_rate, known_high.max(initial=0.0)))
    steps = [0.0, *(t for t in (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0) if 0.003 * top < t <= top)]
    axes.set_xlim(0.0, top)
    axes.set_xticks(steps, [f"{100 * t:g} %" for t in steps], fontsize=7)
    axes.axvline(max_rate, color=LIMIT, linestyle="--", linewidth=1.0)
    axes.set_xlabel("share of the rows to which the rule applies that break it (square-root scale)")
    for label, colour in (("kept", KEPT), (f"dropped: above {100 * max_rate:g} %", DROPPED)):
        axes.barh([np.nan], [np.nan], color=colour, label=label)
    axes.figure.legend(loc="outside lower right", fontsize=7, ncols=2, frameon=False)
    axes.set_title(title, fontsize=11)
    save(axes.figure, path)


def plot_graph(edges: Edges, vocabulary: Sequence[str], path: str | Path, title: str, prior: np.ndarray) -> None:
    """Write the graph after tau: an arrow i -> j for every kept p_ij, the wider the larger; isolated nodes in a line.

    Most arrows point at what is common anyway. So their colour, and the distance of nodes (a force layout with a
    fixed seed), show p_ij - prior_j: what i tells about j. ``prior`` is (A,) in [0, 1]. Needs networkx, the extra
    ``knowledge``, or raises ``FaceHostError`` naming it.
    """
    arrows = [(i, j, p, p - float(prior[vocabulary.index(j)])) for i, row in edges.items() for j, p in row.items()]
    joined = [name for name in vocabulary if any(name in arrow[:2] for arrow in arrows)]
    alone = [name for name in vocabulary if name not in set(joined)]
    side = 6.0 + 1.1 * len(joined) ** 0.5
    figure = new_figure(side + 1.0, side)
    axes = figure.add_subplot()
    axes.set_axis_off()
    figure.suptitle(title, fontsize=11)  # the figure's, not the axes': these stand left of a scale
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.patches import FancyArrowPatch

    colours = ScalarMappable(Normalize(-0.6, 0.6), LinearSegmentedColormap.from_list("gain", _GAIN))
    places = _layout(joined, arrows, 0.8 * side)
    for i, j, p, gain in sorted(arrows, key=lambda arrow: abs(arrow[3])):  # the telling ones on top
        axes.add_patch(
            FancyArrowPatch(
                places[i], places[j], connectionstyle="arc3,rad=0.12", arrowstyle="-|>", mutation_scale=5 + 5 * p,
                shrinkA=9, shrinkB=9, linewidth=max(2.5 * p**2, 0.5), color=colours.to_rgba(np.array(gain)),
                alpha=0.6 + 0.4 * min(abs(gain) / 0.4, 1.0),
            )
        )  # fmt: skip
    box = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": "0.6", "linewidth": 0.6}
    for name in joined:
        axes.text(*places[name], plain(name), fontsize=8, ha="center", va="center", bbox=box, zorder=5)
    if joined:
        for limits, values in zip((axes.set_xlim, axes.set_ylim), zip(*places.values(), strict=True), strict=True):
            limits(min(values) - 0.8, max(values) + 0.8)  # room for half a name
        figure.colorbar(colours, ax=axes, shrink=0.5, label="p(j | i) - p(j); width: p(j | i)")
    if alone:
        text = textwrap.fill(f"without an edge: {', '.join(alone)}", width=int(13 * side))
        figure.supxlabel(plain(text), fontsize=8, x=0.02, ha="left")
    save(figure, path)


def _layout(
    names: Sequence[str], arrows: Sequence[tuple[str, str, float, float]], side: float
) -> dict[str, tuple[float, float]]:
    """Where each node stands in a square of ``side`` inches, names not on top of each other; deterministic."""
    try:
        import networkx
    except ImportError as error:
        raise FaceHostError(
            f"the graph's layout needs networkx: pip install 'llava-face-plugin[knowledge]' ({error})"
        ) from error
    graph = networkx.Graph()
    graph.add_nodes_from(names)
    for i, j, _, gain in arrows:
        before = graph.get_edge_data(i, j, {"weight": 0.02})["weight"]
        graph.add_edge(i, j, weight=max(before, gain))
    found = networkx.spring_layout(graph, k=1.6 / max(len(names), 1) ** 0.5, iterations=300, seed=0)
    at = np.array([found[name] for name in names]).reshape(-1, 2)
    spread = (at - at.min(axis=0)) / np.maximum(np.ptp(at, axis=0), 1e-9) if len(at) else at
    rank = at.argsort(axis=0).argsort(axis=0) / max(len(at) - 1, 1)
    at = side * (spread + rank) / 2  # half way to evenly spread: a crowd thins out, a straggler comes nearer
    at = _apart(at, np.array([0.2 + 0.07 * len(name) for name in names]))
    return {name: (float(x), float(y)) for name, (x, y) in zip(names, at, strict=True)}


def _apart(at: np.ndarray, widths: np.ndarray, height: float = 0.27) -> np.ndarray:
    """(N, 2) centres of boxes, moved up and down until none covers another (or 200 rounds are over)."""
    at = at.copy()
    near = (widths[:, None] + widths) / 2
    for _ in range(200):
        dx, dy = (at[:, None, axis] - at[None, :, axis] for axis in (0, 1))
        overlap = np.where((np.abs(dx) < near) & (np.abs(dy) < height), height - np.abs(dy), 0.0)
        np.fill_diagonal(overlap, 0.0)
        if not overlap.any():
            break
        order = np.arange(len(at))
        above = np.where(dy != 0, np.sign(dy), np.sign(order[:, None] - order))
        at[:, 1] += 0.3 * (overlap * above).sum(axis=1)
    return at


def _bars(
    labels: Sequence[str], values: np.ndarray, low: np.ndarray, high: np.ndarray, colours: list[str],
    notes: Sequence[str], known: np.ndarray,
) -> Any:  # fmt: skip
    """Horizontal bars from the top down, whiskers where ``known``, notes at the right edge. Returns the axes."""
    longest = max(map(len, labels), default=0)
    width = _MIDDLE + 0.065 * min(longest, 80) + 1.6
    figure = new_figure(width, 1.4 + 0.2 * max(len(labels), 2))
    axes = figure.add_subplot()
    places = np.arange(len(labels))
    axes.barh(places, values, color=colours, height=0.7)
    at = np.flatnonzero(known)
    whiskers = np.maximum(np.stack([values - low, high - values])[:, at], 0.0)
    axes.errorbar(values[at], at, xerr=whiskers, fmt="none", ecolor="black", elinewidth=0.8, capsize=1.5)
    axes.set_yticks(places, [plain(shortened(label)) for label in labels], fontsize=7)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    right = axes.twinx()
    right.set_ylim(axes.get_ylim())
    right.set_yticks(places, notes, fontsize=6, color="0.35")
    right.tick_params(length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
        right.spines[side].set_visible(False)
    return axes
