"""A manifest as knowledge is counted from it: attributes and closed-set labels in one binary table (our default).

A closed-set label becomes one attribute a value, named ``column:value`` (``expression:happiness``,
``age_group:20-29``), with the rule that holds by construction: exactly one of them. So data sets without CelebA-like
attributes (expressions only) have a knowledge file too. A column whose values are attributes already (CelebV-HQ's
emotions) adds nothing.
"""

from __future__ import annotations

import numpy as np

from ..labels import prompt_of
from ..rulebook import Rule, builtin_rules, load_rules
from .manifest import Manifest


def label_table(manifest: Manifest) -> tuple[tuple[str, ...], np.ndarray]:
    """The V names and (N, V) int8 of 1, 0 and -1 = unknown: the attributes, then the one-hot labels."""
    names, values = manifest.one_hot()
    return (*manifest.vocabulary, *names), np.concatenate([manifest.attributes, values], axis=1)


def exactly_one(manifest: Manifest) -> list[Rule]:
    """The rules of the one-hot labels, in a group named after the column."""
    rules = []
    for column in manifest.hot_columns():
        values = manifest.classes[column]
        names = tuple(f"{column}:{value}" for value in values)
        source = f"closed-set label {column} of {manifest.dataset}"
        rules.append(Rule("exactly_one" if len(names) > 1 else "at_least_one", of=names, group=column, source=source))
    return rules


def own_rules(manifest: Manifest, builtin: str | None = None) -> list[Rule]:
    """The built-in rules (of that name, or the data set's) that speak of what it has, and ``exactly_one``."""
    name = builtin or manifest.dataset
    known = set(label_table(manifest)[0])
    rules = [r for r in load_rules(name) if known.issuperset(r.attributes())] if name in builtin_rules() else []
    said = [set(rule.clauses()) for rule in rules]
    return rules + [rule for rule in exactly_one(manifest) if not any(set(rule.clauses()) <= more for more in said)]


def label_prompts(manifest: Manifest) -> dict[str, str]:
    """Text prompts of the one-hot labels: ``age_group:20-29`` -> ``age group 20-29``."""
    return {
        f"{column}:{value}": f"{prompt_of(column)} {prompt_of(value)}"
        for column in manifest.hot_columns()
        for value in manifest.classes[column]
    }
