"""The user's copy of a data set -> manifest, conversations, questions and the knowledge file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FaceDataError
from ..maps.lookup import STORE_NAME
from ..maps.shards import pyarrow
from ..maps.store import MapStore
from ..rulebook import load_rules
from .conversations import Plan, Sample, rarity
from .datasets import DATASETS, DatasetInfo, ReadOptions
from .files import existing_folder, sha256_of
from .label_table import label_prompts, label_table, own_rules
from .manifest import SPLITS, Manifest
from .manifest_file import save_manifest
from .prepared import (
    Prepared,
    attributes_of,
    note_removed,
    remove_outputs,
    write_choices,
    write_conversations,
    write_index,
    write_json,
    write_knowledge,
    write_questions,
)
from .splits import Choice, SplitOptions, choose, strangers

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
    max_rate: float = 0.02,
) -> Prepared:
    """Write ``manifest.parquet``, ``<split>.json``, questions and ``<dataset>.knowledge.safetensors`` into ``out``.

    Without ``root``, or with ``read.look_for_images`` False, only the manifest and the knowledge file are written
    (for a data set that has conversations of its own, also all of these). What an earlier run wrote into ``out`` is
    removed. Only rows whose image exists become samples; the others are counted in ``skipped``. Rows of who is held
    out are val in the manifest. Knowledge is counted from the train rows, with or without an image, of who is neither
    held out nor in val or test too. ``rules``: a built-in name or a YAML file instead of the data set's own; those
    that more than ``max_rate`` of the rows break are dropped, and named in the notes.
    Raises ``FaceDataError``, ``FaceConfigError`` for an unknown data set, ``FaceHostError`` without pyarrow.
    """
    info, read, splits, out = DATASETS[dataset], read or ReadOptions(), splits or SplitOptions(), Path(out)
    # What would fail at the end is tried before the work.
    pyarrow()
    if knowledge and rules:
        load_rules(rules)
    if root is None:
        read = replace(read, look_for_images=False)
    store = None
    if read.maps is not None and (read.maps / STORE_NAME).is_file():
        store, read = MapStore.open(read.maps), replace(read, maps=None)
    folder = existing_folder(Path(root or "."), info.title)
    looked = read.look_for_images
    manifest = info.read(folder, replace(read, derived=out / "maps") if looked else read)
    prepared = _prepared(manifest, info, out, folder)
    styles = _styles(prepared, manifest, splits) if looked and info.rows is None else ()
    chosen = _chosen(prepared, manifest, info, splits) if looked or info.rows is not None else None
    usable_folder(out)
    earlier = remove_outputs(out, [str(s["name"]) for s in manifest.sources])
    manifest.notes.append(f"licence: {info.licence}")
    save_manifest(manifest, prepared.files["manifest"])
    if chosen is None:
        prepared.notes.append(NO_IMAGES)
    elif info.rows is not None:
        _pass_through(prepared, info.rows(folder, read), chosen)
    else:
        _write(prepared, manifest, chosen, replace(splits, styles=styles), also=knowledge)
        used = np.union1d(chosen.train, chosen.val)
        if manifest.maps is not None:
            _write_maps(prepared, manifest, list(map(Samples(manifest), used.tolist())), read)
        if store is not None:
            prepared.notes.append(_stored(store, manifest.images[used].tolist()))
    count_knowledge(prepared, manifest, knowledge, rules, max_rate)
    note_removed(prepared, earlier)
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


def usable_folder(out: Path) -> None:
    """Makes ``out``. Raises ``FaceDataError`` if it cannot be made or written into."""
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


def _chosen(prepared: Prepared, manifest: Manifest, info: DatasetInfo, options: SplitOptions) -> Choice:
    """Who is used for what; who is held out is val from here on."""
    if info.rows is not None:
        if options.split != "train":
            raise FaceDataError(f"split: {manifest.dataset} has conversations, but no splits of its own")
        if options.styles or options.balance or options.text_only:
            prepared.notes.append(
                f"{manifest.dataset} has conversations of its own: styles, balance, text_only do nothing"
            )
        # Nobody is held out unless asked for.
        options = replace(options, holdout=options.holdout or 0)
    before = len(prepared.notes)
    chosen = choose(prepared, manifest, options)
    manifest.notes += prepared.notes[before:]
    manifest.split = manifest.split.copy()
    manifest.split[chosen.held] = SPLITS.index("val")
    return chosen


def _write(prepared: Prepared, manifest: Manifest, chosen: Choice, options: SplitOptions, also: bool) -> None:
    """Conversations and questions; ``options.styles`` are those that fit."""
    train, val, _ = chosen
    sample_at = Samples(manifest, also)
    weights = rarity(manifest.vocabulary, manifest.attributes[train]) if options.balance else None
    plan = Plan(options.styles, options.k, options.seed, manifest.classes, weights)
    write_conversations(prepared, _each(sample_at, train), plan, split=options.split, text_only=options.text_only)
    asked = "val" if options.split == "train" else options.split
    if len(val):
        prepared.rows[f"{asked} images"] = len(val)
        if manifest.vocabulary:
            write_questions(prepared, _each(sample_at, val), split=asked, k=options.val_k, seed=options.seed)
        if manifest.classes:
            write_choices(prepared, _each(sample_at, val), manifest.classes, split=asked, seed=options.seed)


def _styles(prepared: Prepared, manifest: Manifest, options: SplitOptions) -> tuple[str, ...]:
    """The styles that the data set has something for; those asked for in vain are noted."""
    wanted = options.styles
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
    others = [s for s in styles if s != "closed"]
    if options.balance and others:
        prepared.notes.append(f"balance: only closed questions are balanced, not {', '.join(others)}")
    return styles


def _each(sample_at: Callable[[int], Sample], rows: np.ndarray) -> Iterator[Sample]:
    return map(sample_at, rows.tolist())


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


def _stored(store: MapStore, images: list[str]) -> str:
    """What the user does with a map store: training finds maps in it by the images' names."""
    there = len({row.image for row in store.rows() if row.status == "ok"}.intersection(images))
    return (
        f"{store.path} is a map store, which has maps of {there:,} of the {len(images):,} images used: the JSON names "
        f"no maps; set face.segmentation.maps to {store.path}"
    )


def _pass_through(prepared: Prepared, rows: Iterator[tuple[int, dict[str, Any]]], chosen: Choice) -> None:
    """The data set's own conversations, as they are: those of images that are there, and those without an image.

    Images that are held out go into ``val.json``.
    """
    everything = list(rows)
    for name, wanted in (("train", {-1, *chosen.train.tolist()}), ("val", set(chosen.val.tolist()))):
        own = [row for at, row in everything if at in wanted]
        if own:
            write_json(prepared, own, name)
            prepared.rows[name] = len(own)


def count_knowledge(prepared: Prepared, manifest: Manifest, wanted: bool, rules: str | None, max_rate: float) -> None:
    """``labels`` of every split, and the knowledge file of the train rows where there is something to know."""
    prepared.vocabulary, values = label_table(manifest)
    usable = ~strangers(manifest)
    prepared.labels = {name: values[(manifest.split == number) & usable] for number, name in enumerate(SPLITS)}
    if not wanted or not prepared.vocabulary:
        return
    if not (prepared.labels["train"] == 0).any():
        prepared.notes.append("the train rows have no label 0 (absent): no knowledge file")
        return
    # The same record as of ``knowledge.build``.
    saved = prepared.files["manifest"]
    record = {
        "input": saved.name, "sha256": sha256_of(saved), "dataset": manifest.dataset, "split": "train",
        "rows": len(prepared.labels["train"]), "sources": manifest.sources,
    }  # fmt: skip
    write_knowledge(
        prepared, manifest.dataset, rules=rules or own_rules(manifest, prepared.rules), prompts=label_prompts(manifest),
        max_rate=max_rate, meta={"sources": [record]},
    )  # fmt: skip
