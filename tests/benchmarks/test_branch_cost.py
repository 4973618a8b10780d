"""scripts/benchmarks: its counts against others and by hand, its statistics, one tiny step."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.append(str(Path(__file__).parents[2] / "scripts" / "benchmarks"))

from bench_model import Bench
from cases import (
    AGAIN,
    DEFAULT,
    FAVCHAT,
    FAVCHAT_V6,
    GROUPED,
    KNOWLEDGE,
    ON_OFF,
    SIZES,
    VANILLA,
    Variant,
    by_label,
    comparisons,
    default_variant,
    facial_variants,
    map_variants,
    variants,
    with_knowledge,
)
from flops import count, counted, llm_flops, llm_parameters, tower_flops, vision_config
from measuring import WARM_UP, alternate, paired
from report import goals

from llava_face_plugin.encoders import ENCODERS
from llava_face_plugin.fusion import FUSIONS


@pytest.mark.contract
def test_llm_formula_equals_a_counted_llama() -> None:
    transformers = pytest.importorskip("transformers")
    size = SIZES["tiny"]
    config = transformers.LlamaConfig(
        hidden_size=size.hidden, num_hidden_layers=size.layers, num_attention_heads=size.heads,
        intermediate_size=size.intermediate, vocab_size=size.vocabulary, attn_implementation="eager",
    )  # fmt: skip
    llama = transformers.LlamaForCausalLM(config)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        llama(torch.zeros(1, 24, dtype=torch.int64), use_cache=False)
    rotary = 2 * 24 * (size.hidden // size.heads // 2)  # positions x frequencies, a matmul
    assert counter.get_total_flops() - llm_flops(size, 24) in (0, rotary)
    assert count(llama) == llm_parameters(size)


@pytest.mark.contract
def test_tower_formula_equals_a_counted_clip() -> None:
    transformers = pytest.importorskip("transformers")
    size = SIZES["tiny"]
    config = vision_config(size)
    config._attn_implementation = "eager"
    tower = transformers.CLIPVisionModel(config)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        tower(torch.zeros(1, 3, size.image_size, size.image_size))
    assert counter.get_total_flops() == tower_flops(size)


def test_7b_has_its_known_parameters() -> None:
    assert llm_parameters(SIZES["7b"]) == 6_738_415_616  # Llama-7B, as published
    assert SIZES["7b"].patches == 576


@pytest.mark.contract
def test_counts_at_7b_equal_those_by_hand() -> None:
    pytest.importorskip("transformers")
    known = with_knowledge(by_label(DEFAULT), 40)
    labels = [DEFAULT, "part-embedding, append pool 1", "part-embedding, append pool 2"]
    size = SIZES["7b"]
    plain, default, append, pooled, aligned = counted(size, [VANILLA, *(by_label(n) for n in labels), known])
    assert (plain.forward_ratio, plain.training_ratio, plain.stage1_ratio, plain.weight_bytes) == (1, 1, 1, 0)
    # embed, norm, depthwise 3x3, widen, project, gate
    parameters = 80 * 256 + 2 * 256 + 10 * 256 + 257 * 512 + 513 * 4096 + 4096
    multiply_adds = 576 * (80 * 256 + 9 * 256 + 256 * 512 + 512 * 4096)
    assert default.trained_parameters == parameters and default.forward_flops == 2 * multiply_adds
    assert (default.tokens, append.tokens, pooled.tokens) == (0, 576, 144)
    extra = llm_flops(size, 640 + 144) - llm_flops(size, 640)
    assert pooled.forward_flops == default.forward_flops + extra
    assert append.training_ratio > 1.9
    assert aligned.trained_parameters - parameters == 2 * 4096 * 512 + 40  # two convolutions, the biases
    graph = 2 * (2 * 40 * 4096 * 512 + 40 * 40 * (512 + 4096))
    # The cosines are products and a sum, which torch's counter leaves out (2 * 40 * 4096).
    assert aligned.forward_flops - default.forward_flops == graph


def test_every_registered_part_is_in_the_benchmark() -> None:
    def pairs(chosen: list[Variant]) -> set[tuple[str | None, str]]:
        settings = [v.settings for v in chosen if v.settings is not None]
        return {(s["segmentation"]["encoder"], s["fusion"]["type"]) for s in settings}

    alone = [name for name in FUSIONS if not FUSIONS[name].reads_taps]  # type: ignore[attr-defined]
    assert pairs(map_variants()) == {(e, f) for e in ENCODERS for f in alone}
    assert {(None, f) for f in FUSIONS} <= pairs(facial_variants())
    assert len({v.label for v in variants()}) == len(variants())
    assert all(v.facial for v in facial_variants()) and not any(v.facial for v in map_variants())


def test_rows_choose_what_is_measured() -> None:
    rows = {name: [pair.name for pair in comparisons(name)] for name in ("maps", "facial", "all")}
    assert set(rows["maps"]) | set(rows["facial"]) == set(rows["all"])
    assert set(rows["maps"]) & set(rows["facial"]) == {AGAIN.label}
    assert ON_OFF in rows["maps"] and FAVCHAT in rows["facial"]


@pytest.mark.contract
def test_favchat_at_7b_equals_counts_by_hand() -> None:
    pytest.importorskip("transformers")
    size = SIZES["7b"]
    dense, grouped = counted(size, [by_label(FAVCHAT), by_label(GROUPED)])
    block = 2 * 197 * (4 * 768**2 + 2 * 768 * 3072) + 4 * 197**2 * 768  # 196 patches and the class token
    encoder = 2 * 196 * 3 * 16**2 * 768 + 12 * block
    router, expert = 2 * 576 * 4096 * 4, 2 * 576 * 2 * 4096 * 1024
    assert dense.forward_flops == encoder + router + 4 * expert
    assert grouped.forward_flops == encoder + router + 2 * expert
    # Backward: the experts' weights and what is between their layers; z comes from frozen parts.
    assert dense.training_flops == encoder + 2 * router + 4 * (expert + 3 * expert / 2)
    assert grouped.training_flops == encoder + 2 * router + 2 * (expert + 3 * expert / 2)
    assert dense.trained_parameters == 4 * (2 * 4096 * 1024 + 1024 + 4096) + 4 * 4096 + 4096
    assert dense.frozen_parameters == 85_797_888 and dense.tokens == grouped.tokens == 0


def test_paired_ratio_is_the_median_of_each_pair() -> None:
    found = paired([1.0, 2.0, 4.0], [1.1, 2.0, 8.0])  # drift cancels: 1.1, 1.0, 2.0
    assert math.isclose(found["ratio"], 1.1) and math.isclose(found["first_ms"], 2000.0)
    assert (round(found["q1"], 9), round(found["q3"], 9)) == (1.05, 1.55)
    assert 1.0 <= found["low"] <= 1.1 <= found["high"] <= 2.0


def test_steps_alternate_and_the_warm_up_is_dropped() -> None:
    order: list[str] = []

    def step(name: str, wall: float, cpu: float) -> tuple[float, float]:
        order.append(name)
        return (9.0, 9.0) if len(order) <= 2 * WARM_UP else (wall, cpu)

    wall, cpu = alternate(lambda: step("a", 2, 1), lambda: step("b", 3, 4), pairs=3)
    assert order == ["a", "b"] * (WARM_UP + 3)
    assert (wall["ratio"], wall["first_ms"], wall["low"], wall["high"]) == (1.5, 2000, 1.5, 1.5)
    assert (cpu["ratio"], cpu["second_ms"]) == (4, 4000)


def test_goals_say_what_was_missed() -> None:
    time = {DEFAULT: 1.05, KNOWLEDGE: 1.2, ON_OFF: 1.005}
    results = {
        "time": {name: {"wall": {"ratio": ratio}} for name, ratio in time.items()},
        "memory_ratio": {DEFAULT: 1.01, KNOWLEDGE: 1.09},
    }
    assert [line.split(":")[0] for line in goals(results)] == ["met", "MISSED", "met", "met", "MISSED"]


@pytest.mark.contract
@pytest.mark.parametrize("train", ["full", "projector", "lora"])
def test_a_face_step_runs_on_the_path_of_the_7b_size(tmp_path: Path, train: str) -> None:
    pytest.importorskip("llava")
    pytest.importorskip("sentencepiece")
    bench = Bench(SIZES["tiny"], "cpu", train, tmp_path)
    bench.write_base()
    default = default_variant()
    wall, cpu = bench.stepper(with_knowledge(default, 20))()
    assert wall > 0 and cpu > 0
    model = bench.load(default)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    face = {name for name, _ in model.named_parameters() if "mm_projector.face." in name}
    assert face <= trained and not any("vision_tower" in name for name in trained)
    assert any("layers" in name for name in trained) == (train != "projector")


@pytest.mark.contract
@pytest.mark.parametrize("label", [GROUPED, FAVCHAT_V6])
def test_a_step_with_a_facial_encoder_runs(tmp_path: Path, label: str) -> None:
    pytest.importorskip("llava")
    pytest.importorskip("sentencepiece")
    bench = Bench(SIZES["tiny"], "cpu", "full", tmp_path)
    bench.write_base()
    wall, cpu = bench.stepper(by_label(label))()
    assert wall > 0 and cpu > 0
