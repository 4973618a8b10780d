"""The gate: ``from_pretrained`` of upstream's class hands over to a face class when, and only when, the config says so.

Upstream's module-level classes are patched in place and never replaced: their ``super(GlobalName, self)`` calls
would recurse.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ... import guard
from ...config import FaceConfig
from ...errors import FaceHostError
from ..patching import Patches

_LOG = logging.getLogger("llava_face_plugin")
_HUB_KEYS = (
    "cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token", "use_auth_token",
)  # fmt: skip
_LOADING_KEYS = ("attn_implementation", "dtype", "quantization_config", "torch_dtype")  # the config has them too
_loading: ContextVar[bool] = ContextVar("_loading", default=False)
"""Whether ``from_pretrained`` is under way: it knows afterwards what the checkpoint lacks, and starts that."""


@dataclass(frozen=True)
class Host:
    """One upstream package.

    Attributes:
        face_class: upstream's class -> its face class.
        supported: the names of upstream's classes that have one, for messages.
        check: raises ``FaceHostError`` unless this is the upstream that was tried.
        activate: wraps what upstream builds and trains with. Harmless to repeat.
        meant: (the class that upstream picked, the model's config) -> the class that the config asks for.
    """

    face_class: Callable[[type], type]
    supported: Sequence[str]
    check: Callable[[], None]
    activate: Callable[[], None]
    meant: Callable[[type, Any], type] = lambda upstream, config: upstream


def put_gate(upstream: type, host: Host, patches: Patches) -> None:
    """Wraps ``upstream.from_pretrained``. Without the flag it is upstream's own."""
    original = upstream.from_pretrained.__func__  # type: ignore[attr-defined]

    @functools.wraps(original)
    def from_pretrained(cls: type, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        path = pretrained_model_name_or_path
        try:
            config = _read_config(cls, path, kwargs)
        except (OSError, ValueError):
            config = None  # not to be found: upstream says so in its own words
        if config is None or FaceConfig.of(config, str(path)) is None:
            return original(cls, path, *args, **kwargs)
        meant = host.meant(upstream, config)
        if meant.__name__ not in host.supported:
            raise FaceHostError(f"{path}: face mode supports {', '.join(host.supported)}, not {meant.__name__}")
        host.check()
        host.activate()
        if meant is not upstream:
            config, kwargs = _config_of(meant, config, path), _without_config(kwargs)
        target = host.face_class(meant) if cls is upstream else cls
        return _load_face_model(original, target, path, args, _with_config(config, kwargs))

    patches.set(upstream, "from_pretrained", classmethod(from_pretrained))


def differing_signature(cls: type, expected: Mapping[str, list[str]]) -> str | None:
    """What of ``cls`` is not as expected (method name -> its parameters), in words; None if all is."""
    for name, parameters in expected.items():
        found = list(inspect.signature(getattr(cls, name)).parameters)
        if found != parameters:
            return f"{name} of the `llava` here takes {found}, not {parameters}"
    return None


def wrap_projector_builder(arch: Any, patches: Patches) -> bool:
    """Makes ``llava_arch`` build the face projector where the config has the flag. False if it does so already."""
    plain_build = arch.build_vision_projector
    if hasattr(plain_build, "_face"):
        return False

    @functools.wraps(plain_build)
    def build_vision_projector(config: Any, *args: Any, **kwargs: Any) -> Any:
        face = FaceConfig.of(config)
        if face is None:
            return plain_build(config, *args, **kwargs)
        from .projector import face_projector

        shown = SimpleNamespace(
            mm_projector_type=guard.plain_projector(getattr(config, "mm_projector_type", "linear")),
            mm_hidden_size=config.mm_hidden_size,
            hidden_size=config.hidden_size,
        )
        plain = plain_build(shown, *args, **kwargs)
        projector = face_projector(plain, face, config.mm_hidden_size, config.hidden_size)
        if projector.face.facial is not None and not _loading.get():  # training from a language model
            projector.face.facial.reset_parameters()
        return projector

    build_vision_projector._face = True  # type: ignore[attr-defined]
    patches.set(arch, "build_vision_projector", build_vision_projector)
    return True


def unwrap(model: Any) -> Any | None:
    """The face model inside a PEFT, DDP or DeepSpeed wrapper; None if there is none."""
    for module in model.modules() if model is not None else ():
        if getattr(type(module), "is_face_model", False):  # on the class: PEFT answers for the model inside it
            return module
    return None


def _read_config(cls: Any, path: Any, kwargs: dict[str, Any]) -> Any:
    config = kwargs.get("config")
    if config is None or isinstance(config, str):
        hub = {key: kwargs[key] for key in _HUB_KEYS if key in kwargs}
        return cls.config_class.from_pretrained(config or path, **hub)
    return config


def _config_of(meant: Any, config: Any, path: Any) -> Any:
    """The config as one of the class that is meant."""
    _LOG.warning("%s: upstream took it for another language model by its name; loaded as %s", path, meant.__name__)
    return meant.config_class.from_dict(config.to_dict())


def _without_config(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in kwargs.items() if key != "config"}


def _with_config(config: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keywords with the config in hand among them; checks what they ask for.

    transformers lets ``from_pretrained(path, use_cache=False)`` override the config it reads itself, but gives such
    a keyword to the constructor where a config is passed.
    """
    _refuse_quantised_branch(kwargs)
    if isinstance(kwargs.get("config"), type(config)):
        return kwargs
    overrides = {key: kwargs[key] for key in kwargs if hasattr(config, key) and key not in _LOADING_KEYS}
    for key, value in overrides.items():
        setattr(config, key, value)
    return {**{key: value for key, value in kwargs.items() if key not in overrides}, "config": config}


def _refuse_quantised_branch(kwargs: dict[str, Any]) -> None:
    quantisation = kwargs.get("quantization_config")
    skipped = getattr(quantisation, "llm_int8_skip_modules", None) or ()
    if (kwargs.get("load_in_4bit") or kwargs.get("load_in_8bit") or quantisation) and "mm_projector" not in skipped:
        raise FaceHostError(
            "face mode is not supported in a 4- or 8-bit projector: load in 16 bits, or pass a quantization_config "
            "with llm_int8_skip_modules=['mm_projector'], as LLaVA's own training does"
        )


def _load_face_model(original: Any, cls: type, path: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    config = kwargs["config"]
    if getattr(config, "mm_vision_tower", None) == guard.TOWER_MARK:
        del config.mm_vision_tower
    wants_info = kwargs.pop("output_loading_info", False)
    token = _loading.set(True)
    try:
        model, info = original(cls, path, *args, output_loading_info=True, **kwargs)
    finally:
        _loading.reset(token)
    _start_missing_branch(model, info, str(path))
    _start_missing_newline(model, info, str(path))
    _load_missing_tower(model, info)
    return (model, info) if wants_info else model


def _start_missing_branch(model: Any, info: dict[str, Any], path: str) -> None:
    """Fresh weights where the checkpoint has no branch yet: transformers fills gaps with noise, gates included."""
    mark = "mm_projector.face."
    ours = {name for name, _ in model.named_parameters() if mark in name}
    missing = ours & set(info["missing_keys"])
    if missing and missing != ours:
        raise FaceHostError(
            f"{path}: {len(ours - missing)} of {len(ours)} face parameters are in the checkpoint; missing "
            f"{sorted(missing)[0]} ... Was the face block changed after training? `llava-face enable` a fresh copy"
        )
    if any(parameter.is_meta for name, parameter in model.named_parameters() if name in missing):
        raise FaceHostError(f"{path}: its new face branch would be offloaded; load it on one device first")
    if missing:
        reset_branch(model.get_model().mm_projector.face)


def _start_missing_newline(model: Any, info: dict[str, Any], path: str) -> None:
    """LLaVA-NeXT's LoRA and stage 1 neither train nor save ``image_newline``: it would be whatever is in memory."""
    newline = getattr(model.get_model(), "image_newline", None)
    if newline is None or "model.image_newline" not in info["missing_keys"] or newline.is_meta:
        return
    _LOG.warning(
        "%s: no image_newline in it: zeros, unless a LoRA brings it. Upstream saves it in full finetuning alone: start "
        "LoRA from such a checkpoint",
        path,
    )
    newline.data.zero_()


def _load_missing_tower(model: Any, info: dict[str, Any]) -> None:
    """LLaVA-NeXT's model loads its tower while it is built, on no device at all: a checkpoint must have the weights.

    Where it has none (a LoRA's base is a plain language model) they would be whatever is in memory.
    """
    tower = model.get_model().get_vision_tower()
    if tower is None or not tower.is_loaded or not any("vision_tower." in key for key in info["missing_keys"]):
        return
    device, dtype = tower.device, tower.dtype
    tower.is_loaded = False
    tower.load_model()
    tower.to(device=device, dtype=dtype)


def reset_branch(branch: Any) -> None:
    """``branch.reset_parameters()``, gathered first where ZeRO-3 has partitioned it."""
    parameters = list(branch.parameters())
    if not any(hasattr(p, "ds_id") for p in parameters):
        branch.reset_parameters()
        return
    import deepspeed
    import torch.distributed as dist

    with deepspeed.zero.GatheredParameters(parameters, modifier_rank=0):
        if dist.get_rank() == 0:
            branch.reset_parameters()
