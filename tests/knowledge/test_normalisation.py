"""The named forms of C_hat, on 3 x 3 cases computed by hand, and ML-GCN's against its own formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from llava_face_plugin.config import FaceConfig, KnowledgeConfig
from llava_face_plugin.errors import FaceConfigError
from llava_face_plugin.knowledge import reweight
from llava_face_plugin.knowledge.graph import NORMALISATIONS
from llava_face_plugin.knowledge.head import KnowledgeHead
from tests.core.standin import KNOWLEDGE, LLM, open_gates

# a -> b, a -> c, b -> a; c leads nowhere.
C = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])


def test_row_by_hand() -> None:
    np.testing.assert_allclose(reweight(C, 0.2, "row"), [[0.8, 0.1, 0.1], [0.2, 0.8, 0.0], [0.0, 0.0, 1.0]])
    assert np.array_equal(reweight(C, 0.2), reweight(C, 0.2, "row"))


def test_column_by_hand() -> None:
    """Each column has one entry, which gets all of omega."""
    expected = [[0.8, 0.2, 0.2], [0.2, 0.8, 0.0], [0.0, 0.0, 0.8]]
    np.testing.assert_allclose(reweight(C, 0.2, "column"), expected)
    np.testing.assert_allclose(reweight(C.T, 0.2, "column").sum(axis=0), 1.0)


def test_symmetric_by_hand() -> None:
    """S = [[0, 1, .5], [1, 0, 0], [.5, 0, 0]], D = (1.5, 1, .5): S_ab / sqrt(1.5), S_ac / sqrt(.75)."""
    ab, ac = 0.2 * 1 / 1.5**0.5, 0.2 * 0.5 / 0.75**0.5
    found = reweight(C, 0.2, "symmetric")
    np.testing.assert_allclose(found, [[0.8, ab, ac], [ab, 0.8, 0.0], [ac, 0.0, 0.8]])
    values = np.linalg.eigvalsh(reweight(np.ones((5, 5)), 0.3, "symmetric"))
    assert values.min() >= 1 - 2 * 0.3 and values.max() == pytest.approx(1.0)
    alone = reweight(np.zeros((2, 2)), 0.2, "symmetric")
    np.testing.assert_array_equal(alone, np.eye(2))


def test_ml_gcn_by_hand() -> None:
    """A = [[1, .25, .25], [.25, 1, 0], [0, 0, 1]] but for 1e-6, row sums (1.5, 1.25, 1); transposed, then scaled."""
    ab = 0.25 / (1.5 * 1.25) ** 0.5
    expected = [[1 / 1.5, ab, 0.0], [ab, 1 / 1.25, 0.0], [0.25 / 1.5**0.5, 0.0, 1.0]]
    np.testing.assert_allclose(reweight(C, 0.2, "ml-gcn"), expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_ml_gcn_is_its_published_code(seed: int) -> None:
    """Entry by entry, from what util.py of megvii-research/ML-GCN (commit 311f521) computes: with t = 0.4 the
    kept p_ij become 1, each is multiplied by 0.25 and divided by its column's sum + 1e-6, the identity is added;
    then entry (i, j) of the adjacency is A_ji / sqrt(sum_k A_ik) / sqrt(sum_k A_jk)."""
    rng = np.random.default_rng(seed)
    n, m = rng.integers(50, 100, 7), rng.integers(0, 60, (7, 7))
    kept = [[1.0 if i != j and m[i, j] / n[i] >= 0.4 else 0.0 for j in range(7)] for i in range(7)]
    column = [sum(kept[k][j] for k in range(7)) for j in range(7)]
    a = [[kept[i][j] * 0.25 / (column[j] + 1e-6) + (i == j) for j in range(7)] for i in range(7)]
    expected = [[a[j][i] * sum(a[i]) ** -0.5 * sum(a[j]) ** -0.5 for j in range(7)] for i in range(7)]
    np.testing.assert_allclose(reweight(np.array(kept), 0.2, "ml-gcn"), expected, rtol=1e-12)


@pytest.mark.parametrize("omega", [0.1, 0.2, 0.5])
def test_row_is_equation_8_of_the_ml_gcn_paper(omega: float) -> None:
    """Chen et al., CVPR 2019, eq. 8: A'_ij = p / sum_{j, i != j} A_ij (i != j), A'_ii = 1 - p (for its A in {0, 1},
    where it has neighbours)."""
    a = (np.random.default_rng(1).random((6, 6)) < 0.5).astype(float)
    np.fill_diagonal(a, 0.0)
    a[0, 1] = a[1:, 0] = 1.0  # everyone has a neighbour
    for i in range(6):
        for j in range(6):
            expected = 1 - omega if i == j else omega / sum(a[i]) * a[i, j]
            assert reweight(a, omega, "row")[i, j] == pytest.approx(expected)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(FaceConfigError, match="unknown normalisation 'rows'; did you mean 'row'"):
        reweight(C, 0.2, "rows")
    with pytest.raises(FaceConfigError, match="needs less"):
        reweight(C, 1.0, "ml-gcn")
    assert np.isfinite(reweight(C, 1.0, "row")).all()


def block(**knowledge: Any) -> dict[str, Any]:
    return {"preset": "faceinsight", "knowledge": {**KNOWLEDGE, **knowledge}}


def test_the_config_names_the_form() -> None:
    assert FaceConfig.parse(block()).knowledge.normalisation == "row"  # type: ignore[union-attr]
    with pytest.raises(FaceConfigError, match=r"face\.knowledge\.normalisation: .*not 'rows'"):
        FaceConfig.parse(block(normalisation="rows"))
    with pytest.raises(FaceConfigError, match="omega must be below 1"):
        FaceConfig.parse(block(normalisation="ml-gcn", omega=1.0))


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_the_head_uses_it(normalisation: str) -> None:
    config = KnowledgeConfig.model_validate({**KNOWLEDGE, "normalisation": normalisation})
    head = KnowledgeHead(config, LLM)
    open_gates(head)
    c = np.zeros((3, 3))
    c[0, 2] = c[1, 2] = c[1, 0] = 1.0
    np.testing.assert_array_equal(head.correlation.c_hat, reweight(c, 0.2, normalisation))
    assert torch.isfinite(head(torch.randn(2, 4, LLM), torch.randn(3, 3, LLM))).all()


def test_rules_of_every_form_pass_through_the_config() -> None:
    rules = [
        {"kind": "implication", "if": {"any": ["Bald", "Bangs"]}, "then": {"all": ["Smiling"]}, "description": "x"},
        {"kind": "exactly_one", "of": ["Bald", "Bangs", "Smiling"], "source": "y"},
    ]
    written = FaceConfig.parse(block(rules=rules)).to_dict()
    again = FaceConfig.parse(written)
    assert again.to_dict() == written
    texts = [rule.rule.text() for rule in again.knowledge.rules]  # type: ignore[union-attr]
    assert texts == ["Bald or Bangs => Smiling", "exactly one of {Bald, Bangs, Smiling}"]
    with pytest.raises(FaceConfigError, match="rules.0"):
        FaceConfig.parse(block(rules=[{"kind": "implication", "if": {"some": ["Bald"]}, "then": ["Bangs"]}]))
