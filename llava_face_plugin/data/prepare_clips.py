"""CelebV-HQ's clips -> LLaVA video JSON for FaVChat's three stages: summaries, questions, harder questions."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ..errors import FaceDataError
from ..maps.shards import pyarrow
from ..registry import unknown_name
from ..video.decoders import open_clip
from ..video.folder import FrameFolder, frame_names
from .clip_facts import ClipFacts, read_facts
from .clip_quality import Quality
from .clip_questions import Item, K, hard_questions, questions
from .clip_summaries import summary
from .conversations import Sample, row_of
from .datasets import DATASETS, ReadOptions
from .datasets._clips import VIDEOS
from .datasets._places import annotation_files
from .datasets.celebvhq import FILE
from .files import Listing, existing_folder
from .losses import Losses
from .manifest import SPLITS, Manifest
from .manifest_file import save_manifest
from .prepare import count_knowledge, usable_folder
from .prepared import Prepared, attributes_of, note_removed, remove_outputs, write_json
from .rewriter import Identity, Rewriter, reworded

Stage = Literal["summary", "qa", "hard"]
STAGES: tuple[Stage, ...] = get_args(Stage)
DATASET = "celebvhq"


@dataclass(frozen=True)
class ClipOptions:
    """What is written. ``k``: questions a clip, on average. ``limit``: at most so many clips of a split, the first
    ones of a drawn order. ``check_videos``: decode every file once, and leave out those that are broken or small."""

    stage: Stage = "summary"
    k: int = K
    seed: int = 0
    limit: int | None = None
    check_videos: bool = False
    quality: Quality = field(default_factory=Quality)

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise FaceDataError(f"stage: {unknown_name('stage', self.stage, STAGES)}")
        if self.k < 1 or (self.limit is not None and self.limit < 1):
            raise FaceDataError(f"k and limit must be at least 1, got {self.k} and {self.limit}")


def prepare_clips(
    root: str | Path,
    out: str | Path,
    options: ClipOptions | None = None,
    read: ReadOptions | None = None,
    *,
    rewriter: Rewriter | None = None,
    knowledge: bool = True,
    rules: str | None = None,
    max_rate: float = 0.02,
) -> Prepared:
    """Write ``<stage>_train.json``, ``<stage>_val.json``, ``manifest.parquet`` and the knowledge file into ``out``.

    Clips of the user's own copy below ``root``: video files, or folders of frames, of the clips' names. A clip that is
    missing, filtered out or broken is counted in ``skipped`` and named in ``problems``. The splits are those of
    ``prepare celebvhq`` (a hash of the YouTube video): all clips of one video are in one split, and clips of test are
    in no JSON. Raises ``FaceDataError``; ``FaceHostError`` without pyarrow, or without PyAV and OpenCV where video
    files are to be checked.
    """
    options, read, rewriter, out = options or ClipOptions(), read or ReadOptions(), rewriter or Identity(), Path(out)
    pyarrow()
    info = DATASETS[DATASET]
    root = existing_folder(Path(root), info.title)
    manifest = info.read(root, replace(read, look_for_images=False))
    _find(manifest, root)
    prepared = Prepared(
        out, manifest.vocabulary, {}, image_folder=root, manifest=manifest, rules=DATASET,
        files={"manifest": out / "manifest.parquet"}, notes=list(manifest.notes), skipped=dict(manifest.skipped),
    )  # fmt: skip
    clips = _good_clips(prepared, manifest, root, read, options)
    rows = {split: list(_rows(clips[split], options, rewriter)) for split in ("train", "val")}
    if not rows["train"]:
        raise FaceDataError(
            f"{root}: nothing to write for stage {options.stage!r} ({_told(prepared.skipped)})", "empty"
        )
    usable_folder(out)
    # The other stages' files stay: the splits are the same whatever the stage.
    others = [f"{stage}_{split}.json" for stage in STAGES if stage != options.stage for split in ("train", "val")]
    earlier = remove_outputs(out, [*others, *(str(s["name"]) for s in manifest.sources)])
    manifest.notes.append(f"licence: {info.licence}")
    save_manifest(manifest, prepared.files["manifest"])
    for split, own in rows.items():
        _write(prepared, own, f"{options.stage}_{split}", asked=options.stage != "summary")
    prepared.notes.append(f"texts by templates, reworded by: {rewriter.name}")
    count_knowledge(prepared, manifest, knowledge, rules, max_rate)
    note_removed(prepared, earlier)
    return prepared


Clips = list[tuple[ClipFacts, str]]
"""Clips and their paths below the root."""


def _find(manifest: Manifest, root: Path) -> None:
    """Names the file or the folder of frames of each clip in ``manifest.images``, and sets ``present``."""
    listing, names = Listing(root), []
    present = np.zeros(len(manifest), dtype=bool)
    for row, usual in enumerate(manifest.images.tolist()):
        stem = usual.removesuffix(".mp4")
        found = next((stem + ending for ending in VIDEOS if stem + ending in listing), None)
        if found is None and stem in listing and os.path.isdir(root / stem) and frame_names(root / stem):
            found = stem
        present[row] = found is not None
        names.append(found or usual)
    manifest.images, manifest.present = np.array(names, dtype=np.str_), present


def _good_clips(
    prepared: Prepared, manifest: Manifest, root: Path, read: ReadOptions, options: ClipOptions
) -> dict[str, Clips]:
    """The clips of train and val that are there and pass the filters, in the order of the annotation file."""
    (path, *_) = annotation_files(root, read, (FILE,)).values()
    rows = zip(manifest.ids.tolist(), manifest.attributes, strict=True)
    facts = read_facts(path, {clip: attributes_of(values, manifest.vocabulary) for clip, values in rows})
    assert manifest.present is not None
    losses, found = Losses(Counter(), []), {name: Clips() for name in SPLITS}
    for row, clip in enumerate(facts.values()):
        split, name = SPLITS[int(manifest.split[row])], str(manifest.images[row])
        fault = options.quality.fault(clip)
        if not manifest.present[row]:
            losses.add(f"no video file ({split})", f"{path}, clip {clip.id}: no {name}, nor a folder of its frames")
        elif fault is not None:
            losses.add(fault, f"{path}, clip {clip.id}: {fault}")
        elif split != "test":
            found[split].append((clip, name))
    for split in ("train", "val"):
        found[split] = _checked(_limited(found[split], options), root, options, losses)
    for reason, n in losses.skipped.items():
        prepared.skip(reason, n)
    manifest.skipped.update(losses.skipped)
    manifest.problems += losses.problems
    if not manifest.present.any():
        raise FaceDataError(f"{root}: none of the {len(manifest):,} clips is here ({losses.problems[0]})", "missing")
    return found


def _limited(clips: Clips, options: ClipOptions) -> Clips:
    if options.limit is None or len(clips) <= options.limit:
        return clips
    rng = np.random.default_rng([options.seed, 9])
    return [clips[i] for i in np.sort(rng.choice(len(clips), options.limit, replace=False)).tolist()]


def _checked(clips: Clips, root: Path, options: ClipOptions, losses: Losses) -> Clips:
    """Without the clips whose files are broken or too small, if files are to be opened at all."""
    if not options.check_videos:
        return clips
    good: Clips = []
    for clip, name in clips:
        try:
            opened = FrameFolder(root / name) if (root / name).is_dir() else open_clip(root / name)
            fault = options.quality.size_fault(opened.size)
            opened.times()
        except FaceDataError as error:
            losses.add(f"video {error.reason}", str(error))
            continue
        if fault is None:
            good.append((clip, name))
        else:
            losses.add(fault, f"video {root / name}: {fault} ({opened.size[0]}x{opened.size[1]})")
    return good


def _write(prepared: Prepared, rows: list[dict[str, Any]], name: str, asked: bool) -> None:
    """Writes and counts the rows of a split; ``asked``: they are questions, of the kinds that their ids end with."""
    prepared.rows[name] = len(rows)
    if not rows:
        return
    write_json(prepared, rows, name)
    prepared.rows[f"{name} clips"] = len({row["video"] for row in rows})
    if asked:
        kinds: Counter[str] = Counter()
        for row in rows:
            kinds[row["id"].rpartition(":")[2].rstrip("0123456789")] += len(row["conversations"]) // 2
        prepared.rows[f"{name} questions"] = kinds.total()
        prepared.rows |= {f"{name} questions ({kind})": n for kind, n in kinds.most_common()}


def _rows(clips: Clips, options: ClipOptions, rewriter: Rewriter) -> Iterator[dict[str, Any]]:
    samples = {clip.id: Sample(clip.id, name, clip.attributes, video=True) for clip, name in clips}
    facts = {clip.id: clip for clip, _ in clips}
    if options.stage == "summary":
        for clip, sample in zip(facts.values(), samples.values(), strict=True):
            prompt, text = summary(clip, options.seed)
            text = reworded("summary", text, rewriter.summary(text, clip), clip)
            yield row_of(sample, [(prompt, text)])
        return
    items = questions(list(facts.values()), options.k, options.seed)
    if options.stage == "hard":
        items = hard_questions(items, list(facts.values()), options.seed)
    for suffix, together in _conversations(items):
        clip = facts[together[0].clip]
        turns = [(_reworded(item, clip, rewriter), item.answer) for item in together]
        yield row_of(samples[clip.id], turns, suffix)


def _conversations(items: Sequence[Item]) -> Iterator[tuple[str, list[Item]]]:
    """(suffix of the id, items): the closed questions about a clip together, any other in a conversation of its own.

    So no answer is given away by an earlier turn: a choice would say what a closed question asks.
    """
    number: Counter[str] = Counter()
    together: dict[str, list[Item]] = {}
    for item in items:
        if item.kind == "closed":
            together.setdefault(item.clip, []).append(item)
    for item in items:
        if item.kind == "closed":
            if item.clip in together:
                yield ":closed", together.pop(item.clip)
            continue
        number[item.clip] += 1
        yield f":{item.kind}{number[item.clip]}", [item]


def _reworded(item: Item, clip: ClipFacts, rewriter: Rewriter) -> str:
    after = rewriter.question(item.question, clip)
    return reworded("question", item.question, after, clip, item.options)


def _told(skipped: dict[str, int]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in skipped.items()) or "no clip"
