"""Of what the clips in a folder were made: a clip of the same name elsewhere must not be taken for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import FaceConfigError, FaceDataError
from ..maps.files import atomic_path
from .folder import frame_names

FOLDER = "sources"
"""Beside the frames, not among them: LLaVA-NeXT's train.py takes every file in a clip's folder for a frame."""


def source_of(clip: Path) -> dict[str, Any]:
    """Where ``clip`` lies, how many files and bytes it has, and the ns of its last change; of one that cannot be read
    where it lies."""
    found: dict[str, Any] = {"clip": str(clip.resolve())}
    try:
        files = [clip / name for name in frame_names(clip)] if clip.is_dir() else [clip]
        stats = [path.stat() for path in files]
    except (OSError, FaceDataError):  # whoever reads it says what is wrong; what was made of it before is still good
        return found
    changed = max((one.st_mtime_ns for one in stats), default=0)
    return found | {"files": len(stats), "bytes": sum(one.st_size for one in stats), "changed_ns": changed}


def write_source(out: Path, stem: str, clip: Path) -> None:
    """Notes of what ``stem`` is about to be made."""
    with atomic_path(_record(out, stem)) as temporary:
        temporary.write_text(json.dumps(source_of(clip), indent=1) + "\n", encoding="utf-8")


def check_sources(out: Path, clips: Mapping[str, Path]) -> None:
    """Raises ``FaceConfigError``, naming the first and counting the others, if one of ``clips`` (stem -> clip), which
    are there already, was made of another clip, or of one that has changed since."""
    told = [said for stem, clip in clips.items() if (said := _difference(_record(out, stem), clip)) is not None]
    if told:
        others = f" (and {len(told) - 1:,} more)" if len(told) > 1 else ""
        raise FaceConfigError(f"{out}: {told[0]}{others}: choose another folder, or remove what is there")


def _difference(record: Path, clip: Path) -> str | None:
    try:
        noted = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"of what the frames of {clip} there were made is not noted ({record})"
    now = source_of(clip)
    if noted.get("clip") != now["clip"]:
        return f"the frames there were made of {noted.get('clip')}, not of {now['clip']}"
    differ = [f"{what} {noted.get(what)} then, {now[what]} now" for what in now if noted.get(what) != now[what]]
    return f"{clip} has changed since its frames were made ({', '.join(differ)})" if differ else None


def _record(out: Path, stem: str) -> Path:
    return out / FOLDER / f"{stem}.json"
