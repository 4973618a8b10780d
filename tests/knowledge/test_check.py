"""The SAT check against enumeration of all worlds."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable

import pytest

from llava_face_plugin.errors import FaceHostError
from llava_face_plugin.knowledge import Rule
from llava_face_plugin.knowledge.check import consistency
from tests.knowledge.test_logic import holds, random_rules

pytest.importorskip("pysat")
NAMES = tuple("abcdef")
WORLDS = [dict(zip(NAMES, bits, strict=True)) for bits in itertools.product((False, True), repeat=len(NAMES))]


def models(rules: Iterable[Rule]) -> list[dict[str, bool]]:
    rules = list(rules)
    return [world for world in WORLDS if all(holds(rule, world) for rule in rules)]


@pytest.mark.parametrize("seed", range(60))
def test_random_rule_sets_against_enumeration(seed: int) -> None:
    rules = random_rules(seed, NAMES, 3 + seed % 5)
    found = consistency(rules)
    left = models(rules)
    assert found.satisfiable == bool(left)
    if not left:
        assert not models(found.core) and found.forced == found.redundant == ()
        for rule in found.core:  # minimal: without any one of them there is a world
            assert models(other for other in found.core if other is not rule)
        return
    used = {name for rule in rules for name in rule.attributes()}
    forced = {(name, value) for name in used for value in (True, False) if all(w[name] == value for w in left)}
    assert {(name, value) for name, value, _ in found.forced} == forced
    for name, value, because in found.forced:
        assert all(world[name] == value for world in models(because))
    redundant = {n for n, r in enumerate(rules) if len(models(rules[:n] + rules[n + 1 :])) == len(left)}
    assert {number for number, _ in found.redundant} == redundant
    for number, because in found.redundant:
        assert all(holds(rules[number], world) for world in models(because))


def test_random_sets_were_of_all_sorts() -> None:
    results = [consistency(random_rules(seed, NAMES, 3 + seed % 5)) for seed in range(60)]
    assert 5 < sum(not r.satisfiable for r in results) < 55
    assert sum(bool(r.forced) for r in results) > 5 and sum(bool(r.redundant) for r in results) > 5


def test_a_contradiction_by_hand() -> None:
    rules = [
        Rule("exactly_one", of=("a", "b", "c")),
        Rule("implication", ("d",), ("e",)),
        Rule("implication", ("a", "b", "c"), ("f",), if_joint="any"),
        Rule("at_least_one", of=("not f",)),
    ]
    assert [rule.text() for rule in consistency(rules).core] == [rules[0].text(), rules[2].text(), rules[3].text()]
    fine = consistency(rules[:3])
    assert [(name, value) for name, value, _ in fine.forced] == [("f", True)] and fine.redundant == ()
    assert fine.to_dict()["forced"][0]["because"] == [rules[0].text(), rules[2].text()]


def test_no_rules_can_hold() -> None:
    assert consistency([]).to_dict() == {"satisfiable": True, "core": [], "forced": [], "redundant": []}


def test_without_pysat_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pysat.solvers", None)
    with pytest.raises(FaceHostError, match=r"pip install 'llava-face-plugin\[knowledge\]'"):
        consistency([Rule("exclusion", of=("a", "b"))])
