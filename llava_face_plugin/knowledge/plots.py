"""A picture of the conditional probabilities P. Needs the extra ``plots`` (matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .cooccurrence import Cooccurrence


def plot_conditional(
    cooc_or_P: Cooccurrence | np.ndarray,
    path: str | Path,
    title: str,
    vocabulary: Sequence[str] | None = None,
) -> None:
    """Write a heat map of P, (A, A) in [0, 1], to ``path`` (PNG, PDF or SVG by its suffix).

    Row i, column j shows p(y_j | y_i). ``vocabulary`` labels the axes of a bare matrix, which has none of its
    own. Raises ``ImportError`` naming the extra if matplotlib is absent.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'llava-face-plugin[plots]'") from error
    if isinstance(cooc_or_P, Cooccurrence):
        p, names = cooc_or_P.conditional(), list(cooc_or_P.vocabulary)
    else:
        p, names = np.asarray(cooc_or_P), list(vocabulary or map(str, range(len(cooc_or_P))))
    side = 4.0 + 0.24 * len(names)  # inches: leaves a 7-point label its own line
    figure = Figure(figsize=(side + 1.0, side), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display, and leaves pyplot's global state alone
    axes = figure.add_subplot()
    image = axes.imshow(p, cmap="viridis", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_xlabel("attribute j")
    axes.set_ylabel("given attribute i")
    axes.set_title(title)
    figure.colorbar(image, ax=axes, label="p(j | i)", shrink=0.8)
    figure.savefig(path, dpi=150)
