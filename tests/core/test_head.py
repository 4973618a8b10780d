"""The knowledge head against the same formulas in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from llava_face_plugin.config import KnowledgeConfig
from llava_face_plugin.knowledge.head import KnowledgeHead
from tests.core.standin import KNOWLEDGE, LLM, open_gates

TOKENS = [[3], [4, 5, 6], [7, 8]]
EDGES = {(0, 2): 0.6, (1, 2): 0.5, (1, 0): 0.8}


def head(**changes: Any) -> KnowledgeHead:
    made = KnowledgeHead(KnowledgeConfig.model_validate({**KNOWLEDGE, **changes}), LLM)
    open_gates(made)
    return made


def c_hat(omega: float, binarize: bool) -> np.ndarray:
    out = np.zeros((3, 3))
    for i in range(3):
        row = {j: (1.0 if binarize else p) for (k, j), p in EDGES.items() if k == i}
        for j, weight in row.items():
            out[i, j] = omega * weight / sum(row.values())
        out[i, i] = 1 - omega if row else 1.0
    return out


def logits_in_numpy(
    tokens: np.ndarray, embedding: np.ndarray, weights: list[np.ndarray], bias: np.ndarray, c: np.ndarray
) -> np.ndarray:
    """cos(mean token, T^L_i) / 0.1 + b_i with T^0_i the mean embedding of prompt i."""
    t = np.stack([np.mean([embedding[k] for k in row], axis=0) for row in TOKENS])
    for depth, weight in enumerate(weights):
        t = c @ (t @ weight.T)
        if depth < len(weights) - 1:
            t = np.where(t > 0, t, 0.2 * t)
    out = np.zeros((len(tokens), 3))
    for b, image in enumerate(tokens):
        v = image.mean(axis=0)
        for i in range(3):
            out[b, i] = v @ t[i] / (np.linalg.norm(v) * np.linalg.norm(t[i])) / 0.1 + bias[i]
    return out


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("binarize", [True, False])
def test_logits_are_those_of_numpy(layers: int, binarize: bool) -> None:
    made = head(layers=layers, binarize=binarize, omega=0.3, temperature=0.1)
    tokens, embedding = torch.randn(2, 9, LLM), torch.randn(10, LLM)
    ids, mask = made.prompt_tokens(tokens.device)
    assert ids.tolist() == [[3, 0, 0], [4, 5, 6], [7, 8, 0]]
    assert mask.tolist() == [[True, False, False], [True, True, True], [True, True, False]]
    weights = [p.detach().numpy() for name, p in made.named_parameters() if "convolutions" in name]
    assert len(weights) == layers
    expected = logits_in_numpy(
        tokens.numpy(), embedding.numpy(), weights, made.bias.detach().numpy(), c_hat(0.3, binarize)
    )
    found = made(tokens, embedding[ids])
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=2e-5)


def test_padding_of_prompts_is_not_read() -> None:
    made, tokens = head(), torch.randn(1, 4, LLM)
    ids, mask = made.prompt_tokens(tokens.device)
    embedded = torch.randn(10, LLM)[ids]
    other = torch.where(mask[..., None], embedded, 99.0)
    assert torch.equal(made(tokens, embedded), made(tokens, other))


def test_bias_starts_at_the_prior_even_at_its_ends() -> None:
    attributes = [{**a, "prior": p} for a, p in zip(KNOWLEDGE["attributes"], (0.0, 0.25, 1.0), strict=True)]
    made = KnowledgeHead(KnowledgeConfig.model_validate({**KNOWLEDGE, "attributes": attributes}), LLM)
    np.testing.assert_allclose(made.bias.detach().sigmoid().numpy(), [0.001, 0.25, 0.999], atol=1e-6)


def test_weighted_sum_of_the_losses() -> None:
    made = head(bce_weight=0.5, logic_weight=3.0)
    total = made.weighted({"bce": torch.tensor(2.0), "logic": torch.tensor(10.0)})
    assert total.item() == 31.0


def test_logic_is_one_half_squared_for_even_odds() -> None:
    """Bald => not Bangs breaks with probability 1/4 at logits 0: -log(3/4)."""
    losses = head().losses(torch.zeros(2, 3), torch.tensor([[1, 0, -1], [0, 1, 1]], dtype=torch.int8))
    np.testing.assert_allclose(losses["logic"].item(), -np.log(0.75), rtol=1e-5)
    np.testing.assert_allclose(losses["bce"].item(), np.log(2), rtol=1e-5)


def test_without_rules_the_logic_loss_is_zero() -> None:
    made = head(rules=[])
    assert made.logic is None
    losses = made.losses(torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.int8))
    assert losses["logic"].item() == 0.0


def test_autocast_leaves_the_matching_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """At temperature 0.07 a bfloat16 cosine would be off by several hundredths of a logit."""
    made = head(temperature=0.07)
    monkeypatch.setattr(made, "correlation", torch.nn.Identity())
    tokens, embedded = torch.randn(4, 9, LLM), torch.randn(3, 3, LLM)
    expected = made(tokens, embedded)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(made(tokens, embedded), expected)
