"""A knowledge file from the labels of one or more data sets, and from other knowledge files.

Manifests become a ``Source`` in ``data.knowledge_source``.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FaceDataError
from ..registry import unknown_name
from ..rulebook import Rule, load_rules, signed
from .cooccurrence import Cooccurrence, count, merge
from .file import Knowledge
from .tally import RuleTally, violations_in_counts
from .vocabularies import Mappings, Names, mapped, mapped_labels, mapped_rule, named


@dataclass
class Source:
    """One input in its own names: the labels of a manifest, or the counts of a knowledge file."""

    path: Path
    dataset: str
    vocabulary: tuple[str, ...]
    rules: list[Rule]
    """Rules that are taken where no others are asked for."""
    content: np.ndarray | Knowledge
    """(N, A) int8 labels, or what is counted already."""
    record: dict[str, Any]
    """For the header: where the numbers come from."""
    prompts: dict[str, str] = field(default_factory=dict)


def build(
    sources: Sequence[Source],
    *,
    rules: Sequence[str | Path] = (),
    max_rate: float = 0.02,
    mappings: Mappings | None = None,
    split: str = "train",
    without: Sequence[str] = (),
) -> tuple[Knowledge, list[str]]:
    """Count labels and add up knowledge files; returns the knowledge and notes the user should read.

    Our names are those of the first input, and those that the mappings lead to; see ``vocabularies.named`` for the
    other inputs. An attribute that a data set lacks is unknown in its rows.

    Args:
        sources: at least one, all of the same ``split``.
        rules: rule files or built-in names; default: those that come with the sources.
        max_rate: rules that are broken more often are dropped (and reported).
        split: of the sources, for the header.
        without: rule groups to leave out.

    Raises ``FaceDataError`` for inputs and mappings that do not fit, and for unknown rule groups.
    """
    mappings = mappings or {}
    for dataset in mappings:
        if dataset not in {source.dataset for source in sources}:
            raise FaceDataError(f"mapping: {unknown_name('data set', dataset, {s.dataset for s in sources})}")
    ours = _our_names(sources, mappings)
    names = [named(s.vocabulary, mappings.get(s.dataset, {}), ours, s.dataset) for s in sources]
    notes = [note for source, n in zip(sources, names, strict=True) for note in _left_out(source, n)]
    chosen, more = _chosen(sources, names, [rule for path in rules for rule in load_rules(path)] if rules else None)
    chosen = _without(chosen, without)
    tally, counts = RuleTally(chosen, ours), count(ours, ())
    for source, n in zip(sources, names, strict=True):
        part, uncounted = _add(source, n, ours, tally)
        counts = merge(counts, part)
        notes += uncounted
    meta = {
        "dataset": "+".join(dict.fromkeys(source.dataset for source in sources)), "split": split,
        "max_rate": max_rate, "without": list(without), "sources": [source.record for source in sources],
    }  # fmt: skip
    prompts = {our: s.prompts[t] for s, n in reversed(list(zip(sources, names, strict=True)))
               for t, (our, same) in n.items() if same and t in s.prompts}  # fmt: skip
    return Knowledge.of(counts, tally.weigh(max_rate), meta, prompts), notes + more


def knowledge_source(path: Path, split: str) -> Source:
    """A knowledge file as an input of another. Raises ``FaceDataError`` if it is of another split."""
    knowledge = Knowledge.load(path)
    counted = str(knowledge.meta.get("split", "unknown"))
    if counted != split:
        raise FaceDataError(f"{path}: counted from split {counted!r}, not {split!r} (--split)")
    rules = _before_weighing(knowledge)
    record = {"input": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "split": counted,
              "rows": knowledge.cooccurrence.rows}  # fmt: skip
    record |= {key: knowledge.meta[key] for key in ("dataset", "label_file", "sources") if key in knowledge.meta}
    dataset = str(knowledge.meta.get("dataset", path.stem))
    return Source(path, dataset, knowledge.vocabulary, rules, knowledge, record, knowledge.prompts)


def _before_weighing(knowledge: Knowledge) -> list[Rule]:
    """Its rules with the weights they had before their violation rate was taken off, dropped ones too.

    Files of format 1 do not define those that were dropped.
    """
    report = knowledge.meta.get("rule_report", [])
    if any("definition" in entry for entry in report):
        return [Rule.from_dict(entry["definition"]) for entry in report if "definition" in entry]
    rates = {entry["rule"]: entry["rate"] or 0.0 for entry in report}
    kept = [(rule, 1.0 - rates.get(rule.text(), 0.0)) for rule in knowledge.rules]
    return [dataclasses.replace(rule, weight=min(rule.weight / share, 1.0) if share else 1.0) for rule, share in kept]


def _our_names(sources: Sequence[Source], mappings: Mappings) -> tuple[str, ...]:
    first = sources[0]
    own = mappings.get(first.dataset, {})
    literals = [own.get(name, name) for name in first.vocabulary]
    literals += [literal for mapping in mappings.values() for literal in mapping.values()]
    return tuple(dict.fromkeys(signed(literal)[0] for literal in literals if literal is not None))


def _left_out(source: Source, names: Names) -> list[str]:
    dropped = [name for name in source.vocabulary if name not in names]
    literals = {theirs: our if same else f"not {our}" for theirs, (our, same) in names.items()}
    renamed = {theirs: literal for theirs, literal in literals.items() if theirs != literal}
    source.record |= {"dropped": dropped, "mapped": renamed}
    if not dropped:
        return []
    return [f"{source.dataset}: {len(dropped)} attributes have no name of ours and are dropped: {', '.join(dropped)}"]


def _chosen(
    sources: Sequence[Source], names: Sequence[Names], given: list[Rule] | None
) -> tuple[list[Rule], list[str]]:
    """Each rule once, in our names; notes on those that cannot be said in them."""
    pairs: list[tuple[Rule, Rule | None]] = [(rule, rule) for rule in given or []]
    if given is None:
        pairs = [(rule, mapped_rule(rule, n)) for s, n in zip(sources, names, strict=True) for rule in s.rules]
    lost = [f"rule {rule.text()!r} is dropped: we have no name for all of its attributes" for rule, our in pairs
            if our is None]  # fmt: skip
    return list({_meaning(rule): rule for _, rule in reversed(pairs) if rule is not None}.values())[::-1], lost


def _meaning(rule: Rule) -> tuple[frozenset[Any], frozenset[Any]]:
    """Equal for rules that are broken in, and apply to, the same rows."""
    return frozenset(map(frozenset, rule.clauses())), frozenset(map(frozenset, rule.antecedent()))


def _without(rules: list[Rule], groups: Sequence[str]) -> list[Rule]:
    known = {rule.group for rule in rules if rule.group}
    for group in groups:
        if group not in known:
            raise FaceDataError(unknown_name("rule group", group, known))
    return [rule for rule in rules if rule.group not in groups]


def _add(source: Source, names: Names, ours: tuple[str, ...], tally: RuleTally) -> tuple[Cooccurrence, list[str]]:
    """The source's counts in our names; adds to the tally, with notes on rules that could not be counted."""
    if isinstance(source.content, np.ndarray):
        labels = mapped_labels(source.content, source.vocabulary, names, ours)
        tally.add(labels)
        return count(ours, [labels]), []
    counts = mapped(source.content.cooccurrence, names, ours)
    before = {}
    for entry in source.content.meta.get("rule_report", []):
        rule = mapped_rule(Rule.from_dict(entry["definition"]), names) if "definition" in entry else None
        if rule is not None:
            before[_meaning(rule)] = (entry["violated"], entry["applicable"])
    notes = []
    for number, rule in enumerate(tally.rules):
        found = violations_in_counts(rule, counts) or before.get(_meaning(rule))
        if found is not None:
            tally.counts[number] += found
        elif {our for our, _ in names.values()} >= set(rule.attributes()):
            notes.append(f"{source.path}: holds no count of {rule.text()!r}; build it from the manifest to have one")
    return counts, notes
