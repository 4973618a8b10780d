"""The most probable rule-consistent assignment, against enumeration of all 2^A assignments."""

from __future__ import annotations

import itertools
import random
import sys

import numpy as np
import pytest

from llava_face_plugin.errors import FaceConfigError, FaceDataError, FaceHostError
from llava_face_plugin.knowledge import Rule, load_rules
from llava_face_plugin.knowledge.decode import SCALE, decode
from llava_face_plugin.labels import CELEBA_ATTRIBUTES

pytest.importorskip("pysat", reason="needs the extra knowledge (python-sat)")

HAIR = Rule("at_most_one", of=("Black", "Blond", "Gray"))
NAMES = ("Bald", "Black", "Blond", "Gray", "Male")


def random_rules(draw: random.Random, names: list[str]) -> list[Rule]:
    rules = []
    for _ in range(draw.randint(1, 7)):
        kind = draw.choice(["implication", "implication", "exclusion", "at_most_one", "at_least_one", "exactly_one"])
        some = [draw.choice(["", "not "]) + name for name in draw.sample(names, draw.randint(2, min(4, len(names))))]
        if kind == "implication":
            cut = draw.randint(1, len(some) - 1)
            joints = {"if_joint": draw.choice(["all", "any"]), "then_joint": draw.choice(["all", "any"])}
            rules.append(Rule(kind, tuple(some[:cut]), tuple(some[cut:]), **joints))  # type: ignore[arg-type]
        else:
            rules.append(Rule(kind, of=tuple(some)))  # type: ignore[arg-type]
    return rules


def holds(rule: Rule, world: dict[str, bool]) -> bool:
    """By the words of the rule's kinds, without its clauses."""

    def true(literals: tuple[str, ...]) -> list[bool]:
        return [not world[x[4:]] if x.startswith("not ") else world[x] for x in literals]

    if rule.kind == "implication":
        if_, then = true(rule.if_), true(rule.then)
        applies = all(if_) if rule.if_joint == "all" else any(if_)
        return not applies or (all(then) if rule.then_joint == "all" else any(then))
    number = sum(true(rule.of))
    return {"at_least_one": number >= 1, "exactly_one": number == 1}.get(rule.kind, number <= 1)


def best(p: np.ndarray, rules: list[Rule], names: list[str], threshold: float = 0.5) -> tuple[bool, ...] | None:
    """Of all consistent worlds: fewest certain attributes changed, most probable, fewest changes, first ones kept."""
    odds = [0.0 if x in (0.0, 1.0) else np.log(x / (1 - x)) - np.log(threshold / (1 - threshold)) for x in p.tolist()]
    alone = p >= threshold
    certain = (p == 0) | (p == 1)
    ranked = []
    for world in itertools.product((False, True), repeat=len(p)):
        if not all(holds(rule, dict(zip(names, world, strict=True))) for rule in rules):
            continue
        changed = np.array(world) != alone
        cost = float(sum(abs(z) for z, c in zip(odds, changed, strict=True) if c))
        ranked.append(((certain & changed).sum(), round(cost, 6), changed.sum(), tuple(changed.tolist()), world))
    return min(ranked)[-1] if ranked else None


@pytest.mark.parametrize("seed", range(150))
def test_equals_enumeration(seed: int) -> None:
    draw = random.Random(seed)
    names = [f"a{i}" for i in range(draw.randint(2, 10))]
    # Coarse values make ties, and 0 and 1 certainties that rules may break.
    values = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0] if seed % 2 else [draw.random() for _ in range(40)]
    p = np.array([draw.choice(values) for _ in names])
    rules, threshold = random_rules(draw, names), draw.choice([0.5, 0.5, 0.3])
    expected = best(p, rules, names, threshold)
    if expected is None:
        with pytest.raises(FaceDataError, match="contradict"):
            decode(p, rules, names, threshold)
        return
    decision = decode(p, rules, names, threshold)
    assert tuple(decision.present.tolist()) == expected
    alone = p >= threshold
    assert decision.changed == tuple(n for n, x, y in zip(names, alone, expected, strict=True) if x != y)
    world = dict(zip(names, alone.tolist(), strict=True))
    assert decision.broken == tuple(rule for rule in rules if not holds(rule, world))
    draw.shuffle(rules)
    assert decode(p, rules, names, threshold).present.tolist() == list(expected)  # whatever the order of the rules


def test_by_hand() -> None:
    p = np.array([0.1, 0.6, 0.8, 0.7, 0.55])
    decision = decode(p, [HAIR], NAMES)
    assert decision.changed == ("Black", "Gray") and decision.broken == (HAIR,)
    assert decision.present.tolist() == [False, False, True, False, True]
    # Gray => Male costs log(.55 / .45) less to heed by Male, which is kept, than by Gray.
    rule = Rule("implication", ("Gray",), ("not Male",), weight=0.01)  # the weight is for the loss
    assert decode(p, [rule], NAMES).changed == ("Male",)
    assert decode(p, [rule], NAMES, threshold=0.7).changed == ()


def test_certain_attributes_give_way_last() -> None:
    names = ("a", *(f"b{i}" for i in range(30)))
    rules = [Rule("implication", ("a",), (f"not b{i}",)) for i in range(30)]
    p = np.full(31, 0.999999)
    p[0] = 1.0
    assert decode(p, rules, names).changed == names[1:]  # thirty very likely ones for one that is certain
    assert decode(np.ones(31), rules, names).changed == ("a",)  # of the certain ones, as few as possible
    assert decode(np.zeros(31), [Rule("at_least_one", of=names)], names).changed == ("b29",)  # the last one


def test_equal_probabilities_change_the_fewest_and_keep_the_first() -> None:
    p = np.full(5, 0.7)
    assert decode(p, [HAIR], NAMES).changed == ("Blond", "Gray")
    assert decode(np.full(5, 0.5), [HAIR], NAMES).changed == ("Blond", "Gray")  # 0.5 is present, and costs nothing


def test_float16_and_float32_probabilities() -> None:
    p = np.array([0.1, 0.6, 0.8, 0.7, 1.0])
    for dtype in (np.float16, np.float32):
        assert decode(p.astype(dtype), [HAIR], NAMES).changed == ("Black", "Gray")


def test_without_a_broken_rule_no_solver_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pysat.examples.rc2", None)
    p = np.array([0.9, 0.6, 0.2, 0.1, 0.5])
    decision = decode(p, [HAIR], NAMES)
    assert decision.present.tolist() == [True, True, False, False, True] and decision.changed == decision.broken == ()
    with pytest.raises(FaceHostError, match=r"llava-face-plugin\[knowledge\]"):
        decode(np.full(5, 0.9), [HAIR], NAMES)


def test_the_scaling_bounds_the_loss_of_probability() -> None:
    """Two assignments whose log-odds differ by more than the bound are told apart; 40 attributes: 1e-8."""
    bound = len(NAMES) / SCALE
    odds = np.array([-1.0, 1.0, 1.0 + 2 * bound, -1.0, -1.0])
    p = 1 / (1 + np.exp(-odds))
    assert decode(p, [HAIR], NAMES).changed == ("Black",)
    assert 40 / SCALE < 1e-8


@pytest.mark.parametrize(
    ("p", "message"),
    [
        ([0.1, np.nan, 0.2, 0.3, 0.4], "probability of 'Black' is nan"),
        ([0.1, 0.1, 0.2, 0.3, 1.5], "probability of 'Male' is 1.5"),
        ([-0.1, 0.1, 0.2, 0.3, 0.5], "probability of 'Bald'"),
        ([0.1, np.inf, 0.2, 0.3, 0.4], "is inf"),
        ([0.1, 0.2], r"shape \(2,\); expected \(5,\)"),
    ],
)
def test_wrong_probabilities_are_refused(p: list[float], message: str) -> None:
    with pytest.raises(FaceDataError, match=message):
        decode(np.array(p), [HAIR], NAMES)


def test_wrong_rules_and_thresholds_are_refused() -> None:
    p = np.full(5, 0.9)
    with pytest.raises(FaceDataError, match="unknown attribute 'Mael'"):
        decode(p, [Rule("implication", ("Bald",), ("Mael",))], NAMES)
    both = [Rule("at_least_one", of=("Male",)), HAIR, Rule("at_least_one", of=("not Male",))]
    with pytest.raises(FaceDataError, match=r"contradict: at least one of \{Male\}; at least one of \{not Male\}$"):
        decode(p, both, NAMES)
    for threshold in (0.0, 1.0, float("nan")):
        with pytest.raises(FaceConfigError, match="threshold"):
            decode(p, [HAIR], NAMES, threshold)


def test_forty_attributes_and_the_builtin_rules() -> None:
    """Random probabilities break most rules at once, which is the hard case."""
    rules = load_rules("celeba")
    draw = np.random.default_rng(0)
    for p in draw.beta(0.5, 0.5, (50, 40)):
        world = dict(zip(CELEBA_ATTRIBUTES, decode(p, rules, CELEBA_ATTRIBUTES).present.tolist(), strict=True))
        assert all(holds(rule, world) for rule in rules)
