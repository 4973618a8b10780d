"""The compact parser: a residual U-Net of about 2 M parameters, and the safetensors file it lives in.

The file holds float32 weights and one JSON header under the metadata key ``face_parser``: format, architecture,
input size, vocabulary, and how it was trained. ``scripts/train_parser.py`` writes such files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import FaceDataError
from ...labels import NUM_PARTS
from ...maps.files import atomic_path
from ...maps.vocabularies import TO_CANONICAL

_KEY = "face_parser"
_Width = Annotated[int, Field(ge=8, le=512)]
_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)


class CompactSettings(BaseModel):
    """The architecture (our default: 2.0 M parameters, 1.6 G multiply-adds at 256 pixels)."""

    model_config = _STRICT

    stem: _Width = 24
    """Channels at stride 2."""
    widths: Annotated[list[_Width], Field(min_length=2, max_length=5)] = [48, 80, 128, 160]
    """Channels of the encoder's stages, from stride 4 on, each of half its predecessor's resolution."""
    blocks: Annotated[list[Annotated[int, Field(ge=1, le=8)]], Field(min_length=2, max_length=5)] = [2, 2, 2, 1]
    """Residual blocks of each stage."""
    decoder: _Width = 64
    """Channels of the decoder down to stride 4; half of them at stride 2."""

    @model_validator(mode="after")
    def _one_count_a_stage(self) -> CompactSettings:
        if len(self.blocks) != len(self.widths):
            raise ValueError(f"{len(self.widths)} widths but {len(self.blocks)} block counts")
        return self


class CompactHeader(BaseModel):
    """What the file says about its weights."""

    model_config = _STRICT

    format: Literal[1] = 1
    settings: CompactSettings
    size: Annotated[int, Field(ge=32, le=1024)]
    """Side of the network's input in pixels: the one it was trained at."""
    vocabulary: Literal["celebamask-hq"] = "celebamask-hq"
    training: dict[str, Any]
    """How it was trained: data, seed, epochs, scores; for people to read."""


class CompactNet(nn.Module):
    """Encoder of plain residual blocks, decoder that adds upsampled to lateral features, logits at stride 2.

    Plain 3x3 convolutions on purpose: depthwise ones have fewer multiply-adds, but a CPU runs those at a tenth of the
    rate or less (measured forward and backward on one Xeon core: 7 against 100 GFLOP/s, in bfloat16 7 against 400).
    """

    def __init__(self, settings: CompactSettings | None = None) -> None:
        super().__init__()
        s = self.settings = settings or CompactSettings()
        self.stem = _conv(3, s.stem, stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(_conv(before, width, stride=2), *(_Residual(width) for _ in range(count)))
            for before, width, count in zip([s.stem, *s.widths], s.widths, s.blocks, strict=False)
        )
        self.context = nn.Conv2d(s.widths[-1], s.decoder, 1)
        self.laterals = nn.ModuleList(_conv(width, s.decoder, kernel=1) for width in s.widths)
        self.merges = nn.ModuleList(_Residual(s.decoder) for _ in s.widths)
        self.detail = _conv(s.stem, s.decoder // 2, kernel=1)
        self.narrow = _conv(s.decoder, s.decoder // 2, kernel=1)
        self.last = _Residual(s.decoder // 2)
        self.classify = nn.Conv2d(s.decoder // 2, NUM_PARTS, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, S, S) float RGB in [0, 1] -> (n, 19, S, S) logits of the canonical parts."""
        return _resized(self.coarse(images), images)

    def coarse(self, images: Tensor) -> Tensor:
        """The same logits as they are before the last resizing: (n, 19, S/2, S/2), S/2 rounded up."""
        fine = self.stem((images - 0.5) * 4.0)
        x, features = fine, []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        # The picture's mean feature tells every place what kind of picture it is in (glasses, hat, pose).
        top = self.context(x.mean(dim=(2, 3), keepdim=True))
        for i in range(len(features) - 1, -1, -1):
            side = self.laterals[i](features[i])
            top = self.merges[i](side + (top if i == len(features) - 1 else _resized(top, side)))
        out = self.last(self.detail(fine) + _resized(self.narrow(top), fine))
        logits: Tensor = self.classify(out)
        return logits


class CompactNetwork:
    """A ``CompactNet`` read from a file: the ``networks.base.Network`` of parser type ``compact``."""

    def __init__(self, net: CompactNet, header: CompactHeader, digest: str, device: str | torch.device) -> None:
        self.net = net.eval().requires_grad_(False).to(device)
        self.header = header
        self.size = header.size
        self.to_canonical = TO_CANONICAL[header.vocabulary]
        self.digest = digest

    @torch.inference_mode()
    def __call__(self, crops: Tensor) -> Tensor:
        """(n, 3, size, size) float32 RGB in [0, 1] on its device -> (n, 19, size, size) float32 logits."""
        logits: Tensor = self.net(crops)
        return logits


def save_compact(path: str | Path, net: CompactNet, *, size: int, training: Mapping[str, Any]) -> str:
    """Write the weights (float32, CPU) with their header; the file appears whole or not at all.

    ``size`` is the side of the input in pixels, ``training`` JSON of how it was trained. Returns the file's sha256.
    """
    header = CompactHeader(settings=net.settings, size=size, training=dict(training))
    weights = {name: _plain(value) for name, value in net.state_dict().items()}
    data = save(weights, {_KEY: header.model_dump_json()})
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def load_compact(path: str | Path, device: str | torch.device = "cpu", sha256: str | None = None) -> CompactNetwork:
    """Read what ``save_compact`` wrote.

    Raises ``FaceDataError``, naming the file, if it is missing, damaged, of another kind, if its sha256 is not the
    given one, or if its weights are not finite or do not fit its own settings.
    """
    where = f"compact parser {path}"
    if not Path(path).is_file():
        raise FaceDataError(f"{where}: no such file", "missing")
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    if sha256 is not None and digest != sha256:
        raise FaceDataError(f"{where}: its sha256 is {digest}, expected {sha256}: another file, or a damaged one")
    try:
        with safe_open(str(path), framework="pt") as stream:
            text = (stream.metadata() or {}).get(_KEY)
            weights = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise FaceDataError(f"{where}: not a safetensors file, or cut off: {error}", "format") from error
    if text is None:
        raise FaceDataError(f"{where}: not a compact parser (no {_KEY!r} in its metadata; scripts/train_parser.py)")
    header = _header(text, where)
    net = CompactNet(header.settings)
    try:
        net.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()  # the first line names only the class
        raise FaceDataError(f"{where}: its weights do not fit its settings: {first[:300]}") from error
    if not all(bool(value.isfinite().all()) for value in weights.values()):
        raise FaceDataError(f"{where}: has weights that are not finite", "damaged")
    return CompactNetwork(net, header, digest, device)


def _header(text: str, where: str) -> CompactHeader:
    try:
        return CompactHeader.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "header"
        raise FaceDataError(f"{where}: its header is not valid: {place}: {first['msg']}") from error


def _plain(value: Tensor) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.float() if value.is_floating_point() else value


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


def _conv(before: int, width: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, width, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
