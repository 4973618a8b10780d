"""Weights of vision transformers: reading them, and giving them the names of ``vit.py``.

FaRL's checkpoint (FacePerceiver/FaRL, ``FaRL-Base-Patch16-LAIONFace20M-ep16.pth`` and ``-ep64.pth``) is a dict with a
``state_dict`` in the names of OpenAI's CLIP: the image tower under ``visual.``, the text tower beside it, and, from its
masked image modelling, a decoder under ``visual.lm_*``. Only the image tower is read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FaceDataError
from ..facial_config import CLIP_MEAN, CLIP_STD, FacialConfig, VitConfig
from ..parsing.weights import read_state_dict
from ..registry import Registry
from .vit import VisionTransformer


class VitCheckpoint(NamedTuple):
    """What a reader finds at a path."""

    vit: VitConfig
    size: int
    """Side of its training images in pixels."""
    mean: list[float]
    std: list[float]
    weights: dict[str, Tensor]
    """float32, in the names of ``VisionTransformer``; position embeddings of the checkpoint's own grid."""


READERS: Registry[Callable[[str], VitCheckpoint]] = Registry("facial encoder")
"""``face.facial.encoder`` -> what reads ``face.facial.path``."""


@READERS.register("farl")
def read_farl(path: str) -> VitCheckpoint:
    """A file in the names of FaRL and of OpenAI's CLIP, ``.pth`` (read with ``weights_only=True``) or ``.safetensors``.

    The image tower is what stands under ``visual.``, or the whole file where nothing does. Raises ``FaceDataError``
    for a file that is no such thing, or has weights that are missing or unknown.
    """
    state = _read_file(path)
    prefix = "visual." if any(name.startswith("visual.") for name in state) else ""
    state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    first = state.get("conv1.weight")
    if first is None or first.ndim != 4:
        raise FaceDataError(f"weights {path}: no image tower in the format of FaRL and CLIP (visual.conv1.weight)")
    weights = translated(state, path)
    width, patch = first.shape[0], first.shape[-1]
    widen = weights.get("blocks.0.widen.weight")
    if widen is None:
        raise FaceDataError(f"weights {path}: no transformer block (visual.transformer.resblocks.0)")
    depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    heads = max(width // 64, 1)  # in OpenAI's CLIP and in FaRL a head is 64 wide; the weights do not tell
    if width % heads:
        raise FaceDataError(f"weights {path}: {width} wide, which is no multiple of its {heads} heads of 64")
    vit = VitConfig(width=width, depth=depth, heads=heads, hidden=widen.shape[0], patch=patch)
    return VitCheckpoint(vit, _side(weights, vit, path) * patch, list(CLIP_MEAN), list(CLIP_STD), weights)


def load_weights(config: FacialConfig) -> dict[str, Tensor]:
    """The weights at ``config.path`` for a ``VisionTransformer`` of that configuration, float32 on the CPU."""
    return fit(READERS[config.encoder](str(config.path)), config)


def fit(checkpoint: VitCheckpoint, config: FacialConfig) -> dict[str, Tensor]:
    """The weights that a ``VisionTransformer`` of that configuration takes, all of them and no other.

    Position embeddings are resized to its grid; blocks behind the last tap are left out. Raises ``FaceDataError`` for
    weights that do not fit.
    """
    path = str(config.path)
    if checkpoint.vit != config.vit:
        odd = [k for k in VitConfig.model_fields if getattr(checkpoint.vit, k) != getattr(config.vit, k)]
        raise FaceDataError(
            f"weights {path}: face.facial.vit says {', '.join(f'{k} {getattr(config.vit, k)}' for k in odd)}, but the "
            f"weights have {', '.join(f'{k} {getattr(checkpoint.vit, k)}' for k in odd)}: run `llava-face enable` again"
        )
    with torch.device("meta"):
        wanted = VisionTransformer(config.vit, config.grid, config.taps[-1] + 1).state_dict()
    weights = dict(checkpoint.weights)
    missing = sorted(name for name in wanted if name not in weights)
    if missing:
        raise FaceDataError(f"weights {path}: {len(missing)} weights are missing: {', '.join(missing[:3])}, ...")
    _side(weights, config.vit, path)
    weights["positions"] = resized(weights["positions"], config.grid, int(config.vit.class_token))
    weights = {name: weights[name] for name in wanted}
    for name, value in weights.items():
        if not value.isfinite().all():
            raise FaceDataError(f"weights {path}: {name} holds values that are not finite", "damaged")
        if value.shape != wanted[name].shape:
            raise FaceDataError(f"weights {path}: {name} is {tuple(value.shape)}, not {tuple(wanted[name].shape)}")
    return weights


def resized(positions: Tensor, grid: int, extra: int) -> Tensor:
    """Position embeddings (extra + G^2, C) -> (extra + grid^2, C), bicubic, as FaRL resizes its own."""
    old = math.isqrt(len(positions) - extra)
    if old == grid:
        return positions
    image = positions[extra:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    image = F.interpolate(image, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([positions[:extra], image[0].flatten(1).T])


# The names of OpenAI's CLIP (and FaRL), and of transformers' CLIP, SigLIP and DINOv2 (4.x and 5.x).
_STEM = {
    "conv1": "patches",
    "embeddings.patch_embedding": "patches",
    "embeddings.patch_embeddings.projection": "patches",
    "class_embedding": "class_token",
    "embeddings.class_embedding": "class_token",
    "embeddings.cls_token": "class_token",
    "positional_embedding": "positions",
    "embeddings.position_embedding.weight": "positions",
    "embeddings.position_embeddings": "positions",
    "embeddings.register_tokens": "registers",
    "ln_pre": "norm",
    "pre_layrnorm": "norm",  # transformers' spelling
}
_IN_BLOCK = {
    "ln_1": "norm_1", "layer_norm1": "norm_1", "norm1": "norm_1",
    "in_proj": "qkv",
    "q_proj": "query", "query": "query",
    "k_proj": "key", "key": "key",
    "v_proj": "value", "value": "value",
    "out_proj": "merge", "o_proj": "merge", "dense": "merge",
    "layer_scale1": "scale_1", "layer_scale2": "scale_2",
    "ln_2": "norm_2", "layer_norm2": "norm_2", "norm2": "norm_2",
    "c_fc": "widen", "fc1": "widen",
    "c_proj": "project", "fc2": "project",
}  # fmt: skip
_BLOCK = re.compile(r"(?:transformer\.resblocks|encoder\.layers?)\.(\d+)\.(.+)\.(weight|bias|lambda1)")
UNREAD = (
    "proj", "ln_post.", "post_layernorm.", "layernorm.", "head.", "pooler.",  # behind the last block
    "mask_token", "lm_transformer.", "ln_lm.", "lm_head.", "embeddings.mask_token", "embeddings.position_ids",
)  # fmt: skip


def translated(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """An image tower's weights in the names of ``VisionTransformer``, float32.

    Raises ``FaceDataError`` for a name that none of the known formats has.
    """
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith(UNREAD):
            continue
        ours = _our_name(name)
        if ours is None:
            raise FaceDataError(f"weights {where}: {name!r} is no weight of a known vision transformer")
        out[ours] = value.float()
    for token in ("class_token", "registers", "positions"):
        if token in out:  # DINOv2 keeps them with dimensions of size 1 in front
            if token != "class_token" and out[token].ndim < 2:
                raise FaceDataError(f"weights {where}: {token} of shape {tuple(out[token].shape)}, not a row a token")
            out[token] = out[token].flatten() if token == "class_token" else out[token].flatten(0, -2)
    return _joined(out, where)


def _our_name(name: str) -> str | None:
    name = name.replace("in_proj_", "in_proj.")
    if name in _STEM:
        return _STEM[name]
    stem, _, last = name.rpartition(".")
    if stem in _STEM:
        return f"{_STEM[stem]}.{last}"
    found = _BLOCK.fullmatch(name)
    module = found and _IN_BLOCK.get(found[2].rpartition(".")[2])
    if found is None or module is None:
        return None
    return f"blocks.{found[1]}.{module}" + ("" if found[3] == "lambda1" else f".{found[3]}")


def _joined(weights: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Query, key and value of each block as the one layer that they are here."""
    for name in [name for name in weights if ".query." in name]:
        parts = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if any(part not in weights for part in parts):
            raise FaceDataError(f"weights {where}: one of {', '.join(parts)} is missing")
        weights[name.replace(".query.", ".qkv.")] = torch.cat([weights.pop(part) for part in parts])
    return weights


def _side(weights: Mapping[str, Tensor], vit: VitConfig, where: str) -> int:
    """Patches along a side of the image that the position embeddings are for."""
    positions = weights.get("positions")
    count = -1 if positions is None else len(positions) - vit.class_token
    side = math.isqrt(max(count, 0))
    if side == 0 or side * side != count:
        raise FaceDataError(f"weights {where}: its position embeddings are not those of a square grid")
    return side


def _read_file(path: str) -> dict[str, Tensor]:
    if Path(path).suffix != ".safetensors":
        return read_state_dict(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise FaceDataError(f"weights {path}: no such file", "missing")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise FaceDataError(f"weights {path}: not a readable safetensors file ({error})", "damaged") from None
