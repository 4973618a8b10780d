"""A picture of how the experts of ``moe`` are used. Extra ``plots``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..errors import FaceDataError
from ..reports.figures import new_figure, plain, save
from .inputs import Auxiliary

LOAD, PROBABILITY, EVEN = "#0072B2", "#E69F00", "#222222"  # Okabe and Ito's, told apart by the colour-blind
_NAMES = ("expert_load", "expert_probability", "expert_gates", "router_entropy")


@contextmanager
def watched(face: nn.Module) -> Iterator[Auxiliary]:
    """Statistics of all forwards of a ``FaceBranch`` while the context is open, in whichever host it hangs.

    For looking, not for training: the fusion's losses go there, and not to the host. All images must have as many
    patches.
    """
    seen = Auxiliary()
    handle = face.register_forward_pre_hook(
        lambda module, args, kwargs: (args, {**kwargs, "auxiliary": seen}), with_kwargs=True
    )
    try:
        yield seen
    finally:
        handle.remove()


def plot_expert_use(statistics: Mapping[str, Tensor], path: str | Path, title: str) -> None:
    """Write bars of each expert's load and probability, and maps of where in the image it is used, to ``path``.

    Args:
        statistics: ``Auxiliary.statistics`` after one or many forwards of a model with fusion ``moe``.
        path: PNG, PDF or SVG by its suffix.
        title: the figure's.

    Raises ``FaceDataError`` for statistics of another fusion, ``FaceHostError`` naming the extra without matplotlib.
    """
    missing = [name for name in _NAMES if name not in statistics]
    if missing:
        raise FaceDataError(
            f"no expert statistics ({', '.join(missing)}): only fusion 'moe' has experts that are chosen"
        )
    load, probability, gates, entropy = (statistics[name].cpu().numpy() for name in _NAMES)
    experts, side = len(load), math.isqrt(len(gates))
    figure = new_figure(4.0 + 2.0 * experts, 3.2)
    axes = figure.subplots(1, experts + 1, width_ratios=[2.0, *[1.0] * experts])
    _bars(axes[0], load, probability)
    top = max(float(gates.max()), 1e-6)
    for k in range(experts):
        image = axes[k + 1].imshow(gates[:, k].reshape(side, side), cmap="viridis", vmin=0.0, vmax=top)
        axes[k + 1].set_title(f"expert {k}", fontsize=9)
        axes[k + 1].set_xticks([])
        axes[k + 1].set_yticks([])
    figure.colorbar(image, ax=list(axes[1:]), label="mean gate", shrink=0.7)
    share = float(entropy) / math.log(experts) if experts > 1 else 1.0
    figure.suptitle(f"{plain(title)} (router entropy {float(entropy):.2f} nats, {share:.0%} of log K)", fontsize=10)
    save(figure, path)


def _bars(axes: Any, load: np.ndarray, probability: np.ndarray) -> None:
    x = np.arange(len(load))
    axes.bar(x - 0.2, load, 0.4, color=LOAD, label="share of choices")
    axes.bar(x + 0.2, probability, 0.4, color=PROBABILITY, label="mean probability")
    axes.axhline(1.0 / len(load), color=EVEN, linewidth=1.0, linestyle="--", label="even")
    axes.set_xticks(x)
    axes.set_xlabel("expert")
    axes.margins(y=0.35)  # room for the legend above the bars
    axes.legend(fontsize=7, loc="upper center", ncols=3, frameon=False)
