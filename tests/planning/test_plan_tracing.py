"""Tracing: living bytes by hand, shapes alone against real tensors, FLOPs against formulas."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from planned_shapes import HIDDEN, INTERMEDIATE, LAYERS, PATCHES, VISION_HIDDEN, VOCABULARY, small, work

from llava_face_plugin.config import FaceConfig
from llava_face_plugin.errors import FaceConfigError
from llava_face_plugin.planning import skeleton as parts
from llava_face_plugin.planning.catalogue import MODELS
from llava_face_plugin.planning.face import of_preset
from llava_face_plugin.planning.skeleton import Skeleton
from llava_face_plugin.planning.tokens import Visual
from llava_face_plugin.planning.tracing import BACKWARD, GRADIENTS, LiveBytes, trace
from llava_face_plugin.planning.work import Work

pytest.importorskip("transformers")


def test_living_bytes_by_hand() -> None:
    weight = torch.ones(100)
    live = LiveBytes()
    live.leave_out([weight])
    with live:
        live.part = "a"
        first = weight * 2  # 400 bytes
        view = first[:10]
        live.part = "b"
        second = first.double()  # 800
        assert live.now == {"a": 400, "b": 800}
        del first, view
        third = torch.zeros(10)  # 40
        live.move(third, "c")
    assert live.now == {"a": 0, "b": 800, "c": 40} and live.peak == {"a": 400, "b": 800}
    del second, third
    assert live.now.total() == 0
    live.forget_peak()
    assert live.peak.total() == 0


@pytest.mark.parametrize(
    "changes",
    [{}, {"checkpointing": True}, {"stage": "pretrain"}, {"stage": "lora", "lora_rank": 4}, {"dtype": "bf16"},
     {"train_tower": True}, {"visual": Visual(3, 2 * PATCHES + 5)}, {"attention": "eager"}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("preset", [None, "light", "faceinsight"])
def test_shapes_alone_take_what_real_tensors_take(changes: dict[str, Any], preset: str | None) -> None:
    check_against_real_tensors(work(**changes), None if preset is None else of_preset(preset))


def check_against_real_tensors(asked: Work, face: FaceConfig | None) -> None:
    live = LiveBytes()
    made = Skeleton(small(), asked, face)
    for module in made.modules().values():
        live.leave_out([*module.parameters(), *module.buffers()])
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(lambda p: live.move(p.grad, GRADIENTS))

    def enter(part: str) -> None:
        live.part = part

    with live:
        loss = made.loss(enter)
        enter(BACKWARD)
        loss.backward()
    assert torch.isfinite(loss)
    traced = trace(small(), asked, face, keep_gradients=True)
    ratio = sum(traced.alive.values()) / live.peak.total()
    assert 0.97 < ratio < 1.03, (traced.alive, dict(live.peak))


def test_flops_of_a_step_by_hand() -> None:
    asked = work(attention="eager")
    flops = trace(small(), asked, None).flops
    tokens = PATCHES + 8
    linear = 4 * HIDDEN**2 + 3 * HIDDEN * INTERMEDIATE
    layers = LAYERS * (2 * tokens * linear + 4 * tokens**2 * HIDDEN)
    rotary = 2 * tokens * (HIDDEN // 4 // 2)  # positions x frequencies, a matmul, once a batch
    assert flops[parts.LANGUAGE] - 2 * layers in (0, rotary, 2 * rotary)
    head = 2 * 2 * tokens * HIDDEN * VOCABULARY
    assert flops[parts.LOSS] == head
    projector = 2 * 2 * PATCHES * (VISION_HIDDEN * HIDDEN + HIDDEN**2)
    assert flops[parts.PROJECTION] == projector
    # Backward: each product twice; not the projector's input, which nothing trained made.
    backward = 2 * (2 * layers + head + projector) - 2 * 2 * PATCHES * VISION_HIDDEN * HIDDEN
    assert flops[BACKWARD] == backward


def test_attention_counts_the_same_in_sdpa() -> None:
    eager = trace(small(), work(attention="eager"), None)
    sdpa = trace(small(), work(), None)
    assert sdpa.flops[parts.LANGUAGE] == eager.flops[parts.LANGUAGE]
    assert sdpa.flops[BACKWARD] > eager.flops[BACKWARD]  # the kernel computes the scores again
    tall = work(text=500)
    assert sum(trace(small(), tall, None).alive.values()) < sum(
        trace(small(), replace(tall, attention="eager"), None).alive.values()
    )


def test_checkpointing_computes_the_layers_again_and_keeps_less() -> None:
    asked = work(text=200)
    plain, again = trace(small(), asked, None), trace(small(), replace(asked, checkpointing=True), None)
    assert sum(again.alive.values()) < sum(plain.alive.values())
    # all of the decoder's layers once more; the language model's part is nothing but them
    assert again.total_flops - plain.total_flops == pytest.approx(plain.flops[parts.LANGUAGE], rel=1e-3)


@pytest.mark.parametrize(("stage", "llm"), [("pretrain", 0), ("finetune", 1), ("lora", 2)])
def test_what_is_trained(stage: str, llm: int) -> None:
    traced = trace(small(), work(stage=stage, lora_rank=4), of_preset("light"))
    layer = 4 * HIDDEN**2 + 3 * HIDDEN * INTERMEDIATE + 2 * HIDDEN
    whole = LAYERS * layer + HIDDEN + 2 * VOCABULARY * HIDDEN
    low_rank = LAYERS * 4 * (4 * 2 * HIDDEN + 3 * (HIDDEN + INTERMEDIATE))
    assert traced.trained[parts.LANGUAGE] == [0, whole, low_rank][llm]
    assert traced.frozen[parts.LANGUAGE] == [whole, 0, whole][llm]
    assert traced.trained[parts.TOWER] == 0 and traced.frozen[parts.TOWER] > 0
    # embed, norm, depthwise 3 x 3, widen, project, gate
    face = 80 * 256 + 2 * 256 + 10 * 256 + 257 * 512 + 513 * HIDDEN + HIDDEN
    assert traced.trained[parts.FACE] == face and traced.frozen[parts.FACE] == 0


def test_append_costs_tokens_and_others_do_not() -> None:
    tokens = {
        kind: trace(small(), work(), of_preset("light", settings={"fusion": {"type": kind}})).llm_tokens
        for kind in ("gated_add", "channel", "append")
    }
    assert tokens == {"gated_add": PATCHES + 8, "channel": PATCHES + 8, "append": 2 * PATCHES + 8}


def test_append_is_refused_where_the_host_refuses_it() -> None:
    face = of_preset("light", settings={"fusion": {"type": "append"}})
    shapes = small("llava_next", host="hf-llava-next", pinpoints=((56, 112),))
    with pytest.raises(FaceConfigError, match="hf-llava-next cannot take"):
        trace(shapes, work(), face)


def test_an_own_vit_is_frozen_and_counted() -> None:
    settings = {"segmentation": {"encoder": "vit-palette", "vision_tower": "anywhere", "vision_width": VISION_HIDDEN}}
    traced = trace(small(), work(), of_preset("light", settings=settings))
    assert traced.frozen[parts.FACE_VIT] == traced.frozen[parts.TOWER]
    assert traced.flops[parts.PROJECTION] > traced.flops[parts.TOWER]


@pytest.mark.parametrize(
    ("name", "language", "tower"),
    # As published: Llama 2 (7B, 13B), Qwen2 (its 7B and 0.5B), CLIP ViT-L/14-336's vision half
    [("7b", 6_738_415_616, 303_507_456), ("13b", 13_015_864_320, 303_507_456), ("next-7b", 6_738_415_616, 303_507_456),
     ("onevision-7b", 7_615_616_512, None), ("onevision-0.5b", 494_032_768, None)],
)  # fmt: skip
def test_named_models_have_their_published_parameters(name: str, language: int, tower: int | None) -> None:
    traced = trace(MODELS[name], work(visual=Visual(1, 4), batch=1, dtype="bf16"), None)
    assert traced.trained[parts.LANGUAGE] == language
    if tower is not None:
        assert traced.frozen[parts.TOWER] == tower


def test_an_unknown_projector_is_named() -> None:
    with pytest.raises(FaceConfigError, match="qformer"):
        trace(small(projector="qformer"), work(), None)
