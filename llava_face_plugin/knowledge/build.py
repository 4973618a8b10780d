"""A knowledge file from the labels of one or more data sets, and from other knowledge files.

Manifests become a ``Source`` in ``data.knowledge_source``.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FaceDataError, FaceHostError
from ..registry import unknown_name
from ..rulebook import Rule, load_rules, signed
from .check import contradiction, texts
from .cooccurrence import Cooccurrence, count, merge
from .file import Knowledge
from .tally import RuleTally, violations_in_counts
from .vocabularies import Mappings, Names, mapped, mapped_labels, mapped_rule, named

_CHUNK = 65_536  # rows that are mapped and counted at a time: bounds the memory beside the labels themselves


@dataclass
class Source:
    """One input in its own names: the labels of a manifest, or the counts of a knowledge file."""

    path: Path
    dataset: str
    vocabulary: tuple[str, ...]
    rules: list[Rule]
    """Rules that are taken where no others are asked for."""
    content: Knowledge | Callable[[], np.ndarray]
    """What is counted already, or what reads the (N, A) int8 labels when they are counted."""
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
    other inputs. An attribute that a data set lacks is unknown in its rows. Where the rules are those of the sources,
    a rule group that one of them was built ``without`` stays out.

    Args:
        sources: at least one, all of the same ``split``.
        rules: rule files or built-in names; default: those that come with the sources.
        max_rate: rules that are broken more often are dropped (and reported).
        split: of the sources, for the header.
        without: rule groups to leave out.

    Raises ``FaceDataError`` for inputs and mappings that do not fit, for labels that would be counted twice, for
    unknown rule groups, and for kept rules that contradict each other (a note where python-sat is not installed).
    """
    _check_once(sources)
    mappings = mappings or {}
    for dataset in mappings:
        if dataset not in {source.dataset for source in sources}:
            raise FaceDataError(f"mapping: {unknown_name('data set', dataset, {s.dataset for s in sources})}")
    ours = _our_names(sources, mappings)
    names = [named(s.vocabulary, mappings.get(s.dataset, {}), ours, s.dataset) for s in sources]
    notes = [note for source, n in zip(sources, names, strict=True) for note in _left_out(source, n)]
    chosen, more = _chosen(sources, names, [rule for path in rules for rule in load_rules(path)] if rules else None)
    kept_out = [] if rules else _kept_out(sources, without)
    notes += [
        f"the rules of group {group!r} stay out, as in {path}; name --rules to choose" for group, path in kept_out
    ]
    without = [*without, *(group for group, _ in kept_out)]
    chosen = _without(chosen, without, {group for group, _ in kept_out})
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
    knowledge = Knowledge.of(counts, tally.weigh(max_rate), meta, prompts)
    return knowledge, notes + more + _check_rules_fit(knowledge.rules)


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


def _check_once(sources: Sequence[Source]) -> None:
    """Raise ``FaceDataError`` if two inputs count the same labels: a file twice, or what was counted from it."""
    seen: dict[str, Path] = {}
    for source in sources:
        origins = set(_origins(source.record))
        for origin in origins & seen.keys():
            raise FaceDataError(
                f"{seen[origin]} and {source.path} count the same labels (equal checksums): give them once"
            )
        seen |= dict.fromkeys(origins, source.path)


def _origins(record: Mapping[str, Any]) -> Iterator[str]:
    """Checksums of what a source was counted from: its file, its data set's label files, the same of older inputs."""
    if "sha256" in record:
        yield str(record["sha256"])
    listed = record.get("sources")
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    nested = [entry for entry in entries if "sources" in entry or "input" in entry]
    if files := sorted(str(entry["sha256"]) for entry in entries if "sha256" in entry and entry not in nested):
        yield " ".join([str(record.get("dataset")), *files])
    for entry in nested:
        yield from _origins(entry)


def _check_rules_fit(rules: Sequence[Rule]) -> list[str]:
    """Raise ``FaceDataError`` naming the rules that cannot all hold; a note where that cannot be checked."""
    try:
        core = contradiction(rules)
    except FaceHostError as error:
        return [f"whether the rules contradict each other was not checked: {error}"]
    if core:
        raise FaceDataError(f"the rules contradict each other: {'; '.join(texts(core))}. Leave one out (--rules)")
    return []


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
    if not names:
        raise FaceDataError(
            f"{source.path}: none of its attributes ({', '.join(dropped[:3])}, ...) has a name of ours, so that "
            f"nothing of it would be counted; give a mapping (--mapping) of {source.dataset!r}"
        )
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
    where = frozenset(frozenset(map(frozenset, clauses)) for clauses in rule.antecedents())
    return frozenset(map(frozenset, rule.clauses())), where


def _kept_out(sources: Sequence[Source], without: Sequence[str]) -> list[tuple[str, Path]]:
    """Rule groups beside ``without`` that knowledge files among the sources were built without, and which file."""
    found: dict[str, Path] = {}
    for source in sources:
        if isinstance(source.content, Knowledge):
            groups = source.content.meta.get("without")
            found |= {str(group): source.path for group in (groups if isinstance(groups, list) else ())}
    return [(group, path) for group, path in found.items() if group not in without]


def _without(rules: list[Rule], groups: Sequence[str], unchecked: set[str]) -> list[Rule]:
    known = {rule.group for rule in rules if rule.group} | unchecked
    for group in groups:
        if group not in known:
            raise FaceDataError(unknown_name("rule group", group, known))
    return [rule for rule in rules if rule.group not in groups]


def _add(source: Source, names: Names, ours: tuple[str, ...], tally: RuleTally) -> tuple[Cooccurrence, list[str]]:
    """The source's counts in our names; adds to the tally, with notes on rules that could not be counted."""
    if not isinstance(source.content, Knowledge):
        labels = source.content()
        counts = count(ours, ())
        for start in range(0, len(labels), _CHUNK):
            part = mapped_labels(labels[start : start + _CHUNK], source.vocabulary, names, ours)
            tally.add(part)
            counts = merge(counts, count(ours, [part]))
        return counts, []
    counts = mapped(source.content.cooccurrence, names, ours)
    before = {}
    for entry in source.content.meta.get("rule_report", []):
        rule = mapped_rule(Rule.from_dict(entry["definition"]), names) if "definition" in entry else None
        if rule is not None:
            before[_meaning(rule)] = (entry["violated"], entry["applicable"], entry["applicable"])
    notes = []
    for number, rule in enumerate(tally.rules):
        found = violations_in_counts(rule, counts) or before.get(_meaning(rule))
        if found is not None:
            tally.counts[number] += found
        elif {our for our, _ in names.values()} >= set(rule.attributes()):
            notes.append(f"{source.path}: holds no count of {rule.text()!r}; build it from the manifest to have one")
    return counts, notes
