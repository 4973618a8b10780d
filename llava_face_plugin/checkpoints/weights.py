"""The tensors of a model directory by name, whatever files they lie in. Read one at a time."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import FaceDataError

WHOLE = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Files of a whole model, in the order in which transformers looks for them."""

PARTS = ("adapter_model.safetensors", "adapter_model.bin", "non_lora_trainables.bin", "mm_projector.bin")
"""Files of a training that saved a part: PEFT's adapters, LLaVA's LoRA and first stage."""

_UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError)
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies, and what it is."""

    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class Weights(Mapping[str, Entry]):
    """Name -> ``Entry``; ``read`` gives the tensor. One .bin file at a time is kept open (mapped, not read)."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = dict(entries)
        self._open: tuple[Path, dict[str, Tensor]] | None = None

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def files(self) -> list[Path]:
        """The files, each once, in the order of their names."""
        return sorted({entry.file for entry in self._entries.values()})

    def read(self, name: str) -> Tensor:
        """The tensor, on the CPU, in the dtype of its file. Raises ``FaceDataError`` for a damaged file."""
        file = self._entries[name].file
        try:
            if file.suffix == ".safetensors":
                with safe_open(str(file), framework="pt") as stream:
                    return stream.get_tensor(name)
            if self._open is None or self._open[0] != file:
                self._open = (file, _load_bin(file))
            return self._open[1][name]
        except _UNREADABLE as error:
            raise FaceDataError(f"{file}: {name} cannot be read: {error}", "damaged") from error


def whole_model(directory: Path) -> Weights | None:
    """The weights of a whole model as transformers would load them; None where the directory holds none.

    Raises ``FaceDataError`` for a file that cannot be read, an index whose files are not there, and shards without an
    index.
    """
    for name in WHOLE:
        path = directory / name
        if path.exists():
            return Weights(_indexed(path) if path.suffix == ".json" else _tensors_of(path))
    stray = [p for pattern in ("model-*.safetensors", "pytorch_model-*.bin") for p in directory.glob(pattern)]
    if stray:
        raise FaceDataError(f"{directory}: has {len(stray)} shards such as {stray[0].name}, but no index of them")
    return None


def parts(directory: Path) -> Weights | None:
    """The weights of an adapter directory: all of ``PARTS`` that are there; or None. Raises as ``whole_model``."""
    found: dict[str, Entry] = {}
    for name in PARTS:
        if (directory / name).exists():
            found.update(_tensors_of(directory / name))
    return Weights(found) if found else None


def _indexed(index: Path) -> dict[str, Entry]:
    try:
        named = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise FaceDataError(f"{index}: no index of weights: {error}", "damaged") from error
    entries: dict[str, Entry] = {}
    for file in sorted(set(named.values())):
        if not (index.parent / file).exists():
            raise FaceDataError(f"{index}: names {file}, which is not there", "missing")
        inside = _tensors_of(index.parent / file)
        entries |= {name: entry for name, entry in inside.items() if named.get(name) == file}
    absent = sorted(named.keys() - entries.keys())
    if absent:
        raise FaceDataError(f"{index}: {len(absent)} tensors are not in their files: {absent[0]}, ...", "damaged")
    return entries


def _tensors_of(file: Path) -> dict[str, Entry]:
    try:
        if file.suffix != ".safetensors":
            return {name: Entry(file, tuple(t.shape), t.dtype) for name, t in _load_bin(file).items()}
        with safe_open(str(file), framework="pt") as stream:
            slices = {name: stream.get_slice(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
            return {n: Entry(file, tuple(s.get_shape()), _DTYPES[s.get_dtype()]) for n, s in slices.items()}
    except _UNREADABLE as error:
        raise FaceDataError(f"{file}: cannot be read: {error}", "damaged") from error


def _load_bin(file: Path) -> dict[str, Tensor]:
    """A torch file without running what it may hold; mapped into memory where its format allows that."""
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):  # files older than torch 1.6 cannot be mapped
            raise
        content = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError("not a mapping of names to tensors")
    return dict(content)


def total_bytes(entries: Iterable[Entry]) -> int:
    """Size of all of them in bytes."""
    return sum(entry.nbytes for entry in entries)
