"""One data set's attributes in the names of another: labels, counts and rules, by an explicit mapping."""

from __future__ import annotations

import dataclasses
import json
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from ..errors import FaceDataError
from ..registry import unknown_name
from ..rulebook import Rule, SignedName, canonical, signed
from .cooccurrence import Cooccurrence

Names = dict[str, SignedName]
"""Their attribute -> ours, and whether it says the same (True) or the opposite (False)."""
Mappings = dict[str, dict[str, str | None]]


def load_mapping(path: Path) -> Mappings:
    """A YAML or JSON file ``{data set: {their name: "Our_Name" | "not Our_Name" | null}}``; null drops the attribute.

    Raises ``FaceDataError`` with the file and the entry at fault.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise FaceDataError(f"{path}: cannot read the mapping: {error}") from error
    except Exception as error:  # as for rule files: PyYAML lets more than YAMLError out
        raise FaceDataError(f"{path}: not valid YAML or JSON: {error or type(error).__name__}") from error
    if not isinstance(data, dict):
        raise FaceDataError(f"{path}: expected {{data set: {{their name: our name}}}}")
    for dataset, names in data.items():
        if not isinstance(dataset, str) or not isinstance(names, dict):
            raise FaceDataError(f"{path}: {reprlib.repr(dataset)}: expected {{their name: our name}}")
        for theirs, ours in names.items():
            if not isinstance(theirs, str) or not (ours is None or isinstance(ours, str)):
                entry = f"{reprlib.repr(theirs)}: {reprlib.repr(ours)}"
                raise FaceDataError(f'{path}: {dataset}: {entry}; expected a name, "not NAME" or null')
            if ours is not None:
                try:
                    names[theirs] = canonical(ours)
                except FaceDataError as error:
                    raise FaceDataError(f"{path}: {dataset}: {theirs}: {error}") from error
    return data


def named(vocabulary: Sequence[str], mapping: Mapping[str, str | None], ours: Sequence[str], dataset: str) -> Names:
    """What of ``vocabulary`` is known in ``ours``: by the mapping, else by an equal name; the rest is left out.

    Raises ``FaceDataError`` if the mapping names an unknown attribute of either side, or two for one.
    """
    for theirs, literal in mapping.items():
        if theirs not in vocabulary:
            raise FaceDataError(f"mapping of {dataset!r}: {unknown_name('attribute', theirs, vocabulary)}")
        if literal is not None and signed(literal)[0] not in ours:
            raise FaceDataError(f"mapping of {dataset!r}: {unknown_name('attribute', signed(literal)[0], ours)}")
    names: Names = {}
    taken: dict[str, str] = {}
    for theirs in vocabulary:
        literal = mapping.get(theirs, theirs if theirs in ours else None)
        if literal is None:
            continue
        our, positive = signed(literal)
        if our in taken:
            raise FaceDataError(
                f"mapping of {dataset!r}: {taken[our]!r} and {theirs!r} are both our {our!r}; map one of them to null"
            )
        names[theirs], taken[our] = (our, positive), theirs
    return names


def mapped_labels(labels: np.ndarray, vocabulary: Sequence[str], names: Names, ours: Sequence[str]) -> np.ndarray:
    """(N, A) int8 labels of theirs -> (N, B) of ours; -1 where they have no such attribute."""
    out = np.full((len(labels), len(ours)), -1, dtype=np.int8)
    for theirs, (our, positive) in names.items():
        column = labels[:, list(vocabulary).index(theirs)]
        out[:, list(ours).index(our)] = column if positive else np.where(column >= 0, 1 - column, -1)
    return out


def mapped(counts: Cooccurrence, names: Names, ours: Sequence[str]) -> Cooccurrence:
    """Their counts as counts of ``ours``: equal to counting the ``mapped_labels``."""
    source = [counts.vocabulary.index(theirs) for theirs in names]
    joint, support, both = (part[np.ix_(source, source)] for part in (counts.joint, counts.support, counts.both))
    opposite = np.array([not positive for _, positive in names.values()], dtype=bool)
    row, column = opposite[:, None], opposite[None, :]
    present = np.where(column, support - joint, joint)  # y_i = 1, and y_j = 1 or, the opposite, 0
    absent = np.where(column, both - support - support.T + joint, support.T - joint)
    target = np.ix_(*[[list(ours).index(our) for our, _ in names.values()]] * 2)

    def spread(part: np.ndarray) -> np.ndarray:
        out = np.zeros((len(ours), len(ours)), dtype=np.int64)
        out[target] = part
        return out

    joint, support = np.where(row, absent, present), np.where(row, both - support, support)
    return Cooccurrence(tuple(ours), spread(joint), spread(support), spread(both), counts.rows)


def mapped_rule(rule: Rule, names: Names) -> Rule | None:
    """The rule in our names; None if it speaks of an attribute that is left out."""
    if not set(rule.attributes()) <= set(names):
        return None

    def ours(literals: tuple[str, ...]) -> tuple[str, ...]:
        pairs = [(names[theirs], positive) for theirs, positive in map(signed, literals)]
        return tuple(our if positive == same else f"not {our}" for (our, same), positive in pairs)

    return dataclasses.replace(rule, if_=ours(rule.if_), then=ours(rule.then), of=ours(rule.of))
