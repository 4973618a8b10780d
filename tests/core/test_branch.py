"""One suite for every registered encoder with every fusion: register a new one and it is tested."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from llava_face_plugin.branch import FaceBranch
from llava_face_plugin.encoders import ENCODERS
from llava_face_plugin.encoders.base import has_map, part_ids
from llava_face_plugin.errors import FaceConfigError, FaceHostError
from llava_face_plugin.fusion import Auxiliary, Layers
from llava_face_plugin.labels import NO_MAP
from tests.core.standin import (
    COMBINATIONS,
    HAIR,
    LLM,
    NAMES,
    VISION,
    FrozenStandIn,
    branch,
    config,
    everything_of,
    features,
    loss,
    maps,
    open_gates,
    projector,
    run,
)

LORA_TARGETS = {
    "q_proj", "k_proj", "v_proj", "o_proj", "out_proj", "gate_proj", "up_proj", "down_proj", "fc1", "fc2",
}  # fmt: skip
VIT = FrozenStandIn()

every_combination = pytest.mark.parametrize(("encoder", "fusion"), COMBINATIONS, ids=NAMES)
READ_MAPS = [i for i, (encoder, _) in enumerate(COMBINATIONS) if not encoder.startswith("facial")]
with_maps = pytest.mark.parametrize(
    ("encoder", "fusion"), [COMBINATIONS[i] for i in READ_MAPS], ids=[NAMES[i] for i in READ_MAPS]
)


def label_maps(kind: str, batch: int = 2) -> Tensor | None:
    made = maps(batch)
    if kind == "none":
        return None
    if kind == "unknown":
        return torch.full_like(made, NO_MAP)
    if kind == "mixed":
        made[1] = NO_MAP
    return made


@every_combination
@pytest.mark.parametrize("grid", [4, 5])
def test_token_shapes(encoder: str, fusion: dict[str, Any], grid: int) -> None:
    face = branch(encoder, fusion)
    tokens = run(face, projector(), features(2, grid), maps(2))
    added = math.ceil(grid / fusion.get("pool", 1)) ** 2 if face.fusion.adds_tokens else 0
    assert tokens.shape == (2, grid * grid + added, LLM)


@every_combination
@pytest.mark.parametrize("kind", ["map", "mixed", "unknown", "none"])
def test_step_0_is_the_plain_projector(encoder: str, fusion: dict[str, Any], kind: str) -> None:
    plain, seen = projector(), features(2, 4)
    face = branch(encoder, fusion)
    tokens = run(face, plain, seen, label_maps(kind))
    assert torch.equal(tokens[:, :16], plain(seen))
    if not face.fusion.adds_tokens:
        assert tokens.shape[1] == 16


@every_combination
@pytest.mark.parametrize("kind", ["map", "mixed", "unknown", "none"])
def test_every_parameter_has_a_gradient_at_step_0(encoder: str, fusion: dict[str, Any], kind: str) -> None:
    """On every rank alike, whatever its batch holds: a missing one hangs DDP and ZeRO."""
    face = branch(encoder, fusion)
    loss(face, run(face, projector(), features(2, 4), label_maps(kind))).backward()
    assert [name for name, p in face.named_parameters() if p.grad is None] == []


@every_combination
def test_every_parameter_moves_at_the_second_step(encoder: str, fusion: dict[str, Any]) -> None:
    """Behind a zero gate the encoder's first gradient is zero; the second must not be."""
    plain, face = projector(), branch(encoder, fusion)
    optimizer = torch.optim.SGD(face.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        auxiliary = Auxiliary()
        loss(face, run(face, plain, features(2, 4), label_maps("mixed"), auxiliary=auxiliary)).backward()
        still = [name for name, p in face.named_parameters() if not p.grad.abs().sum() > 0]
        optimizer.step()
    loads = auxiliary.statistics.get("expert_load", torch.ones(0))
    idle = tuple(f"fusion.experts.{k}." for k, share in enumerate(loads) if share == 0)  # no patch has chosen them
    assert len(idle) <= max(len(loads) - 2, 0)
    assert [name for name in still if not name.startswith(idle)] == []


@with_maps
def test_map_matters_once_the_gate_is_open(encoder: str, fusion: dict[str, Any]) -> None:
    plain, face = projector(), branch(encoder, fusion)
    open_gates(face)
    with_map, without = (run(face, plain, features(2, 4), label_maps(k)) for k in ("map", "none"))
    assert not torch.allclose(with_map, without)


@every_combination
def test_no_map_argument_equals_a_map_of_255(encoder: str, fusion: dict[str, Any]) -> None:
    plain, face = projector(), branch(encoder, fusion)
    open_gates(face)
    absent, unknown = (run(face, plain, features(2, 4), label_maps(k)) for k in ("none", "unknown"))
    torch.testing.assert_close(absent, unknown)


@every_combination
def test_samples_of_a_mixed_batch_do_not_see_each_other(encoder: str, fusion: dict[str, Any]) -> None:
    plain, face, seen = projector(), branch(encoder, fusion), features(2, 4)
    open_gates(face)
    mixed = label_maps("mixed")
    assert mixed is not None
    together = run(face, plain, seen, mixed)
    alone = [run(face, plain, seen, mixed, of=slice(i, i + 1)) for i in range(2)]
    torch.testing.assert_close(together, torch.cat(alone))


@every_combination
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_dtype_follows(encoder: str, fusion: dict[str, Any], dtype: torch.dtype) -> None:
    plain, face = projector().to(dtype), branch(encoder, fusion).to(dtype)
    open_gates(face)
    tokens = run(face, plain, features(2, 4).to(dtype), maps(2).to(dtype))
    assert tokens.dtype == dtype and tokens.isfinite().all()
    assert face.knowledge is not None
    ids, _ = face.knowledge.prompt_tokens(tokens.device)
    assert face.knowledge(tokens, torch.randn(10, LLM)[ids].to(dtype)).dtype == torch.float32


@every_combination
def test_dtype_is_the_projectors_where_the_branch_is_kept_in_float32(encoder: str, fusion: dict[str, Any]) -> None:
    plain, face = projector().bfloat16(), branch(encoder, fusion)
    open_gates(face)
    assert run(face, plain, features(2, 4).bfloat16(), maps(2).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.int64, torch.int32, torch.uint8])
def test_part_ids_are_exact_in_every_dtype(dtype: torch.dtype) -> None:
    carried = torch.arange(256).to(dtype).view(1, 16, 16)
    assert part_ids(carried).flatten().tolist() == [*range(19), *[19] * 237]


def test_part_ids_of_strange_values() -> None:
    strange = torch.tensor([[[-1.0, -300.0, 18.4, 18.6, float("inf"), 1e30]]])
    assert part_ids(strange).flatten().tolist() == [19, 19, 18, 19, 19, 19]


def test_has_map_needs_one_known_pixel() -> None:
    four = torch.full((4, 3, 3), 255.0)
    four[1, 2, 2] = 0
    four[2] = 77
    four[3] = 18
    assert has_map(four).tolist() == [False, True, False, True]


@every_combination
@pytest.mark.parametrize("wrong", [19.0, 77.0, 254.0, -1.0, -300.0])
def test_unknown_ids_count_as_no_map(encoder: str, fusion: dict[str, Any], wrong: float) -> None:
    plain, face, known = projector(), branch(encoder, fusion), maps(2)
    open_gates(face)
    for mark in (slice(None), slice(0, 7)):  # the whole map, and some of its rows
        marked, none = known.clone(), known.clone()
        marked[:, mark], none[:, mark] = wrong, NO_MAP
        outputs = [run(face, plain, features(2, 4), m) for m in (marked, none)]
        assert torch.equal(*outputs)


@every_combination
def test_state_is_parameters_only(encoder: str, fusion: dict[str, Any]) -> None:
    face = branch(encoder, fusion)
    run(face, projector(), features(2, 4), maps(2))
    assert list(face.buffers()) == []
    assert set(face.state_dict()) == {name for name, _ in face.named_parameters()}


@every_combination
def test_meta_construction_and_reset(encoder: str, fusion: dict[str, Any]) -> None:
    """As transformers builds a model: on the meta device, then memory with anything in it."""
    with torch.device("meta"):
        face = FaceBranch(config(encoder, fusion), VISION, LLM)
    assert all(p.is_meta for p in face.parameters())
    face = face.to_empty(device="cpu")
    with torch.no_grad():
        for p in face.parameters():
            p.fill_(float("nan"))
    face.reset_parameters()
    assert [name for name, p in face.named_parameters() if not p.isfinite().all()] == []
    plain, seen = projector(), features(2, 4)
    tokens = run(face, plain, seen, maps(2))
    assert torch.equal(tokens[:, :16], plain(seen))
    assert face.knowledge is not None
    prior = torch.tensor([0.1, 0.3, 0.5])
    torch.testing.assert_close(face.knowledge.bias.sigmoid(), prior)


@every_combination
@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_copies_are_equal_and_apart(encoder: str, fusion: dict[str, Any], way: str) -> None:
    plain, face, seen = projector(), branch(encoder, fusion), features(2, 4)
    open_gates(face)
    before = run(face, plain, seen, maps(2))
    loss(face, before)  # fills the caches of constants
    twin = copy.deepcopy(face) if way == "deepcopy" else pickle.loads(pickle.dumps(face))
    assert torch.equal(run(twin, plain, seen, maps(2)), before)
    assert torch.equal(loss(twin, before), loss(face, before))
    assert twin.config == face.config
    with torch.no_grad():
        for p in face.parameters():
            p.zero_()
    assert torch.equal(run(twin, plain, seen, maps(2)), before)


@every_combination
def test_names_keep_clear_of_upstreams(encoder: str, fusion: dict[str, Any]) -> None:
    face = branch(encoder, fusion)
    leaves = {name.rsplit(".")[-1] for name, _ in face.named_modules()}
    assert leaves & LORA_TARGETS == set()
    parts = ("mm_projector", "vision_tower", "vision_resampler", "lora_", "embed_tokens")
    assert [n for n, _ in face.named_parameters() if any(part in n for part in parts)] == []


@every_combination
def test_two_calls_and_a_checkpointed_one_are_equal(encoder: str, fusion: dict[str, Any]) -> None:
    plain, face, seen = projector(), branch(encoder, fusion), features(2, 4)
    open_gates(face)
    calls = [lambda: run(face, plain, seen, maps(2))] * 2
    calls.append(lambda: checkpoint(face, Layers(plain), seen, maps(2), **everything_of(2), use_reentrant=False))
    results = []
    for call in calls:
        face.zero_grad()
        tokens = call()
        loss(face, tokens).backward()
        results.append([tokens.detach(), *(p.grad.clone() for p in face.parameters())])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@every_combination
def test_training_works_after_inference_mode(encoder: str, fusion: dict[str, Any]) -> None:
    """LLaVA's evaluation scripts run under inference mode: no cached constant may keep it."""
    plain, face = projector(), branch(encoder, fusion)
    with torch.inference_mode():
        loss(face, run(face, plain, features(2, 4), maps(2)))
    loss(face, run(face, plain, features(2, 4), maps(2))).backward()


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_part_is_seen_where_it_is(encoder: str, corner: tuple[int, int]) -> None:
    """Hair in one corner patch of a face of skin: the token of that patch changes most."""
    module = ENCODERS[encoder](config(encoder, {}).segmentation, VISION, LLM)
    assert isinstance(module, nn.Module)
    open_gates(module)
    skin = torch.ones(1, 40, 40)
    marked = skin.clone()
    top, left = 30 * corner[0], 30 * corner[1]
    marked[:, top : top + 10, left : left + 10] = HAIR
    change = (module(marked, 4, VIT) - module(skin, 4, VIT)).norm(dim=-1)[0]
    assert change.argmax() == 12 * corner[0] + 3 * corner[1]


def test_a_grid_that_is_no_square_is_refused() -> None:
    face = branch("part-embedding", {})
    with pytest.raises(FaceHostError, match="square grid of patch features, got 15"):
        face(Layers(projector()), torch.randn(1, 15, VISION), None)


def test_unregistered_names_are_refused() -> None:
    with pytest.raises(FaceConfigError, match="did you mean 'part-embedding'"):
        branch("part-embeding", {})
    with pytest.raises(FaceConfigError, match="did you mean 'append'"):
        branch("part-embedding", {"type": "apend"})


def test_own_vit_width_is_needed_and_used() -> None:
    block = {"encoder": "vit-palette", "vision_tower": "some/clip", "width": 8}
    with pytest.raises(FaceConfigError, match="vision_width is missing"):
        FaceBranch(config("vit-palette", {}).parse({"segmentation": block}), VISION, LLM)
    face = FaceBranch(config("vit-palette", {}).parse({"segmentation": {**block, "vision_width": 7}}), VISION, LLM)
    assert face.segmentation.widen.in_features == 7
