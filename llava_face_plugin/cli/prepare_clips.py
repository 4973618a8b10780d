"""``llava-face prepare`` for clips: ``made-video``, and ``celebvhq --stage``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..data.prepared import Prepared, Progress

MADE_VIDEO = "made-video"
CLIP_SETS = ("celebvhq",)
"""Data sets that take ``--stage``."""

SPELLINGS = {"celebv-hq": "celebvhq"}
"""Official spellings of data sets -> their names here."""


def check_clip_options(dataset: str, stage: str | None, root: Path | None, only_clips: dict[str, Any]) -> None:
    """Raises ``FaceConfigError`` for options that do not fit together; ``only_clips``: those without a default value
    that the user gave."""
    from ..errors import FaceConfigError

    if stage is not None and dataset not in CLIP_SETS:
        raise FaceConfigError(f"prepare {dataset}: --stage is an option of {', '.join(CLIP_SETS)} only")
    if stage is not None and root is None:
        raise FaceConfigError(f"prepare {dataset} --stage needs --root, the folder of your copy")
    wrong = [option for option, given in only_clips.items() if given]
    if wrong and stage is None:
        raise FaceConfigError(f"prepare {dataset}: {wrong[0]} is for clips: give --stage too")


def made_video(
    out: Path, train: int, val: int, size: tuple[int, int], frames: int, rate: float, k: int, seed: int, mp4: bool,
    knowledge: bool, rules: str | None, max_rate: float, *, progress: Progress,
) -> Prepared:  # fmt: skip
    """Drawn clips, their knowledge file, and their manifest."""
    from ..data.made_video import make_clips, manifest_of
    from ..data.manifest_file import save_manifest
    from ..data.prepared import write_knowledge
    from ..errors import FaceHostError

    prepared = make_clips(out, train, val, seed, size, frames=frames, rate=rate, k=k, mp4=mp4, progress=progress)
    if knowledge:
        write_knowledge(prepared, MADE_VIDEO, rules=rules, max_rate=max_rate)
    try:
        prepared.manifest = manifest_of(prepared)
        save_manifest(prepared.manifest, out / "manifest.parquet")
        prepared.files["manifest"] = out / "manifest.parquet"
    except FaceHostError as error:  # as of made faces: only evaluation asks for it, and it needs pyarrow
        prepared.notes.append(f"no manifest: {error}")
    return prepared


def staged(
    root: Path, out: Path, stage: str, read: dict[str, Any], k: int | None, seed: int, limit: int | None,
    check_videos: bool, seconds: tuple[float, float], knowledge: bool, rules: str | None, max_rate: float,
    *, progress: Progress,
) -> Prepared:  # fmt: skip
    """One stage of FaVChat's data."""
    from ..data.clip_quality import Quality
    from ..data.clip_questions import K
    from ..data.datasets import ReadOptions
    from ..data.prepare_clips import ClipOptions, prepare_clips

    quality = Quality(min_seconds=seconds[0], max_seconds=seconds[1])
    options = ClipOptions(stage, k or K, seed, limit, check_videos, quality)  # type: ignore[arg-type]
    given = ReadOptions(**read, progress=progress)
    return prepare_clips(root, out, options, given, knowledge=knowledge, rules=rules, max_rate=max_rate)
