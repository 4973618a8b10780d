"""The correlation module: from P to a re-weighted graph, and graph convolutions over attribute prompts.

FaceInsight names the steps (threshold tau, re-weighting omega, T^l = rho(C_hat T^(l-1) W^(l-1))) but the
readable part of the paper gives no formula for the re-weighting. We use ML-GCN's (Chen et al., CVPR 2019,
equations 7 and 8), with sums over rows because P is conditioned on its row: our default, as are tau 0.4,
omega 0.2, two layers and LeakyReLU(0.2).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from ..constants import Constants
from ..errors import FaceConfigError
from ..registry import unknown_name
from .cooccurrence import Cooccurrence

Edges = dict[str, dict[str, float]]
NORMALISATIONS = ("row", "column", "symmetric", "ml-gcn")
"""See ``reweight``."""


def edges(cooc: Cooccurrence, tau: float, min_count: int = 50) -> Edges:
    """The edges i -> j (i != j) with p_ij >= tau, as ``{i: {j: p_ij}}``, p_ij rounded to 4 decimals.

    An edge needs ``min_count`` rows with y_i = 1 and y_j known (our default floor: p_ij of a rare attribute
    is noise). Rows without a neighbour are absent. Raises ``FaceConfigError`` unless 0 <= tau <= 1.
    """
    _require_unit("tau", tau)
    p = cooc.conditional()
    keep = (p >= tau) & (p > 0) & (cooc.support >= min_count)
    np.fill_diagonal(keep, False)
    names = cooc.vocabulary
    return {
        names[i]: {names[j]: round(float(p[i, j]), 4) for j in np.flatnonzero(keep[i])}
        for i in np.flatnonzero(keep.any(axis=1))
    }


def correlation_matrix(
    vocabulary: Sequence[str], edges: Mapping[str, Mapping[str, float]], binarize: bool = True
) -> np.ndarray:
    """C, (A, A) float64 with a zero diagonal: 1 (or p_ij with ``binarize=False``) where there is an edge.

    ML-GCN makes the kept entries 1; the paper does not say. Raises ``FaceConfigError`` for an unknown
    attribute, an edge from an attribute to itself or a weight outside 0..1.
    """
    index = {name: i for i, name in enumerate(vocabulary)}
    matrix = np.zeros((len(index), len(index)))
    for source, targets in edges.items():
        for target, weight in targets.items():
            for name in (source, target):
                if name not in index:
                    raise FaceConfigError(f"edge {source} -> {target}: {unknown_name('attribute', name, index)}")
            if source == target:
                raise FaceConfigError(f"edge {source} -> {target}: an attribute cannot be its own neighbour")
            _require_unit(f"edge {source} -> {target}: weight", weight)
            matrix[index[source], index[target]] = 1.0 if binarize else weight
    return matrix


def reweight(matrix: np.ndarray, omega: float, normalisation: str = "row") -> np.ndarray:
    """C_hat, (A, A) float64, against over-smoothing. C is ``matrix``; its diagonal is not read.

    ``normalisation`` names the form:

    - ``row``: omega C_ij / sum_{k != i} C_ik off the diagonal and 1 - omega on it, 1 in a row without
      neighbours, so that rows sum to 1. Equation 8 of the ML-GCN paper; our default.
    - ``column``: the same of the transpose: omega C_ij / sum_{k != j} C_kj, columns sum to 1.
    - ``symmetric``: omega D^-1/2 S D^-1/2 + (1 - omega) I with S = (C + C^T) / 2 and D its row sums; 1 on the
      diagonal of an attribute without neighbours (ours). Symmetric, with eigenvalues from 1 - 2 omega to 1.
    - ``ml-gcn``: what ML-GCN's code does (megvii-research/ML-GCN, util.py, ``gen_A`` and ``gen_adj``), which is
      not its equation 8: A = omega / (1 - omega) C_ij / (sum_k C_kj + 1e-6) + I, then D^-1/2 A^T D^-1/2 with D
      the row sums of A. Its constant 0.25 is omega 0.2. No row sums to 1.

    Raises ``FaceConfigError`` unless 0 <= omega <= 1 (below 1 for ``ml-gcn``), and for another name.
    """
    _check_reweighting(omega, normalisation)
    c = np.array(matrix, dtype=np.float64)
    if c.ndim != 2 or c.shape[0] != c.shape[1]:
        raise ValueError(f"the correlation matrix has shape {c.shape}; expected a square")
    np.fill_diagonal(c, 0.0)
    if normalisation == "ml-gcn":
        a = omega / (1.0 - omega) * c / (c.sum(axis=0) + 1e-6) + np.eye(len(c))
        return _scaled(a.T, a.sum(axis=1) ** -0.5)
    if normalisation == "column":
        return reweight(c.T, omega).T
    if normalisation == "symmetric":
        c = (c + c.T) / 2
    total = c.sum(axis=1)
    inverse = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    c = omega * (_scaled(c, inverse**0.5) if normalisation == "symmetric" else c * inverse[:, None])
    np.fill_diagonal(c, np.where(total > 0, 1.0 - omega, 1.0))
    return c


def _check_reweighting(omega: float, normalisation: str) -> None:
    """Raise ``FaceConfigError`` for arguments that ``reweight`` does not take."""
    _require_unit("omega", omega)
    if normalisation not in NORMALISATIONS:
        raise FaceConfigError(unknown_name("normalisation", normalisation, NORMALISATIONS))
    if normalisation == "ml-gcn" and omega == 1.0:
        raise FaceConfigError("omega is 1; normalisation 'ml-gcn' weighs by omega / (1 - omega) and needs less")


def _scaled(matrix: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """diag(scale) matrix diag(scale)."""
    return np.asarray(scale[:, None] * matrix * scale)


class CorrelationModule(nn.Module):
    """FaceInsight's correlation module: T^l = rho(C_hat T^(l-1) W^(l-1)) over attribute prompt features.

    rho is LeakyReLU(0.2) between layers and nothing after the last (our default, as in ML-GCN). C_hat is a
    constant, not a buffer: see ``Constants``.

    Args:
        c_hat: (A, A) from ``reweight``.
        in_dim: width of the prompt features, and of the result.
        hidden: width between layers.
        layers: number of graph convolutions, at least 1.
    """

    def __init__(self, c_hat: np.ndarray, in_dim: int, hidden: int, layers: int = 2) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"the correlation module needs at least 1 layer, got {layers}")
        self.c_hat = np.array(c_hat, dtype=np.float64)
        self._constants = Constants()
        widths = [in_dim, *[hidden] * (layers - 1), in_dim]
        self.convolutions = nn.ModuleList(
            nn.Linear(before, after, bias=False) for before, after in itertools.pairwise(widths)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise every W with Xavier's uniform distribution (our default)."""
        for weight in self.parameters():
            nn.init.xavier_uniform_(weight)

    def forward(self, prompts: Tensor) -> Tensor:
        """(A, in_dim) prompt features T^0 -> (A, in_dim) refined features T^L, of the same dtype."""
        features = prompts
        for depth, convolution in enumerate(self.convolutions):
            if depth:
                features = F.leaky_relu(features, 0.2)
            projected = convolution(features)
            c_hat = self._constants.get("c_hat", self.c_hat, projected.device, projected.dtype)
            features = c_hat @ projected
        return features


def _require_unit(what: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise FaceConfigError(f"{what} is {value}; expected a number from 0 to 1")
