from __future__ import annotations

import math

import pytest
import torch

from llava_face_plugin.knowledge import LogicalModule, Rule, bce_per_sample, knowledge_losses

NAMES = ("a", "b", "c")
LOGIC = LogicalModule([Rule("implication", ("a",), ("b",)), Rule("exclusion", of=("b", "c"), weight=0.5)], NAMES)


def test_bce_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3), -math.log(3)], [5.0, 5.0, 0.0], [1.0, 2.0, 3.0]])
    labels = torch.tensor([[1, 0, 1], [-1, -1, 0], [-1, -1, -1]], dtype=torch.int8)
    # p = 1/2, 3/4, 1/4: -(log 1/2 + log 1/4 + log 1/4) / 3
    expected = torch.tensor([5 * math.log(2) / 3, math.log(2), 0.0])
    torch.testing.assert_close(bce_per_sample(logits, labels), expected)
    with pytest.raises(ValueError, match="expected"):
        bce_per_sample(logits, labels[:2])


def test_batch_losses_are_means_over_all_samples() -> None:
    logits = torch.zeros(4, 3)
    labels = torch.full((4, 3), -1, dtype=torch.int8)
    labels[0] = torch.tensor([1, 0, 0])
    losses = knowledge_losses(logits, labels, LOGIC)
    assert set(losses) == {"bce", "logic"}
    assert losses["bce"].item() == pytest.approx(math.log(2) / 4)
    assert losses["logic"].item() == pytest.approx(1.5 * math.log(4 / 3) / 2 / 4)
    assert knowledge_losses(logits, labels, None)["logic"].item() == 0.0


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_accumulation_does_not_change_value_or_gradient(steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 3, generator=generator, requires_grad=True)
    labels = torch.randint(-1, 2, (8, 3), generator=generator, dtype=torch.int8)
    labels[:3] = -1  # so that some micro-batches hold no labels at all
    whole = knowledge_losses(logits, labels, LOGIC)
    for key in whole:
        parts = [
            knowledge_losses(x, y, LOGIC)[key] / steps
            for x, y in zip(logits.chunk(steps), labels.chunk(steps), strict=True)
        ]
        torch.testing.assert_close(torch.stack(parts).sum(), whole[key])
        (want,) = torch.autograd.grad(whole[key], logits, retain_graph=True)
        (got,) = torch.autograd.grad(torch.stack(parts).sum(), logits)
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("logic", [LOGIC, None])
@pytest.mark.parametrize("size", [3, 0])
def test_zero_finite_and_connected_without_labels(logic: LogicalModule | None, size: int) -> None:
    logits = torch.full((size, 3), 1e4, requires_grad=True)
    losses = knowledge_losses(logits, torch.full((size, 3), -1, dtype=torch.int8), logic)
    assert losses["bce"].item() == 0.0 and losses["logic"].item() == 0.0
    for loss in losses.values():
        (grad,) = torch.autograd.grad(loss, logits, retain_graph=True)
        assert bool((grad == 0).all()) and grad.shape == (size, 3)


def test_finite_at_extremes_and_in_half_precision() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        logits = torch.tensor([[1e4, -1e4, 1e4], [-1e4, 1e4, 1e4]], dtype=dtype, requires_grad=True)
        losses = knowledge_losses(logits, torch.tensor([[0, 1, 0], [1, 0, 0]], dtype=torch.int8), LOGIC)
        assert all(loss.dtype == torch.float32 and bool(torch.isfinite(loss)) for loss in losses.values())
        sum(losses.values()).backward()  # type: ignore[union-attr]
        assert logits.grad is not None and bool(torch.isfinite(logits.grad).all())
