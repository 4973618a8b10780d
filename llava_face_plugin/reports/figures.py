"""Figures without a display: nothing here touches pyplot. Extra ``plots``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import FaceHostError
from ..maps.files import atomic_path

_DPI = 150


def save(figure: Any, path: str | Path) -> None:
    """PNG, PDF or SVG by the suffix of ``path``; whole or not at all."""
    with atomic_path(Path(path)) as temporary:
        figure.savefig(temporary, dpi=_DPI, format=Path(path).suffix[1:])


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure of that many inches. Raises ``FaceHostError`` naming the extra without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise FaceHostError(f"pictures need matplotlib: pip install 'llava-face-plugin[plots]' ({error})") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain(text: str) -> str:
    """Text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")


def shortened(text: str, limit: int = 80) -> str:
    """At most ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
