"""Manifests as what ``knowledge.build`` counts."""

from __future__ import annotations

from pathlib import Path

from ..errors import FaceDataError
from ..knowledge.build import Source, knowledge_source
from ..registry import unknown_name
from ..rulebook import Rule, builtin_rules, load_rules
from .datasets import DATASETS
from .label_table import exactly_one, label_prompts, label_table
from .manifest import SPLITS, Manifest

ALL = "all"
"""``split``: every row, whatever its split."""


def read_source(path: Path, split: str) -> Source:
    """A manifest's rows of ``split`` (``train``, ``val``, ``test``, ``all``), or a knowledge file counted from it.

    Raises ``FaceDataError`` if there is nothing to count, ``FaceHostError`` without pyarrow.
    """
    if path.suffix == ".safetensors":
        return knowledge_source(path, split)
    if split not in (*SPLITS, ALL):
        raise FaceDataError(unknown_name("split", split, (*SPLITS, ALL)))
    manifest = Manifest.load(path)
    vocabulary, labels = label_table(manifest)
    labels = labels if split == ALL else labels[manifest.split == SPLITS.index(split)]
    if not len(labels) or not vocabulary:
        what = f"no rows of split {split!r}" if vocabulary else "no attributes and no closed-set labels"
        raise FaceDataError(f"{path}: the manifest has {what}")
    record = {
        "input": path.name, "dataset": manifest.dataset, "split": split, "rows": len(labels),
        "sources": manifest.sources,
    }  # fmt: skip
    rules = _own_rules(manifest, vocabulary)
    return Source(path, manifest.dataset, vocabulary, rules, labels, record, label_prompts(manifest))


def _own_rules(manifest: Manifest, vocabulary: tuple[str, ...]) -> list[Rule]:
    """The built-in rules of that data set, and those that its closed-set labels obey by construction."""
    name = manifest.dataset
    builtin = (DATASETS[name].rules if name in DATASETS else None) or name
    rules = load_rules(builtin) if builtin in builtin_rules() else []
    rules = [rule for rule in rules if set(rule.attributes()) <= set(vocabulary)]
    said = [set(rule.clauses()) for rule in rules]
    return rules + [rule for rule in exactly_one(manifest) if not any(set(rule.clauses()) <= more for more in said)]
