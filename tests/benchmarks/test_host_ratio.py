"""scripts/benchmarks: steps of transformers' own classes, the table of hosts, and plans against measured steps."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "scripts" / "benchmarks"))

import host_ratio
from cases import AGAIN, SIZES, VANILLA, default_variant, with_knowledge
from hf_model import HfBench, small_shapes

transformers = pytest.importorskip("transformers")
if not hasattr(transformers, "LlavaOnevisionForConditionalGeneration"):
    pytest.skip("this transformers has no LlavaOnevision", allow_module_level=True)

ON = with_knowledge(default_variant(), 20)
FAMILIES = ("llava", "llava_next", "llava_next_video", "llava_onevision")


def bench_of(family: str, train: str = "full") -> HfBench:
    size = SIZES["tiny"]
    image = (size.image_size * (1 if family == "llava" else 2), size.image_size)
    return HfBench(small_shapes(family, size), size, "cpu", train, image)


@pytest.mark.contract
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_of_every_family_moves_the_branch(family: str) -> None:
    bench = bench_of(family)
    model = bench.load(ON)
    face = {name: p for name, p in model.named_parameters() if "multi_modal_projector.face." in name}
    assert face and all(p.requires_grad for p in face.values())
    assert not any(p.requires_grad for name, p in model.named_parameters() if "vision_tower" in name)
    output = model(**bench.batch(ON))  # refused by the model if the count of image tokens were wrong
    assert output.logits.shape[1] == bench.visual.tokens + bench.size.text
    output.loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in face.values())
    wall, cpu = bench.stepper(VANILLA)()
    assert wall > 0 and cpu > 0


@pytest.mark.parametrize("name", ["favchat", "grouped", "favchat-v6"])
def test_a_step_with_a_facial_encoder_moves_the_branch(name: str) -> None:
    bench, variant = bench_of("llava_onevision"), host_ratio.ON[name]
    model = bench.load(variant)
    model(**bench.batch(variant)).loss.backward()
    gates = [p for n, p in model.named_parameters() if n.endswith("face.fusion.gate")]
    assert len(gates) == 1 and gates[0].grad.abs().sum() > 0


@pytest.mark.parametrize(("train", "layers"), [("projector", False), ("lora", True)])
def test_stages_train_what_they_say(train: str, layers: bool) -> None:
    model = bench_of("llava", train).load(VANILLA)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert any("multi_modal_projector" in name for name in trained)
    assert any("layers" in name for name in trained) == layers
    assert not any(name.endswith("plain.weight") for name in trained)


def test_off_on_and_off_again_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    seconds = {VANILLA.label: (2.0, 1.0), ON.label: (3.0, 4.0), AGAIN.label: (2.0, 1.5)}

    class Stub:
        device = "cpu"

        def stepper(self, variant):  # type: ignore[no-untyped-def]
            def step() -> tuple[float, float]:
                order.append(variant.label)
                return seconds[variant.label]

            return step

    found = host_ratio.measured(Stub(), ON, rounds=3, memory=False)
    assert order == [VANILLA.label, ON.label, AGAIN.label] * (host_ratio.WARM_UP + 3)
    assert (found["on / off"]["wall"]["ratio"], found["on / off"]["cpu"]["ratio"]) == (1.5, 4.0)
    assert found["off again / off"]["cpu"]["ratio"] == 1.5
    row = host_ratio.table({"a host": {**found, "batch": 2, "tokens": 71, "parameters": 62_900_000}}).cells[0]
    assert row[:5] == ["a host", "2 x 71", "62.9 M", "3", "2000 / 3000"] and row[5].startswith("4.000 (")


def test_large_shapes_are_refused_where_a_host_has_none(tmp_path: Path) -> None:
    arguments = argparse.Namespace(size="7b", device="cuda", train="projector")
    large = host_ratio.bench_of("hf-llava-onevision", arguments, tmp_path)
    assert large.shapes.name == "onevision-7b" and large.dtype == torch.bfloat16
    with pytest.raises(SystemExit, match="hf-llava-next-video has no shapes"):
        host_ratio.bench_of("hf-llava-next-video", arguments, tmp_path)


@pytest.mark.contract
@pytest.mark.parametrize("train", ["full", "projector", "peft"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_plan_is_close_to_a_real_step(tmp_path: Path, train: str, checkpointing: bool) -> None:
    pytest.importorskip("llava")
    pytest.importorskip("sentencepiece")
    if train == "peft":
        pytest.importorskip("peft")
    import plan_check

    facial = [host_ratio.ON["favchat-v6" if checkpointing else "grouped"]] if train == "full" else []
    for variant in (VANILLA, ON, *facial):
        case = plan_check.Case(variant, train, 4, checkpointing)
        bench = plan_check.bench_of(case, SIZES["tiny"], tmp_path)
        bench.write_base()
        estimate = sum(plan_check.estimate(bench, case).values())
        assert estimate / plan_check.living(bench, case) == pytest.approx(1, abs=0.1)
