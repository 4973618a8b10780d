"""What a conversion will write, decided and checked before it writes anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import FaceConfigError
from ..fusion import FUSIONS
from .folder import ModelFolder
from .names import name_of, part_of
from .shards import Piece
from .tower import CLIP, Tower


@dataclass
class Plan:
    """Everything of the new directory.

    Args:
        family: the new ``model_type``, without marks of face mode.
        config: the new ``config.json``, without the ``face`` block.
        pieces: the weights.
        tower: weights of a tower that gets a directory of its own inside.
        write_files: writes tokenizer, processor and the like into the directory.
        notes: what a user should know.
    """

    family: str
    config: dict[str, Any]
    pieces: list[Piece]
    write_files: Callable[[Path], None]
    tower: list[Piece] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def refuse(where: Path, why: str) -> FaceConfigError:
    """The error for what the other host has no form of."""
    return FaceConfigError(f"{where}: cannot be converted: {why}")


def check_face(folder: ModelFolder, tiles: bool, tower: Tower) -> None:
    """Raises ``FaceConfigError`` for a ``face`` block whose model cannot be the same on the other host."""
    face = folder.face
    if face is None:
        return
    if tiles and FUSIONS[face.fusion.type].adds_tokens:  # type: ignore[attr-defined]
        raise refuse(folder.path, f"fusion {face.fusion.type!r} adds tokens, and tiles are laid out by their number")
    pixels = face.facial is not None
    shared = face.segmentation.encoder == "vit-palette" and face.segmentation.vision_tower is None
    expected = 0.48145466 if tower.kind == CLIP else 0.5
    mean = (tower.processor.get("image_mean") or [expected])[0]
    if (shared or pixels) and abs(mean - expected) > 1e-4:
        part = "the facial encoder is given pixels by" if pixels else "vit-palette paints for"
        raise refuse(folder.path, f"{part} the usual image_mean of its tower, here it is {mean}")


def model_pieces(folder: ModelFolder, other: Any, rows: int, *, newline: bool, tied: bool) -> list[Piece]:
    """Language model, projector, branch and newline under the other host's names; the tower is not among them.

    Raises ``FaceConfigError`` for tensors that have no place there, or that are missing.
    """
    pieces: dict[str, Piece] = {}
    kinds: set[str] = set()
    for held in folder.weights:
        part = part_of(held, folder.host)
        if part is None or part.kind == "tower":
            continue
        if (part.kind == "head" and tied) or (part.kind == "newline" and not newline):
            continue
        kinds.add(part.kind)
        resized = part.kind == "head" or part.name == "embed_tokens.weight"
        name = name_of(part, other)
        pieces[name] = Piece(name, folder.weights, held, rows if resized else None)
    wanted = {"llm", "projector"} | ({"newline"} if newline else set()) | (set() if tied else {"head"})
    if wanted - kinds:
        raise refuse(folder.path, f"its files hold no {', '.join(sorted(wanted - kinds))}")
    return list(pieces.values())


def tower_pieces(tower: Tower, prefix: str) -> list[Piece]:
    """The tower's tensors under ``prefix``."""
    return [Piece(prefix + part.name, tower.weights, held) for part, held in tower.held.items()]


def turned(pinpoints: Any) -> list[list[int]]:
    """Grid sizes as the other host writes them: LLaVA (width, height), transformers (height, width)."""
    return [[int(b), int(a)] for a, b in pinpoints]


def padded(count: int) -> int:
    """The next multiple of 64, to which transformers' scripts pad a vocabulary."""
    return -(-count // 64) * 64
