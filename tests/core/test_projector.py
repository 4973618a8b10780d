"""The face branch under upstream's projector: keys, adapters, refusals."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from llava_face_plugin.errors import FaceHostError
from llava_face_plugin.hosts.llava.projector import FaceProjector, face_projector
from llava_face_plugin.hosts.patching import Patches
from tests.core.standin import LLM, VISION, FrozenStandIn, config, features, maps, open_gates, projector


def made(seed: int = 0) -> FaceProjector:
    return face_projector(projector(seed), config("part-embedding", {}), VISION, LLM)


def test_keeps_upstreams_keys_and_adds_its_own() -> None:
    plain = projector()
    with_face = face_projector(plain, config("part-embedding", {}), VISION, LLM)
    state = with_face.state_dict()
    own = [key for key in state if not key.startswith("face.")]
    assert own == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert all(torch.equal(state[key], plain.state_dict()[key]) for key in own)
    assert {key.split(".")[1] for key in state if key not in own} == {
        "segmentation",
        "fusion",
        "knowledge",
    }


@pytest.mark.parametrize("fusion", ["gated_add", "channel"])
def test_equals_the_plain_projector_until_trained(fusion: str) -> None:
    plain, seen = projector(), features(2, 4)
    with_face = face_projector(plain, config("vit-palette", {"type": fusion}), VISION, LLM)
    assert torch.equal(with_face(seen, maps(2), FrozenStandIn()), plain(seen))
    open_gates(with_face.face)
    assert not torch.allclose(with_face(seen, maps(2), FrozenStandIn()), plain(seen))


def test_label_map_is_optional() -> None:
    plain, seen = projector(), features(2, 4)
    assert torch.equal(face_projector(plain, config("part-embedding", {}), VISION, LLM)(seen), plain(seen))


def test_loads_a_plain_adapter_and_leaves_the_face_alone() -> None:
    target, adapter = made(seed=0), projector(seed=9).state_dict()
    face = {key: value.clone() for key, value in target.face.state_dict().items()}
    target.load_state_dict(adapter)
    state = target.state_dict()
    assert all(torch.equal(state[key], value) for key, value in adapter.items())
    assert all(torch.equal(state[f"face.{key}"], value) for key, value in face.items())


def test_loads_its_own_adapter() -> None:
    source, target = made(seed=8), made(seed=0)
    open_gates(source)
    target.load_state_dict(source.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("2.bias"), "2.bias"),
        (lambda state: state.update({"4.weight": torch.zeros(1)}), "4.weight"),
        (lambda state: state.clear(), "0.weight"),
        (lambda state: state.update({"face.fusion.gate": torch.zeros(LLM)}), "face.segmentation"),
        (lambda state: state.update({"0.weight": torch.zeros(LLM, VISION + 1)}), "size mismatch"),
    ],
    ids=["missing", "unknown", "empty", "partial-face", "shape"],
)
def test_refuses_adapters_that_do_not_fit(change: Callable[[dict[str, Tensor]], object], named: str) -> None:
    state = dict(projector(seed=9).state_dict())
    change(state)
    with pytest.raises(RuntimeError, match=named):
        made().load_state_dict(state)


@pytest.mark.parametrize("plain", [nn.Linear(VISION, LLM), nn.Identity()], ids=["linear", "identity"])
def test_refuses_a_projector_that_is_no_mlp(plain: nn.Module) -> None:
    with pytest.raises(FaceHostError, match=f"MLP projector.*not {type(plain).__name__}"):
        face_projector(plain, config("part-embedding", {}), VISION, LLM)


def test_patches_are_undone_last_first_and_leave_inherited_attributes_inherited() -> None:
    class Base:
        value = 1

        @classmethod
        def name(cls) -> str:
            return cls.__name__

    class Child(Base):
        pass

    patches = Patches()
    patches.set(Child, "value", 2)
    patches.set(Child, "value", 3)
    patches.set(Base, "name", "changed")
    assert (Child.value, Base.value, Child.name, len(patches)) == (3, 1, "changed", 3)
    patches.undo()
    assert (Child.value, Child.name(), len(patches)) == (1, "Child", 0)
    assert "value" not in vars(Child)


def test_a_patch_that_could_not_be_set_is_not_undone() -> None:
    patches = Patches()
    with pytest.raises(TypeError):
        patches.set(int, "value", 1)
    patches.undo()
