"""The attributes of rules, asked one by one: do the answers about one face contradict each other?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...errors import FaceDataError
from ...registry import unknown_name
from ...rulebook import Rule, load_rules
from ..metrics import rule_consistency
from ..questions import Question
from ._shown import pictures
from .attributes import about
from .base import Benchmark, Source

RULES = "rules"
"""Key of the header's ``extra``: the rules as ``Rule.to_dict``."""


def consistency_questions(source: Source) -> Iterator[Question]:
    """A yes/no question about every attribute that a rule speaks of. The rules go into the header.

    ``--set knowledge=FILE``: the rules of a knowledge file, default: the built-in ones of CelebA. ``--set
    without=gender``: no rules of these groups (several: with commas). The rate at which the labels themselves break
    the rules is noted. Raises ``FaceDataError`` where no rule is left.
    """
    m = source.the_manifest()
    rules = _rules(source)
    fitting = [r for r in rules if set(r.attributes()) <= set(m.vocabulary)]
    if len(fitting) < len(rules):
        gone = len(rules) - len(fitting)
        source.notes.append(f"left out: {gone} of {len(rules)} rules, about attributes that {m.dataset} does not have")
    if not fitting:
        raise FaceDataError(f"no rule about the attributes of {m.dataset} is left", "empty")
    source.extra[RULES] = [r.to_dict() for r in fitting]
    labels = rule_consistency(m.attributes[source.rows], fitting, m.vocabulary)
    source.notes.append(
        f"{len(fitting)} rules; the labels themselves break {labels.broken_per_image or 0:.4f} an image, "
        f"in {labels.any_broken or 0:.2%} of the images"
    )
    asked = frozenset(name for r in fitting for name in r.attributes())
    for shown in pictures(source):
        yield from about(source, shown, asked)


def _rules(source: Source) -> list[Rule]:
    file = source.options["knowledge"]
    if not file:
        rules, name = load_rules("celeba"), "the built-in rules of CelebA"
    else:
        from ...knowledge.file import Knowledge

        rules, name = Knowledge.load(file).rules, Path(file).name
    groups = sorted({r.group for r in rules})
    left_out = [g for g in source.options["without"].split(",") if g]
    for group in left_out:
        if group not in groups:
            raise FaceDataError(f"--set without: {name}: {unknown_name('group of rules', group, groups)}")
    source.notes.append(name + (f", without {', '.join(left_out)}" if left_out else ""))
    return [r for r in rules if r.group not in left_out]


BENCHMARKS = (
    Benchmark(
        "face_celeba_consistency", "CelebA: how often answers about one face break rules", consistency_questions,
        ("celeba",), settings={"knowledge": "", "without": ""},
    ),
)  # fmt: skip
