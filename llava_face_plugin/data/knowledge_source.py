"""Manifests as what ``knowledge.build`` counts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ..errors import FaceDataError
from ..knowledge.build import Source, knowledge_source
from ..knowledge.file import is_knowledge
from ..registry import unknown_name
from .datasets import DATASETS
from .label_table import label_prompts, label_table, own_rules
from .manifest import SPLITS, Manifest
from .manifest_file import load_manifest
from .splits import strangers

ALL = "all"
"""``split``: every row, whatever its split."""


def read_source(path: Path, split: str) -> Source:
    """A manifest's rows of ``split`` (``train``, ``val``, ``test``, ``all``), or a knowledge file counted from it.

    Raises ``FaceDataError`` if there is nothing to count, ``FaceHostError`` without pyarrow.
    """
    if is_knowledge(path) or path.suffix == ".safetensors":  # or one that is damaged: its reader says so
        return knowledge_source(path, split)
    if split not in (*SPLITS, ALL):
        raise FaceDataError(unknown_name("split", split, (*SPLITS, ALL)))
    manifest, vocabulary, labels = _read(path, split)
    if not len(labels) or not vocabulary:
        what = f"no rows of split {split!r}" if vocabulary else "no attributes and no closed-set labels"
        raise FaceDataError(f"{path}: the manifest has {what}")
    record = {
        "input": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "dataset": manifest.dataset,
        "split": split, "rows": len(labels), "sources": manifest.sources,
    }  # fmt: skip
    rules = own_rules(manifest, DATASETS[manifest.dataset].rules if manifest.dataset in DATASETS else None)
    prompts = label_prompts(manifest)
    return Source(path, manifest.dataset, vocabulary, rules, lambda: _read(path, split)[-1], record, prompts)


def _read(path: Path, split: str) -> tuple[Manifest, tuple[str, ...], np.ndarray]:
    """The manifest, and the V names and (N, V) labels of that split, without people who are also in a later split.

    Done once to see what is there and once to count, so that no two data sets are in memory together.
    """
    manifest = load_manifest(path)
    vocabulary, labels = label_table(manifest)
    if split == ALL:
        return manifest, vocabulary, labels
    return manifest, vocabulary, labels[(manifest.split == SPLITS.index(split)) & ~strangers(manifest)]
