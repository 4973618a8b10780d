"""The MoE adapter against its formulas by hand and in numpy: routing, mixing, losses, and both ways of dispatch."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from llava_face_plugin.branch import FaceBranch
from llava_face_plugin.config import FaceConfig
from llava_face_plugin.fusion import Auxiliary, MixtureOfExperts
from llava_face_plugin.fusion.experts import (
    Expert,
    Router,
    balance_loss,
    dense,
    entropy,
    grouped,
    load,
    route,
    z_loss,
)
from llava_face_plugin.fusion.plots import plot_expert_use, watched
from tests.core.standin import LLM, VISION, branch, config, features, maps, open_gates, projector, run

FORM = {"type": "moe", "hidden": 8}


def logits_of(*probabilities: list[float]) -> Tensor:
    """One image whose patches have these probabilities."""
    return torch.tensor([probabilities]).log()


def test_the_two_best_experts_share_a_patch_by_their_probabilities() -> None:
    routing = route(logits_of([0.5, 0.1, 0.25, 0.15]), top_k=2)
    torch.testing.assert_close(routing.probabilities, torch.tensor([[[0.5, 0.1, 0.25, 0.15]]]))
    torch.testing.assert_close(routing.gates, torch.tensor([[[2 / 3, 0.0, 1 / 3, 0.0]]]))
    assert routing.chosen.tolist() == [[[True, False, True, False]]]


def test_balance_loss_by_hand() -> None:
    """Both patches choose expert 0; its mean probability is 0.7: 2 * (1 * 0.7 + 0 * 0.3)."""
    routing = route(logits_of([0.8, 0.2], [0.6, 0.4]), top_k=1)
    assert load(routing).tolist() == [1, 0]
    assert balance_loss(routing).item() == pytest.approx(1.4)


def test_balance_loss_with_two_choices_by_hand() -> None:
    """Choices: {0, 1} and {0, 2}, so loads 1/2, 1/4, 1/4; mean probabilities 0.45, 0.25, 0.3."""
    routing = route(logits_of([0.5, 0.4, 0.1], [0.4, 0.1, 0.5]), top_k=2)
    assert load(routing).tolist() == [0.5, 0.25, 0.25]
    assert balance_loss(routing).item() == pytest.approx(3 * (0.5 * 0.45 + 0.25 * 0.25 + 0.25 * 0.3))


def test_balance_loss_is_one_where_all_are_used_alike() -> None:
    routing = route(logits_of([0.7, 0.3], [0.3, 0.7]), top_k=1)
    assert balance_loss(routing).item() == pytest.approx(1.0)


def test_balance_over_the_image_does_not_let_one_image_make_up_for_another() -> None:
    logits = logits_of([0.8, 0.2]).transpose(0, 1)  # (1, 1, 2)
    both = route(torch.cat([logits, logits.flip(-1)]), top_k=1)  # image 0 uses expert 0, image 1 uses expert 1
    assert balance_loss(both).item() == pytest.approx(1.0)
    assert balance_loss(both, per_image=True).item() == pytest.approx(2 * 0.8)


def test_only_the_balance_over_images_is_the_same_for_parts_of_a_batch() -> None:
    logits = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0))
    for per_image, equal in ((True, True), (False, False)):
        whole = balance_loss(route(logits, 2), per_image)
        parts = torch.stack([balance_loss(route(part, 2), per_image) for part in logits.split(2)]).mean()
        assert torch.allclose(whole, parts, atol=1e-6) == equal


def test_z_loss_and_entropy_by_hand() -> None:
    logits = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
    expected = (math.log(2) ** 2 + (1 + math.log(2)) ** 2) / 2
    assert z_loss(logits).item() == pytest.approx(expected)
    assert entropy(torch.tensor([[[0.25] * 4]])).item() == pytest.approx(math.log(4))
    assert entropy(torch.tensor([[[1.0, 0.0]]])).item() == 0.0


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def in_numpy(fusion: MixtureOfExperts, z: np.ndarray, top_k: int) -> np.ndarray:
    """h_i of every row of z, patch by patch and expert by expert."""
    router = fusion.router.weight.detach().numpy()
    out = np.zeros((len(z), LLM))
    for i, row in enumerate(z):
        p = np.exp(router @ row) / np.exp(router @ row).sum()
        best = np.argsort(-p)[:top_k]
        for k in best:
            w1, b1, w2, b2 = (q.detach().numpy() for q in fusion.experts[k].parameters())  # type: ignore[union-attr]
            out[i] += p[k] / p[best].sum() * (w2 @ gelu(w1 @ row + b1) + b2)
    return out


@pytest.mark.parametrize("dispatch", ["dense", "grouped"])
@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_the_whole_fusion_is_that_of_numpy(top_k: int, dispatch: str) -> None:
    face = branch("part-embedding & facial", {**FORM, "top_k": top_k, "dispatch": dispatch})
    open_gates(face)
    seen, plain, caught = features(2, 4), projector(), []
    face.fusion.register_forward_pre_hook(lambda _, args: caught.append(args))  # type: ignore[attr-defined]
    tokens = run(face, plain, seen, maps(2))
    given = caught[0][2]
    assert given.tokens.shape == (2, 16, VISION) and given.taps.shape == (2, 16, 2, 64)
    g = seen.numpy()
    g = (g - g.mean(-1, keepdims=True)) / np.sqrt(g.var(-1, keepdims=True) + 1e-5)
    f = [given.taps[:, :, t].detach().numpy() for t in range(2)]
    z = np.concatenate([g, given.tokens.detach().numpy(), *f], axis=-1)
    assert isinstance(face.fusion, MixtureOfExperts)
    h = in_numpy(face.fusion, z.reshape(32, -1).astype(np.float64), top_k).reshape(2, 16, LLM)
    expected = plain(seen).detach().numpy() + face.fusion.gate.detach().numpy() * h
    np.testing.assert_allclose(tokens.detach().numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("idle", [False, True], ids=["all used", "one expert idle"])
@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_dense_and_grouped_are_equal_in_results_and_gradients(top_k: int, idle: bool) -> None:
    torch.manual_seed(0)
    experts = [Expert(6, 5, 7).double() for _ in range(4)]
    x, logits = torch.randn(3, 8, 6).double(), torch.randn(3, 8, 4).double()
    if idle:
        logits[..., 2] = -50.0
    results = []
    for dispatch in (dense, grouped):
        module, inputs, routed = copy.deepcopy(experts), x.clone().requires_grad_(), logits.clone().requires_grad_()
        out = dispatch(module, inputs, route(routed, top_k))
        (out * torch.arange(7.0)).square().sum().backward()
        gradients = [p.grad for expert in module for p in expert.parameters()]
        assert all(g is not None for g in gradients), "an idle expert must stay in the graph"
        results.append([out, inputs.grad, routed.grad, *gradients])
    if idle and top_k < 4:
        assert all(not g.any() for g in results[1][3 + 8 : 3 + 12])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_all_experts_chosen_is_the_soft_mixture() -> None:
    torch.manual_seed(0)
    experts, x = [Expert(6, 5, 7) for _ in range(3)], torch.randn(2, 4, 6)
    logits = torch.randn(2, 4, 3)
    expected = sum(logits.softmax(-1)[..., k, None] * expert(x) for k, expert in enumerate(experts))
    torch.testing.assert_close(dense(experts, x, route(logits, 3)), expected)


def test_the_balance_loss_brings_idle_experts_back() -> None:
    """Patches with a large part in common choose alike at first."""
    torch.manual_seed(3)
    x = torch.randn(2, 64, 16) + 4 * torch.randn(16)
    router = Router(16, 4)
    before = load(route(router(x), 1))
    optimizer = torch.optim.Adam(router.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        balance_loss(route(router(x), 1)).backward()
        optimizer.step()
    after = load(route(router(x), 1))
    assert before.min() == 0 and before.max() > 0.5
    assert after.min() > 0.1 and after.max() < 0.5


def test_the_router_is_exact_in_every_precision() -> None:
    router, x = Router(64, 4), torch.randn(2, 3, 64)
    expected = x @ router.weight.T
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(router(x), router(x.float())) and router(x).dtype == torch.float32
        torch.testing.assert_close(router(x), expected)
    assert router.bfloat16()(x.bfloat16()).dtype == torch.float32


def test_the_router_starts_with_the_variance_of_switch_transformers() -> None:
    torch.manual_seed(0)
    assert Router(1000, 40).weight.std().item() == pytest.approx(math.sqrt(0.1 / 1000), rel=0.03)


def test_what_auxiliary_collects() -> None:
    face = branch("facial", {**FORM, "balance_weight": 0.5, "z_weight": 0.1})
    one, other = Auxiliary(), Auxiliary()
    run(face, projector(), features(2, 4), None, auxiliary=one)
    run(face, projector(), features(2, 4), None, auxiliary=one)
    run(face, projector(), features(2, 4), None, auxiliary=other)
    assert set(one.losses) == {"balance", "router_z"}
    for name in one.losses:
        torch.testing.assert_close(one.losses[name], other.losses[name])
    expected = 0.5 * other.losses["balance"] + 0.1 * other.losses["router_z"]
    torch.testing.assert_close(one.weighted(), expected)
    used = one.statistics
    assert used["expert_load"].sum().item() == pytest.approx(1.0)
    assert used["expert_probability"].sum().item() == pytest.approx(1.0)
    assert used["expert_gates"].shape == (16, 4) and not used["expert_gates"].requires_grad
    torch.testing.assert_close(used["expert_gates"].sum(dim=1), torch.ones(16))
    assert 0 < used["router_entropy"].item() <= math.log(4)


def test_the_balance_loss_reaches_the_router_and_not_the_experts() -> None:
    face, auxiliary = branch("facial", FORM), Auxiliary()
    run(face, projector(), features(2, 4), None, auxiliary=auxiliary)
    total = auxiliary.weighted()
    assert total is not None
    total.backward()
    moved = {name for name, p in face.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"fusion.router.weight"}


def test_fusions_without_losses_collect_none() -> None:
    auxiliary = Auxiliary()
    run(branch("part-embedding", {}), projector(), features(2, 4), maps(2), auxiliary=auxiliary)
    assert auxiliary.losses == {} and auxiliary.statistics == {} and auxiliary.weighted() is None


@pytest.mark.parametrize(
    ("encoder", "general", "width"),
    [
        ("facial", True, VISION + 128),
        ("facial", False, 128),
        ("part-embedding", True, 2 * VISION),
        ("part-embedding & facial", True, 2 * VISION + 128),
    ],
)
def test_experts_see_what_the_configuration_gives_them(encoder: str, general: bool, width: int) -> None:
    face = branch(encoder, {**FORM, "general": general})
    assert face.fusion.router.in_features == width  # type: ignore[attr-defined]
    assert run(face, projector(), features(2, 4), maps(2)).shape == (2, 16, LLM)


def test_an_moe_over_the_general_features_alone_is_the_control() -> None:
    block = {"segmentation": {"encoder": None}, "fusion": FORM}
    face = FaceBranch(FaceConfig.parse(block), VISION, LLM)
    assert face.fusion.router.in_features == VISION  # type: ignore[attr-defined]
    assert torch.equal(run(face, projector(), features(2, 4), None), projector()(features(2, 4)))


def test_picture_of_the_experts(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    from PIL import Image

    face, auxiliary = branch("facial", FORM), Auxiliary()
    run(face, projector(), features(2, 4), None, auxiliary=auxiliary)
    plot_expert_use(auxiliary.statistics, tmp_path / "experts.png", "Experts at $0")
    with Image.open(tmp_path / "experts.png") as image:
        assert image.width > 1000 and len(image.convert("RGB").getcolors(1 << 24)) > 50
    plot_expert_use(auxiliary.statistics, tmp_path / "experts.svg", "Experts")
    assert "</svg>" in (tmp_path / "experts.svg").read_text()


def test_forwards_that_are_watched_leave_their_statistics() -> None:
    face, told = branch("facial", FORM), Auxiliary()
    with watched(face) as seen:
        for start in (0, 2):  # two batches, as a host calls it
            run(face, projector(), features(4, 4), None, of=slice(start, start + 2))
    run(face, projector(), features(4, 4), None, auxiliary=told)
    assert set(seen.statistics) == set(told.statistics)
    for name, value in told.statistics.items():
        torch.testing.assert_close(seen.statistics[name], value)


def test_no_picture_without_experts(tmp_path: Any) -> None:
    from llava_face_plugin.errors import FaceDataError

    with pytest.raises(FaceDataError, match="only fusion 'moe'"):
        plot_expert_use({}, tmp_path / "experts.png", "Experts")


def test_the_branch_says_what_it_reads() -> None:
    kinds = {
        ("part-embedding", "gated_add"): (False, False),
        ("facial", "gated_add"): (True, False),
        ("facial", "moe"): (True, False),
        ("facial", "soft-gate"): (True, True),
        ("part-embedding", "text-query"): (False, True),
    }
    for (encoder, fusion), expected in kinds.items():
        with torch.device("meta"):
            face = FaceBranch(config(encoder, {"type": fusion}), VISION, LLM)
        assert (face.reads_pixels, face.reads_prompt) == expected
