"""The user's copy of a data set -> manifest, conversations, questions and the knowledge file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FaceDataError
from ..rulebook import load_rules
from .conversations import Plan, Sample, rarity
from .datasets import DATASETS, DatasetInfo, ReadOptions
from .files import existing_folder
from .label_table import label_prompts, label_table, own_rules
from .manifest import SPLITS, Manifest
from .manifest_file import pyarrow
from .prepared import (
    Prepared,
    attributes_of,
    write_choices,
    write_conversations,
    write_index,
    write_json,
    write_knowledge,
    write_questions,
)
from .splits import SplitOptions, choose

NO_IMAGES = "no image was looked for, so there are no conversations: they need --root with the images"


def prepare(
    dataset: str,
    root: str | Path | None,
    out: str | Path,
    read: ReadOptions | None = None,
    splits: SplitOptions | None = None,
    *,
    knowledge: bool = True,
    rules: str | None = None,
) -> Prepared:
    """Write ``manifest.parquet``, ``<split>.json``, questions and ``<dataset>.knowledge.safetensors`` into ``out``.

    Without ``root``, or with ``read.look_for_images`` False, only the manifest and the knowledge file are written
    (for a data set that has conversations of its own, also all of these).
    Only rows whose image exists become samples; the others are counted in ``skipped``. Knowledge is counted from
    all train rows of the annotation, with or without an image; where the data set has no val and test rows, from
    those that are not held out. ``rules``: a built-in name or a YAML file instead of the data set's own.
    Raises ``FaceDataError``, ``FaceConfigError`` for an unknown data set, ``FaceHostError`` without pyarrow.
    """
    info, read, splits, out = DATASETS[dataset], read or ReadOptions(), splits or SplitOptions(), Path(out)
    # What would fail at the end is tried before the work.
    pyarrow()
    if knowledge and rules:
        load_rules(rules)
    if root is None:
        read = replace(read, look_for_images=False)
    folder = existing_folder(Path(root or "."), info.title)
    looked = read.look_for_images
    manifest = info.read(folder, replace(read, derived=out / "maps") if looked else read)
    prepared = _prepared(manifest, info, out, folder)
    manifest.notes.append(f"licence: {info.licence}")
    _make_folder(out)
    manifest.save(prepared.files["manifest"])
    learned = manifest.split == 0
    if info.rows is not None:
        _, val = _pass_through(prepared, manifest, info.rows(folder, read), splits)
        _without_held_out(prepared, manifest, learned, val, knowledge)
    elif not looked:
        prepared.notes.append(NO_IMAGES)
    else:
        train, val = _write(prepared, manifest, splits, also=knowledge)
        if splits.split == "train":
            _without_held_out(prepared, manifest, learned, val, knowledge)
        if manifest.maps is not None:
            used = map(Samples(manifest), np.union1d(train, val).tolist())
            _write_maps(prepared, manifest, list(used), read)
    _knowledge(prepared, manifest, learned, knowledge, rules)
    return prepared


class Samples:
    """Row number -> sample. ``also``: closed-set labels go into ``face_attributes`` too, as ``Manifest.one_hot``."""

    def __init__(self, manifest: Manifest, also: bool = False) -> None:
        self.manifest = manifest
        names, values = manifest.one_hot()
        self.names, self.one_hot = names, values if also else None

    def __call__(self, row: int) -> Sample:
        m = self.manifest
        labels = {c: values[m.labels[c][row]] for c, values in m.classes.items() if m.labels[c][row] >= 0}
        return Sample(
            id=str(m.ids[row]), image=str(m.images[row]), attributes=attributes_of(m.attributes[row], m.vocabulary),
            face_map=(str(m.maps[row]) or None) if m.maps is not None else None, labels=labels,
            age=None if m.age is None or np.isnan(m.age[row]) else float(m.age[row]),
            also=attributes_of(self.one_hot[row], self.names) if self.one_hot is not None else {},
        )  # fmt: skip


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FaceDataError(f"{out}: no folder to write into ({error})") from error
    if not os.access(out, os.W_OK):
        raise FaceDataError(f"{out}: not writable")


def _prepared(manifest: Manifest, info: DatasetInfo, out: Path, root: Path) -> Prepared:
    prepared = Prepared(
        out, vocabulary=manifest.vocabulary, labels={}, image_folder=root, manifest=manifest,
        rules=info.rules or info.name, notes=list(manifest.notes), skipped=dict(manifest.skipped),
        files={"manifest": out / "manifest.parquet"},
    )  # fmt: skip
    if manifest.present is not None:
        for number, name in enumerate(SPLITS):
            prepared.skip(f"no image file ({name})", int(((manifest.split == number) & ~manifest.present).sum()))
    return prepared


def _write(prepared: Prepared, manifest: Manifest, options: SplitOptions, also: bool) -> tuple[np.ndarray, np.ndarray]:
    """Conversations and questions; returns the rows used for each."""
    styles = _styles(prepared, manifest, options.styles)
    train, val = choose(prepared, manifest, options)
    sample_at = Samples(manifest, also)
    weights = rarity(manifest.vocabulary, manifest.attributes[train]) if options.balance else None
    if options.balance and not manifest.vocabulary:
        prepared.notes.append("balance: there are no attributes, so there is nothing to balance")
    plan = Plan(styles, options.k, options.seed, manifest.classes, weights)
    write_conversations(
        prepared, _each(sample_at, train), plan, split=options.split, text_only=options.text_only
    )  # fmt: skip
    asked = "val" if options.split == "train" else options.split
    if len(val):
        prepared.rows[f"{asked} images"] = len(val)
        if manifest.vocabulary:
            write_questions(prepared, _each(sample_at, val), split=asked, k=options.val_k, seed=options.seed)
        if manifest.classes:
            write_choices(prepared, _each(sample_at, val), manifest.classes, split=asked, seed=options.seed)
    return train, val


def _styles(prepared: Prepared, manifest: Manifest, wanted: Sequence[str]) -> tuple[str, ...]:
    """The styles that the data set has something for; those asked for in vain are noted."""
    Plan(styles=tuple(wanted) or ("closed",))  # refuses unknown names
    fits = {
        "closed": bool(manifest.vocabulary), "list": bool(manifest.vocabulary), "choice": bool(manifest.classes),
        "describe": bool(manifest.vocabulary or len(manifest.classes) > 1),
    }  # fmt: skip
    styles = tuple(s for s in wanted or ("closed" if manifest.vocabulary else "choice",) if fits[s])
    missing = [s for s in wanted if s not in styles]
    if not styles:
        what = f"styles {', '.join(missing)}" if missing else "conversations"
        raise FaceDataError(f"{what}: {manifest.dataset} has neither the attributes nor the labels for them")
    if missing:
        prepared.notes.append(f"{manifest.dataset} has no labels for the styles {', '.join(missing)}: left out")
    return styles


def _each(sample_at: Callable[[int], Sample], rows: np.ndarray) -> Iterator[Sample]:
    return map(sample_at, rows.tolist())


def _without_held_out(
    prepared: Prepared, manifest: Manifest, learned: np.ndarray, val: np.ndarray, knowledge: bool
) -> None:
    """Nothing is learned from labels of what was held out, but where knowledge is that of all official train rows."""
    if not (manifest.split[val] == 0).any():
        return
    if (manifest.split == 0).all():
        learned[val] = False
    elif knowledge:
        prepared.notes.append("knowledge is counted from all official train rows, also from those held out")


def _write_maps(prepared: Prepared, manifest: Manifest, samples: list[Sample], read: ReadOptions) -> None:
    without = sum(s.face_map is None for s in samples)
    if without:
        where = f" in {read.maps}" if read.maps is not None else ""
        prepared.notes.append(f"{without} of {len(samples)} images have no map{where}")
    if any(os.path.isabs(s.face_map or "") for s in samples):
        root = prepared.image_folder
        prepared.notes.append(f"the maps are not below {root}: the map paths in the JSON are absolute")
    if (prepared.out / "maps").is_dir():
        prepared.files["maps"] = prepared.out / "maps"
    write_index(prepared, samples, read.progress)


def _pass_through(
    prepared: Prepared, manifest: Manifest, rows: Iterator[tuple[int, dict[str, Any]]], options: SplitOptions
) -> tuple[np.ndarray, np.ndarray]:
    """The data set's own conversations, as they are: those of images that are there, and those without an image.

    Images that are held out go into ``val.json``; returns the rows of both. Nobody is held out unless asked for.
    """
    if options.split != "train":
        raise FaceDataError(f"split: {manifest.dataset} has conversations, but no splits of its own")
    if options.styles or options.balance or options.text_only:
        prepared.notes.append(f"{manifest.dataset} has conversations of its own: styles, balance, text_only do nothing")
    train, val = choose(prepared, manifest, replace(options, holdout=options.holdout or 0))
    everything = list(rows)
    for name, wanted in (("train", {-1, *train.tolist()}), ("val", set(val.tolist()))):
        own = [row for at, row in everything if at in wanted]
        if own:
            write_json(prepared, own, name)
            prepared.rows[name] = len(own)
    return train, val


def _knowledge(prepared: Prepared, manifest: Manifest, learned: np.ndarray, wanted: bool, rules: str | None) -> None:
    """``labels`` of every split, and the knowledge file of the train rows where there is something to know."""
    prepared.vocabulary, values = label_table(manifest)
    prepared.labels = {
        name: values[learned if name == "train" else manifest.split == number] for number, name in enumerate(SPLITS)
    }
    if not wanted or not prepared.vocabulary:
        return
    if not (prepared.labels["train"] == 0).any():
        prepared.notes.append("the train rows have no label 0 (absent): no knowledge file")
        return
    sources = [{"name": s["name"], "sha256": s["sha256"]} for s in manifest.sources]
    write_knowledge(
        prepared, manifest.dataset, rules=rules or own_rules(manifest, prepared.rules), prompts=label_prompts(manifest),
        meta={"label_file": sources[0], "sources": sources} if sources else None,
    )  # fmt: skip
