"""Writing weights: pieces of other files under new names, shard by shard, going on where an earlier try stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..maps.files import atomic_path
from .weights import Entry, Weights, total_bytes

SHARD_BYTES = 2 * 1024**3
"""Largest file that a conversion writes, and so about what it holds in memory (our default)."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Piece:
    """One tensor of the new files.

    Args:
        name: in the new files.
        weights, held: where it is read, and its name there.
        rows: of an embedding: its new number of rows. Rows too many are cut off; new ones are the mean of the old, so
            that no answer can prefer them.
    """

    name: str
    weights: Weights
    held: str
    rows: int | None = None

    def entry(self) -> Entry:
        """Its place in the old files, with the new shape."""
        old = self.weights[self.held]
        return Entry(old.file, old.shape if self.rows is None else (self.rows, *old.shape[1:]), old.dtype)

    def read(self) -> Tensor:
        """The tensor as it will be written."""
        tensor = self.weights.read(self.held)
        if self.rows is None or self.rows == len(tensor):
            return tensor
        if self.rows < len(tensor):
            return tensor[: self.rows].clone()
        mean = tensor.float().mean(dim=0, keepdim=True).to(tensor.dtype)
        return torch.cat([tensor, mean.expand(self.rows - len(tensor), -1)])


def write_pieces(folder: Path, pieces: Sequence[Piece], progress: Progress | None = None) -> int:
    """Writes ``model.safetensors``, or numbered shards and their index. Returns the number of files.

    Files that are there already are kept: each was written in one step.
    """
    groups = _grouped(pieces)
    names = _shard_names(len(groups))
    for done, (name, group) in enumerate(zip(names, groups, strict=True)):
        if progress is not None:
            progress(done, len(groups))
        if not (folder / name).exists():
            with atomic_path(folder / name) as temporary:
                write_safetensors(temporary, {piece.name: piece.read() for piece in group})
    if len(groups) > 1:
        weight_map = {piece.name: name for name, group in zip(names, groups, strict=True) for piece in group}
        write_index(folder / "model.safetensors.index.json", weight_map, [piece.entry() for piece in pieces])
    return len(groups)


def _grouped(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """In the order of the old files, so that each is read through once."""
    groups: list[list[Piece]] = [[]]
    size = 0
    for piece in sorted(pieces, key=lambda p: (str(p.weights[p.held].file), p.name)):
        bytes_ = piece.entry().nbytes
        if groups[-1] and size + bytes_ > SHARD_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(piece)
        size += bytes_
    return groups


def _shard_names(count: int) -> list[str]:
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]


def write_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes tensors as transformers expects them."""
    save_file({name: t.contiguous() for name, t in tensors.items()}, path, metadata={"format": "pt"})


def write_shard(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes tensors in the format that the file's name says."""
    if path.suffix == ".safetensors":
        write_safetensors(path, tensors)
    else:
        torch.save({name: t.clone() for name, t in tensors.items()}, path)  # clone: not the file it is mapped from


def write_index(path: Path, weight_map: dict[str, str], entries: Iterable[Entry]) -> None:
    """transformers' index of shards."""
    content = {"metadata": {"total_size": total_bytes(entries)}, "weight_map": dict(sorted(weight_map.items()))}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
