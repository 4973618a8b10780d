"""``llava-face convert``: a LLaVA checkpoint, with or without face mode, rewritten for another host.

Weights go over tensor by tensor, in the dtype they have; no model is built. Started again after a stop, it goes on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__, guard
from ..config import KEY
from ..errors import FaceConfigError
from ..model_files import mark_processor, write_config
from ..registry import unknown_name
from .facial import absence
from .folder import ModelFolder
from .place import become, check_free
from .plan import Plan
from .shards import Progress, write_pieces
from .to_llava import TOWER, to_llava
from .to_transformers import to_transformers

TARGETS = ("hf", "llava", "llava-next")
_JOB = "conversion.json"


@dataclass
class Converted:
    """What was written. ``family``: the new model type, without marks; ``face``: whether face mode is on."""

    family: str
    face: bool
    tensors: int
    shards: int
    notes: list[str] = field(default_factory=list)


def convert(
    source: str | Path,
    out: str | Path,
    to: str,
    *,
    vision_tower: str | None = None,
    progress: Progress | None = None,
) -> Converted:
    """Writes ``out``: the model of ``source`` for the classes of another host, with equal logits.

    Args:
        source: a whole checkpoint: of LLaVA 1.5's or LLaVA-NeXT's package (``to`` "hf"), or of transformers' Llava,
            LlavaNext or LlavaOnevision (``to`` "llava" or "llava-next").
        vision_tower: to "hf": the tower's directory, where the configuration's own name is not here. Else: a name for
            the configuration; the tower's weights then go into the checkpoint.
        progress: is called with the number of files done, and of all.

    Raises ``FaceConfigError`` naming what the other host has no form of, before anything is written, and
    ``FaceDataError`` for files that cannot be read. ``out`` appears at the end; until then the work lies beside it in
    ``.NAME.converting``, where the same call takes it up again.
    """
    source, out = Path(source), Path(out)
    if to not in TARGETS:
        raise FaceConfigError(unknown_name("target", to, TARGETS))
    check_free(out)
    folder = ModelFolder.open(source)
    if not folder.whole:
        raise FaceConfigError(f"{source}: a part of a model (LoRA, PEFT or a projector): merge it first")
    plan = _plan(folder, to, out, vision_tower)
    work = _workplace(out, _job(folder, plan, to, vision_tower))
    shards = write_pieces(work, plan.pieces, progress)
    if plan.tower:
        (work / TOWER).mkdir(exist_ok=True)
        write_pieces(work / TOWER, plan.tower)
    plan.write_files(work)
    _write_config(folder, plan, work)
    (work / _JOB).unlink()
    become(work, out)
    notes = [*plan.notes, *([note] if (note := absence(folder.face)) is not None else [])]
    return Converted(plan.family, folder.face is not None, len(plan.pieces) + len(plan.tower), shards, notes)


def _plan(folder: ModelFolder, to: str, out: Path, vision_tower: str | None) -> Plan:
    if folder.host == ("transformers" if to == "hf" else "llava"):
        raise FaceConfigError(f"{folder.path}: is a checkpoint of {folder.host} already; --to is for the other one")
    return to_transformers(folder, vision_tower) if to == "hf" else to_llava(folder, to, out, vision_tower)


def _write_config(folder: ModelFolder, plan: Plan, work: Path) -> None:
    config: dict[str, Any] = dict(plan.config)
    face = folder.face
    if face is not None:
        config[KEY] = face.to_dict()
        guard.put_on(config)
    write_config(work, config)
    if face is not None and guard.transformers_family(config):
        mark_processor(work, on=True)


def _job(folder: ModelFolder, plan: Plan, to: str, vision_tower: str | None) -> dict[str, Any]:
    """What makes two calls the same one."""
    pieces = [*plan.pieces, *plan.tower]
    files = sorted({piece.weights[piece.held].file for piece in pieces})
    listed = "\n".join(f"{piece.name} {piece.held} {piece.rows}" for piece in pieces)
    return {
        "created_by": f"llava-face-plugin {__version__}",
        "to": to,
        "vision_tower": vision_tower,
        "files": {str(file.resolve()): [file.stat().st_size, file.stat().st_mtime_ns] for file in files},
        "pieces": hashlib.sha256(listed.encode()).hexdigest(),
    }


def _workplace(out: Path, job: dict[str, Any]) -> Path:
    """The directory to work in: an earlier call's if that was the same one, else an empty one."""
    work = out.parent / f".{out.name}.converting"
    if work.exists():
        record = work / _JOB
        if not record.exists() and any(work.iterdir()):
            raise FaceConfigError(f"{work} is in the way, and no unfinished conversion: remove it")
        if not record.exists() or json.loads(record.read_text(encoding="utf-8")) != job:
            shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    write_config(work, job, _JOB)
    return work
