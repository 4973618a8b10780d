"""The face branch of a model in memory, of any host, inside whatever wraps it: taken out, and put in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..branch import FaceBranch
from ..config import FaceConfig
from ..errors import FaceConfigError, FaceHostError
from .adapter import FaceAdapter, projector_checksum
from .facial import check_same_weights, known_checksum
from .folder import FACE, Host, canonical

_WRAPPED, _ORIGINAL = "modules_to_save", "original_module"  # PEFT's copies of a module that is to be saved


@dataclass(frozen=True)
class LiveBranch:
    """The branch that the model uses, and its projector's own parameters by their canonical names."""

    branch: FaceBranch
    layers: dict[str, nn.Parameter]
    host: Host

    @classmethod
    def of(cls, model: nn.Module) -> LiveBranch:
        """Looks through PEFT, DDP, accelerate and DeepSpeed. Raises ``FaceHostError`` for a model without a branch."""
        place = _in_use(model, [name for name, module in model.named_modules() if isinstance(module, FaceBranch)])
        if place is None:
            raise FaceHostError(
                "face mode is off in this model: load it with its face block (`llava-face adapter apply` makes a "
                "directory of that kind)"
            )
        stem = place.partition(f".face.{_WRAPPED}.")[0].removesuffix(".face")  # PEFT may have wrapped the branch alone
        host: Host = "transformers" if "multi_modal_projector" in stem else "llava"
        kind = "multi_modal_projector" if host == "transformers" else "mm_projector"
        named = {canonical(f"{kind}.{name}"): p for name, p in model.get_submodule(stem).named_parameters()}
        layers = {name: p for name, p in named.items() if name is not None and not name.startswith(FACE)}
        if "linear_1.weight" not in layers:
            raise FaceHostError("LoRA was put into the projector itself: merge it first (merge_and_unload)")
        return cls(model.get_submodule(place), layers, host)  # type: ignore[arg-type]

    def widths(self) -> tuple[int, int]:
        """(C, D) of the projector."""
        last = max(name for name in self.layers if name.endswith(".weight"))
        first, second = self.layers["linear_1.weight"], self.layers[last]
        shapes = [getattr(p, "ds_shape", p.shape) for p in (first, second)]
        return int(shapes[0][1]), int(shapes[1][0])


def from_model(model: nn.Module, with_projector: bool) -> FaceAdapter:
    """The adapter of a model in memory. Under ZeRO-3 and FSDP every process must call it."""
    live = LiveBranch.of(model)
    config = live.branch.config
    vision_width, llm_width = live.widths()
    parameters = dict(live.branch.named_parameters())
    with gathered([*parameters.values(), *live.layers.values()]):
        tensors = {name: _whole(p) for name, p in parameters.items()}
        layers = {name: _whole(p) for name, p in live.layers.items()}
    return FaceAdapter(
        face=config, vision_width=vision_width, llm_width=llm_width, tensors=tensors,
        projector=layers if with_projector else {}, host=live.host, vision=_vision(model),
        projector_sha256=projector_checksum(layers), facial_sha256=known_checksum(config.facial),
    )  # fmt: skip


def load_adapter(model: nn.Module, path: str | Path) -> FaceAdapter:
    """Puts an adapter's weights into a face model in memory, of any host, in the model's own dtype and on its device.

    The projector is replaced too if it is in the file. Returns the adapter. Raises ``FaceHostError`` if face mode is
    off in the model or weights are offloaded, ``FaceConfigError`` if its block is not the adapter's (it names the
    keys) or widths differ, ``FaceDataError`` for a bad file, and for a frozen facial encoder of other weights.
    """
    adapter = FaceAdapter.read(path)
    live = LiveBranch.of(model)
    check_same_method(adapter.face, live.branch.config, str(path))
    check_same_weights(adapter, live.branch.config.facial)
    if live.widths() != (adapter.vision_width, adapter.llm_width):
        raise FaceConfigError(
            f"{path}: made for widths {adapter.vision_width} and {adapter.llm_width}, this model has "
            f"{' and '.join(map(str, live.widths()))}"
        )
    fill(dict(live.branch.named_parameters()), adapter.tensors)
    if adapter.projector:
        fill(live.layers, adapter.projector)
    return adapter


def fill(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    """Copies values into parameters of the same names. Raises ``FaceHostError`` for one that is not in memory."""
    if any(p.is_meta and not hasattr(p, "ds_id") for p in parameters.values()):
        raise FaceHostError("these weights are offloaded: load the model without offloading to put an adapter in")
    with gathered(list(parameters.values()), write=True), torch.no_grad():
        for name, value in values.items():
            parameter = parameters[name]
            if hasattr(parameter, "full_tensor"):  # FSDP2
                from torch.distributed.tensor import distribute_tensor

                sharded: Any = parameter
                value = value.to(sharded.device, sharded.dtype)
                value = distribute_tensor(value, sharded.device_mesh, sharded.placements)
            parameter.copy_(value)


def check_same_method(ours: FaceConfig, theirs: FaceConfig, where: str) -> None:
    """Raises ``FaceConfigError`` naming the keys in which two blocks describe different branches."""
    differing = _differing(_method(ours), _method(theirs))
    if differing:
        raise FaceConfigError(f"{where}: made for another face block; {', '.join(differing[:3])} differ")


def _method(face: FaceConfig) -> dict[str, Any]:
    """What the weights depend on: not where things lie, loss weights, a tokenizer's ids, or the kind of dispatch."""
    block = face.to_dict()
    for key in ("maps", "parser", "bad_map"):
        block["segmentation"].pop(key)
    if block["facial"]:
        block["facial"].pop("path")
    for key in ("dispatch", "balance_weight", "balance_over", "z_weight"):
        block["fusion"].pop(key)
    if block["knowledge"]:
        for key in ("file", "sha256", "rules", "without", "bce_weight", "logic_weight"):
            block["knowledge"].pop(key)
        for attribute in block["knowledge"]["attributes"]:
            attribute.pop("tokens"), attribute.pop("prior")
    return {key: block[key] for key in ("segmentation", "facial", "fusion", "knowledge")}


def _differing(one: Any, other: Any, place: str = "") -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [key for name in one for key in _differing(one[name], other[name], f"{place}.{name}")]
    return [] if one == other else [place.lstrip(".")]


def _in_use(model: nn.Module, places: list[str]) -> str | None:
    """Of PEFT's copies of the branch the one that runs; a branch that PEFT has not wrapped; or none."""
    for place in places:
        if not {_WRAPPED, _ORIGINAL} & set(place.split(".")):
            return place
    for place in places:
        stem, _, rest = place.partition(f".{_WRAPPED}.")
        if rest and rest.split(".")[0] in _active(model.get_submodule(stem)):
            return place
    return places[0] if places else None


def _active(wrapper: Any) -> list[str]:
    active = getattr(wrapper, "active_adapters", None) or getattr(wrapper, "active_adapter", [])
    return [active] if isinstance(active, str) else list(active)


def _vision(model: nn.Module) -> dict[str, Any]:
    for module in model.modules():
        config = getattr(module, "config", None)
        vision = getattr(config, "vision_config", None)
        if vision is None and type(module).__name__ in ("CLIPVisionModel", "SigLipVisionModel"):  # in LLaVA's packages
            vision = config
        if vision is not None:
            wanted = {key: getattr(vision, key, None) for key in ("model_type", "image_size", "patch_size")}
            return {key: value for key, value in wanted.items() if value is not None}
    return {}


def _whole(parameter: Tensor) -> Tensor:
    if parameter.is_meta:
        raise FaceHostError("these weights are offloaded: save the adapter from the checkpoint's directory instead")
    full = getattr(parameter, "full_tensor", None)  # FSDP2
    return (full() if full is not None else parameter).detach().cpu().clone()


@contextmanager
def gathered(parameters: list[Any], write: bool = False) -> Iterator[None]:
    """What ZeRO-3 has partitioned, whole for the length of the context; ``write``: what is changed stays changed."""
    if not any(hasattr(p, "ds_id") for p in parameters):
        yield
        return
    import deepspeed

    # modifier_rank 0 sends what rank 0 wrote to all: each process wrote the same.
    with deepspeed.zero.GatheredParameters(parameters, modifier_rank=0 if write else None):
        yield
