"""Memory by ZeRO's rules: the figures of its paper, and sums by hand."""

from __future__ import annotations

from typing import Any

import pytest
from planned_shapes import work

from llava_face_plugin.errors import FaceConfigError
from llava_face_plugin.planning import memory as m
from llava_face_plugin.planning.memory import keeps_gradients, memory
from llava_face_plugin.planning.skeleton import FACE_VIT, LANGUAGE, TOWER
from llava_face_plugin.planning.tracing import GRADIENTS, Traced
from llava_face_plugin.planning.work import Spread, Work

TEXT = {"hidden_size": 1000}


def traced(trained: int, frozen: int = 0, own: int = 0, **alive: int) -> Traced:
    return Traced({LANGUAGE: trained}, {TOWER: frozen, FACE_VIT: own}, 0, {}, dict(alive))


def states(spread: Spread, trained: int, asked: Work | None = None) -> int:
    """Weights, gradients and optimizer states on one GPU."""
    parts = memory(traced(trained), asked or work(dtype="bf16"), spread, TEXT).moments[0].parts
    return parts[m.WEIGHTS] + parts[GRADIENTS] + parts[m.OPTIMIZER]


@pytest.mark.parametrize(("zero", "gigabytes"), [(1, 31.4), (2, 16.6), (3, 1.9)])
def test_the_zero_papers_example(zero: int, gigabytes: float) -> None:
    # Rajbhandari et al. 2020, figure 1: 7.5 G parameters, 64 GPUs, mixed precision with Adam
    assert states(Spread(64, zero, accumulation=2), 7_500_000_000) / 1e9 == pytest.approx(gigabytes, abs=0.05)


def test_plain_torch_by_hand() -> None:
    asked = work(dtype="fp32")
    found = memory(traced(1000, 500, gradients=2400, activations=7000), asked, Spread(1, 0), TEXT)
    running, stepping = found.moments
    assert running.parts == {
        m.WEIGHTS: 6000, m.OPTIMIZER: 8000, m.OVERHEAD: m.CONTEXT, GRADIENTS: 2400, "activations": 7000, m.BUFFERS: 0,
    }  # fmt: skip
    # all gradients, and AdamW's copy of its second moments
    assert stepping.total - m.CONTEXT == 6000 + 8000 + 4000 + 4000
    assert found.peak is running and found.host == 0
    fused = memory(traced(1000, 500), asked, Spread(1, 0, optimizer="adamw_torch_fused"), TEXT).moments[1]
    assert fused.parts[m.STEP] == 0


def test_gradients_are_all_there_when_steps_accumulate() -> None:
    spread = Spread(1, 0, accumulation=4)
    assert not keeps_gradients(spread) and keeps_gradients(Spread(1, 0)) and not keeps_gradients(Spread(8, 2))
    found = memory(traced(1000), work(dtype="bf16"), spread, TEXT)
    assert found.moments[0].parts[GRADIENTS] == 2000


def test_deepspeeds_copies_at_the_step_by_hand() -> None:
    def step(zero: int, trained: int = 800, **more: Any) -> dict[str, int]:
        parts = memory(traced(trained), work(dtype="bf16"), Spread(4, zero, **more), TEXT).moments[1].parts
        return {m.STEP: parts[m.STEP], GRADIENTS: parts[GRADIENTS]}

    # ZeRO-1 and 2: three flat copies in bf16 and one in fp32 of 200 gradients
    assert step(1) == step(2) == {m.STEP: (3 * 2 + 4) * 200, GRADIENTS: 400}
    assert step(3) == {m.STEP: (4 + 4) * 200, GRADIENTS: 400}
    assert step(3, optimizer="adamw_torch_fused")[m.STEP] == 4 * 200
    assert step(2, offload="optimizer") == {m.STEP: 0, GRADIENTS: 0}
    assert step(3, trained=8 * 10**9)[m.STEP] == 8 * 10**9  # sub_group_size at a time


def test_buffers_by_hand() -> None:
    def buffers(gpus: int, zero: int, trained: int = 10**8, **more: Any) -> int:
        return memory(traced(trained, **more), work(dtype="bf16"), Spread(gpus, zero), TEXT).moments[0].parts[m.BUFFERS]

    assert buffers(1, 0) == buffers(1, 2) == buffers(1, 3) == 0
    assert buffers(8, 0) == 2 * 10**8  # DDP's buckets
    assert buffers(8, 2) == 2 * 2 * 1000**2  # two of hidden ** 2
    assert buffers(8, 3, frozen=10**8) == 2 * (2 * 1000**2 + 2 * 10**8)
    assert buffers(8, 3, trained=5 * 10**9) == 2 * (2 * 1000**2 + 10**9)  # never more than stage3_max_live_parameters


def test_what_zero_does_not_partition() -> None:
    parts = memory(traced(800, 800, own=100), work(dtype="bf16"), Spread(8, 3), TEXT).moments[0].parts
    assert parts[m.WEIGHTS] == 2 * 1600 // 8 + 2 * 100
    parts = memory(traced(800, 800), work(dtype="bf16"), Spread(8, 2), TEXT).moments[0].parts
    assert parts[m.WEIGHTS] == 2 * 1600


def test_offloading_moves_bytes_to_the_host() -> None:
    asked = work(dtype="bf16")
    optimizer = memory(traced(800), asked, Spread(4, 2, "optimizer"), TEXT)
    assert optimizer.host == (12 + 4) * 200
    assert optimizer.moments[0].parts[m.OPTIMIZER] == optimizer.moments[0].parts[GRADIENTS] == 0
    both = memory(traced(800, 400), asked, Spread(4, 3, "both"), TEXT)
    assert both.host == 16 * 200 + 2 * 300 and both.moments[0].parts[m.WEIGHTS] == 0
    assert both.moments[0].parts[m.BUFFERS] == 2 * (2 * 800 + 1200)  # weights still come to be used


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"zero": 4}, "--zero 4"),
        ({"zero": 0, "offload": "optimizer"}, "needs DeepSpeed"),
        ({"zero": 2, "offload": "both"}, "needs --zero 3"),
        ({"offload": "disk"}, "--offload disk"),
        ({"gpus": 0}, "at least 1"),
        ({"optimizer": "sgd"}, "--optim sgd"),
    ],
)
def test_impossible_runs_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(FaceConfigError, match=message):
        Spread(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"stage": "dpo"}, "--stage dpo"), ({"dtype": "int8"}, "--dtype int8"), ({"batch": 0}, "--batch")],
)
def test_impossible_work_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(FaceConfigError, match=message):
        work(**settings)
