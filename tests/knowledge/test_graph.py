from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from llava_face_plugin.errors import FaceConfigError
from llava_face_plugin.knowledge import CorrelationModule, correlation_matrix, count, edges, reweight

UPSTREAM_LORA = {
    "q_proj", "k_proj", "v_proj", "o_proj", "out_proj", "gate_proj", "up_proj", "down_proj", "fc1", "fc2",
}  # fmt: skip


def cooccurrence_of_100():  # type: ignore[no-untyped-def]
    """100 rows: a in 60, b in 40 of those and nowhere else, c in 20 others."""
    labels = np.zeros((100, 3), dtype=np.int8)
    labels[:60, 0] = labels[:40, 1] = labels[60:80, 2] = 1
    return count(("a", "b", "c"), [labels])


def test_edges_by_hand() -> None:
    cooc = cooccurrence_of_100()
    assert edges(cooc, 0.4, min_count=1) == {"a": {"b": 0.6667}, "b": {"a": 1.0}}
    assert edges(cooc, 0.7, min_count=1) == {"b": {"a": 1.0}}
    assert edges(cooc, 2 / 3, min_count=1)["a"] == {"b": 0.6667}  # p_ij = tau is kept, before rounding
    assert edges(cooc, 0.4, min_count=41) == {"a": {"b": 0.6667}}
    assert edges(cooc, 0.4) == {"a": {"b": 0.6667}}  # the default floor is 50
    assert edges(cooc, 0.0, min_count=1) == edges(cooc, 0.4, min_count=1)  # p = 0 is no edge


def test_the_floor_counts_rows_with_a_known_neighbour() -> None:
    labels = np.ones((100, 2), dtype=np.int8)
    labels[10:, 1] = -1
    cooc = count(("a", "b"), [labels])
    assert edges(cooc, 0.4, min_count=11) == {}
    assert edges(cooc, 0.4, min_count=10) == {"a": {"b": 1.0}, "b": {"a": 1.0}}


def test_edges_are_plain_json_values() -> None:
    (row,) = edges(cooccurrence_of_100(), 0.4).values()
    assert {type(key) for key in row} == {str} and {type(value) for value in row.values()} == {float}


def test_reweight_by_hand() -> None:
    names = ("a", "b", "c", "d")
    graph = {"a": {"b": 0.5, "c": 0.75}, "b": {"a": 0.9}, "c": {"a": 0.4, "b": 0.8, "d": 0.6}}
    c = correlation_matrix(names, graph)
    np.testing.assert_array_equal(c, [[0, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0]])
    third = 0.2 / 3
    by_hand = [[0.8, 0.1, 0.1, 0], [0.2, 0.8, 0, 0], [third, third, 0.8, third], [0, 0, 0, 1]]
    np.testing.assert_allclose(reweight(c, 0.2), by_hand)
    weighted = reweight(correlation_matrix(names, graph, binarize=False), 0.2)
    np.testing.assert_allclose(weighted[0], [0.8, 0.08, 0.12, 0])  # 0.2 * 0.5 / 1.25, 0.2 * 0.75 / 1.25
    np.testing.assert_allclose(weighted.sum(axis=1), 1.0)
    np.testing.assert_allclose(reweight(c + np.eye(4), 0.2), by_hand)  # the diagonal of C is not read
    assert c.diagonal().sum() == 0  # and C is left alone
    np.testing.assert_array_equal(reweight(c, 0.0), np.eye(4))


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ({"a": {"bb": 0.5}}, "edge a -> bb: unknown attribute 'bb'; did you mean 'b'"),
        ({"z": {"b": 0.5}}, "edge z -> b: unknown attribute 'z'"),
        ({"a": {"a": 0.5}}, "its own neighbour"),
        ({"a": {"b": 1.5}}, "weight is 1.5"),
        ({"a": {"b": float("nan")}}, "weight is nan"),
    ],
)
def test_wrong_edges_are_refused(graph: dict[str, dict[str, float]], message: str) -> None:
    with pytest.raises(FaceConfigError, match=message):
        correlation_matrix(("a", "b"), graph)


def test_wrong_tau_and_omega_are_refused() -> None:
    with pytest.raises(FaceConfigError, match=r"tau is 1\.2"):
        edges(cooccurrence_of_100(), 1.2)
    with pytest.raises(FaceConfigError, match=r"omega is -0\.1"):
        reweight(np.zeros((2, 2)), -0.1)
    with pytest.raises(ValueError, match="square"):
        reweight(np.zeros((2, 3)), 0.2)


C_HAT = np.array([[0.8, 0.2, 0.0], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0]])


def test_one_layer_by_hand() -> None:
    module = CorrelationModule(np.array([[0.75, 0.25], [0.0, 1.0]]), in_dim=2, hidden=9, layers=1)
    with torch.no_grad():
        module.convolutions[0].weight.copy_(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))  # W transposed
    # T W = [[1 + 4, -2], [3 + 8, -4]] = [[5, -2], [11, -4]]; no non-linearity after the last layer.
    out = module(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    torch.testing.assert_close(out, torch.tensor([[6.5, -2.5], [11.0, -4.0]]))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_equals_an_independent_numpy_form(layers: int) -> None:
    torch.manual_seed(layers)
    module = CorrelationModule(C_HAT, in_dim=5, hidden=4, layers=layers)
    prompts = torch.randn(3, 5)
    t = prompts.numpy().astype(np.float64)
    weights = [p.detach().numpy().astype(np.float64).T for p in module.parameters()]
    assert [w.shape for w in weights] == {1: [(5, 5)], 2: [(5, 4), (4, 5)], 3: [(5, 4), (4, 4), (4, 5)]}[layers]
    for depth, w in enumerate(weights, start=1):
        # Neighbours first, then W: the other order of the same product.
        t = np.stack([sum(C_HAT[i, k] * t[k] for k in range(3)) for i in range(3)]) @ w
        if depth < layers:
            t = np.where(t > 0, t, 0.2 * t)
    np.testing.assert_allclose(module(prompts).detach().numpy(), t, rtol=1e-5, atol=1e-6)


def test_c_hat_is_no_state_and_weights_have_safe_names() -> None:
    module = CorrelationModule(C_HAT, 5, 4)
    assert list(module.buffers()) == []
    assert list(module.state_dict()) == [name for name, _ in module.named_parameters()]
    assert not any(UPSTREAM_LORA & set(name.split(".")) for name, _ in module.named_modules())


def test_every_parameter_gets_a_gradient_and_is_reset() -> None:
    module = CorrelationModule(C_HAT, 5, 4, layers=3)
    module(torch.randn(3, 5)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    for p in module.parameters():
        torch.nn.init.zeros_(p)
    module.reset_parameters()
    assert all((p != 0).any() for p in module.parameters())


def test_built_on_the_meta_device_and_filled_later() -> None:
    with torch.device("meta"):
        module = CorrelationModule(C_HAT, 5, 4)
    module.to_empty(device="cpu").reset_parameters()
    other = CorrelationModule(C_HAT, 5, 4)
    other.load_state_dict(module.state_dict())
    prompts = torch.randn(3, 5)
    torch.testing.assert_close(module(prompts), other(prompts))
    assert module(prompts).abs().sum() > 0


def test_dtype_follows_the_weights_and_copies_work() -> None:
    module = CorrelationModule(C_HAT, 5, 4)
    prompts = torch.randn(3, 5)
    expected = module(prompts)
    half = copy.deepcopy(module).bfloat16()
    assert half(prompts.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(half(prompts.bfloat16()).float(), expected, rtol=0.05, atol=0.05)
    torch.testing.assert_close(pickle.loads(pickle.dumps(module))(prompts), expected)


def test_no_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 layer"):
        CorrelationModule(C_HAT, 5, 4, layers=0)
