from __future__ import annotations

import copy
import itertools
import math
import pickle
import random
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest
import torch

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.knowledge import LogicalModule, Rule, load_rules
from llava_face_plugin.knowledge.diagram import compile_clauses, compile_rule
from llava_face_plugin.knowledge.rules import _loss as diagram_loss
from llava_face_plugin.rulebook import Kind

NAMES = ("a", "b", "c", "d", "e")
RULES = [
    Rule("implication", ("a",), ("b",)),
    Rule("at_most_one", of=("a", "b", "c", "d")),
    Rule("implication", ("a", "not c"), ("b", "not d")),
    Rule("exclusion", of=("c", "e")),
    Rule("exclusion", of=("a", "not b", "e")),
    Rule("at_least_one", of=("b", "c", "d", "e")),
    Rule("at_least_one", of=("not e",)),
    Rule("at_most_one", of=("d", "e")),
    Rule("implication", ("not a", "b", "d"), ("e",)),
    Rule("exactly_one", of=("a", "b", "c", "d", "e")),
    Rule("exactly_one", of=("not b", "d")),
    Rule("implication", ("a", "not b"), ("c",), if_joint="any"),
    Rule("implication", ("a", "b"), ("c", "not d"), if_joint="any"),
    Rule("implication", ("a", "b"), ("not c", "d", "e"), then_joint="all"),
    Rule("implication", ("a", "not c", "e"), ("b", "d"), if_joint="any", then_joint="all"),
]


def holds(rule: Rule, world: dict[str, bool]) -> bool:
    """The meaning of a rule, written independently of the package's own clauses."""

    def true(literal: str) -> bool:
        return not world[literal[4:]] if literal.startswith("not ") else world[literal]

    if rule.kind == "implication":
        joints = {"all": all, "any": any}
        return not joints[rule.if_joint](map(true, rule.if_)) or joints[rule.then_joint](map(true, rule.then))
    number = sum(map(true, rule.of))
    return {"at_least_one": number >= 1, "exactly_one": number == 1}.get(rule.kind, number <= 1)


def brute_force(rule: Rule, logits: torch.Tensor, names: Sequence[str] = NAMES) -> torch.Tensor:
    """-log P(rule holds), float64, by summing over all 2^n assignments."""
    p = torch.sigmoid(logits.double())
    total = torch.zeros(len(logits), dtype=torch.float64)
    for bits in itertools.product((False, True), repeat=len(names)):
        if holds(rule, dict(zip(names, bits, strict=True))):
            total = total + torch.stack([p[:, i] if bit else 1 - p[:, i] for i, bit in enumerate(bits)]).prod(0)
    return -torch.log(total)


def random_rules(seed: int, names: Sequence[str], number: int) -> list[Rule]:
    """Rules of every kind and form, with random signs and joints."""
    rng, rules = random.Random(seed), []
    for _ in range(number):
        kind = rng.choice(get_args(Kind))
        least = 1 if kind == "at_least_one" else 2
        chosen = rng.sample(list(names), rng.randint(least, len(names)))
        literals = tuple(rng.choice(("", "not ")) + name for name in chosen)
        if kind == "implication":
            cut = rng.randint(1, len(literals) - 1)
            joints = {"if_joint": rng.choice(("all", "any")), "then_joint": rng.choice(("all", "any"))}
            rules.append(Rule(kind, literals[:cut], literals[cut:], **joints))
        else:
            rules.append(Rule(kind, of=literals))
    return rules


@pytest.mark.parametrize("size", [2, 5, 8])
def test_random_rule_sets_equal_brute_force(size: int) -> None:
    names = tuple("abcdefgh"[:size])
    rules = random_rules(size, names, 40)
    assert {rule.kind for rule in rules} == set(get_args(Kind))
    logits = 3 * torch.randn(6, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    logic = LogicalModule(rules, names)
    exact, single = logic.rule_losses(logits), logic.rule_losses(logits.float())
    assert exact.dtype == torch.float64 and single.dtype == torch.float32
    worlds = torch.tensor(list(itertools.product((0, 1), repeat=size)), dtype=torch.int8)
    rates = logic.violation_rate(worlds)
    for number, rule in enumerate(rules):
        expected = brute_force(rule, logits, names)
        torch.testing.assert_close(exact[:, number], expected, rtol=1e-9, atol=1e-12, msg=rule.text())
        torch.testing.assert_close(single[:, number].double(), expected, rtol=3e-5, atol=1e-7, msg=rule.text())
        kept = [holds(rule, dict(zip(names, map(bool, world), strict=True))) for world in worlds.tolist()]
        assert rates[number].item() == pytest.approx(1 - sum(kept) / len(kept), abs=1e-6), rule.text()


def test_gradcheck() -> None:
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    logic = LogicalModule([*RULES, *random_rules(1, NAMES, 20)], NAMES)
    assert torch.autograd.gradcheck(logic.rule_losses, (logits,))
    labels = torch.tensor([[1, 0, 1, 0, 1], [-1, 0, 1, 1, -1], [-1] * 5], dtype=torch.int8)
    assert torch.autograd.gradcheck(lambda x: logic.loss_per_sample(x, labels), (logits,))


@pytest.mark.parametrize("kind", ["exclusion", "at_most_one", "exactly_one"])
@pytest.mark.parametrize("size", [3, 4, 7])
def test_one_of_many_is_what_its_clauses_compile_to(kind: Kind, size: int) -> None:
    """The direct diagram against the one found by search, of literals of either sign."""
    rule = Rule(kind, of=tuple(f"not {name}" if at % 2 else name for at, name in enumerate("abcdefg"[:size])))
    direct, searched = compile_rule(rule), compile_clauses(rule.clauses())
    if kind == "exactly_one":  # whose first clause names the literals as the rule does
        assert direct == searched
    logits = torch.randn(9, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    losses = []
    for diagram in (direct, searched):
        signs = torch.tensor([1.0 if positive else -1.0 for _, positive in diagram.literals], dtype=torch.float64)
        x = logits[:, ["abcdefg".index(name) for name, _ in diagram.literals]] * signs
        losses.append(
            diagram_loss(diagram.layers, torch.nn.functional.logsigmoid(x), torch.nn.functional.logsigmoid(-x))
        )
    torch.testing.assert_close(losses[0], losses[1])
    assert max(map(len, direct.layers)) == 2 and len(direct.layers) == size


def test_a_rule_of_many_values_compiles_without_its_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 values have 1,770 pairs, and the search among their clauses took seconds at every load of a model."""
    monkeypatch.setattr("llava_face_plugin.knowledge.diagram.compile_clauses", None)
    for kind in ("exactly_one", "at_most_one"):
        assert len(compile_rule(Rule(kind, of=tuple(f"a{i}" for i in range(60)))).layers) == 60


def test_diagrams_stay_narrow_and_of_one_form() -> None:
    many = compile_clauses(Rule("exactly_one", of=tuple(f"a{i}" for i in range(20))).clauses())
    assert max(map(len, many.layers)) == 2 and len(many.layers) == 20
    pairs = [("a", "b"), ("not a", "b"), ("a", "not c"), ("not d", "not e")]
    forms = {compile_clauses(Rule("implication", (a,), (b,)).clauses()).layers for a, b in pairs}
    forms |= {compile_clauses(Rule(kind, of=("a", "b")).clauses()).layers for kind in ("exclusion", "at_most_one")}
    assert len(forms) == 1
    for clauses in ((), ((("a", True),), (("a", False),)), ((("a", True), ("a", False)),)):
        with pytest.raises(ValueError, match="make no rule"):
            compile_clauses(clauses)


@pytest.mark.parametrize("scale", [0.5, 3.0, 8.0])
def test_every_rule_equals_brute_force_in_value_and_gradient(scale: float) -> None:
    logits = (scale * torch.randn(16, 5, generator=torch.Generator().manual_seed(1))).requires_grad_()
    ours = LogicalModule(RULES, NAMES).rule_losses(logits)
    for number, rule in enumerate(RULES):
        reference = logits.detach().double().requires_grad_()
        expected = brute_force(rule, reference)
        torch.testing.assert_close(ours[:, number].double(), expected, rtol=2e-5, atol=2e-7, msg=rule.text())
        (want,) = torch.autograd.grad(expected.sum(), reference)
        (got,) = torch.autograd.grad(ours[:, number].sum(), logits, retain_graph=True)
        torch.testing.assert_close(got.double(), want, rtol=2e-5, atol=2e-6, msg=rule.text())


def test_golden_values_at_even_odds() -> None:
    """At p = 1/2 a rule's probability is its share of true worlds."""
    losses = LogicalModule(RULES, NAMES).rule_losses(torch.zeros(1, 5))[0]
    shares = [3 / 4, 5 / 16, 15 / 16, 3 / 4, 4 / 8, 15 / 16, 1 / 2, 3 / 4, 15 / 16]
    shares += [5 / 32, 1 / 2, 5 / 8, 13 / 16, 25 / 32, 11 / 32]
    torch.testing.assert_close(losses, -torch.tensor(shares).log())


def test_at_most_one_equals_its_closed_form() -> None:
    x = 3 * torch.randn(8, 5, generator=torch.Generator().manual_seed(2)).double()
    loss = LogicalModule([Rule("at_most_one", of=NAMES)], NAMES).rule_losses(x)[:, 0]
    closed = torch.nn.functional.softplus(x).sum(1) - torch.logsumexp(torch.cat([torch.zeros(8, 1), x], 1), 1)
    torch.testing.assert_close(loss.double(), closed, rtol=1e-5, atol=1e-6)


def test_small_losses_keep_their_relative_accuracy() -> None:
    """V = sigmoid(-20)^2 = 4.25e-18 is far below float32's resolution of 1 - V."""
    rules = [Rule("exclusion", of=("a", "b")), Rule("at_most_one", of=("a", "b", "c"))]
    losses = LogicalModule(rules, NAMES).rule_losses(torch.full((1, 5), -20.0))[0]
    both = 1 / (1 + math.exp(20)) ** 2
    torch.testing.assert_close(losses, torch.tensor([both, 3 * both]), rtol=1e-4, atol=0.0)
    rules = [
        Rule("implication", ("a", "b"), ("not c", "not d"), then_joint="all"),
        Rule("implication", ("a", "b"), ("not c",), if_joint="any"),
        Rule("exactly_one", of=("not a", "b", "c")),
    ]
    losses = LogicalModule(rules, NAMES).rule_losses(torch.full((1, 5), -20.0))[0]
    one = 1 / (1 + math.exp(20))  # (a and b and (c or d)), ((a or b) and c), (a, or b, or c)
    torch.testing.assert_close(losses, torch.tensor([2 * one**3, 2 * one**2, 3 * one]), rtol=1e-4, atol=0.0)


def test_certain_violations_have_exact_values_and_gradients() -> None:
    # a => b, a sure, b impossible: H = 1 - (1 - e^-x)^2 = 2 e^-x, so the loss is x - log 2, slope 1/2 each.
    x = torch.tensor([[1e4, -1e4, 0.0, 0.0, 0.0]], requires_grad=True)
    loss = LogicalModule([Rule("implication", ("a",), ("b",))], NAMES).rule_losses(x).sum()
    assert loss.item() == pytest.approx(1e4 - math.log(2), rel=1e-6)
    (grad,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(grad, torch.tensor([[0.5, -0.5, 0.0, 0.0, 0.0]]))
    # At most one of three sure ones: H = 3 e^-2x, two of the three must go: slope 2/3 each.
    x = torch.full((1, 5), 1e4, requires_grad=True)
    loss = LogicalModule([Rule("at_most_one", of=("a", "b", "c"))], NAMES).rule_losses(x).sum()
    assert loss.item() == pytest.approx(2e4 - math.log(3), rel=1e-6)
    (grad,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(grad, torch.tensor([[2 / 3, 2 / 3, 2 / 3, 0.0, 0.0]]), rtol=1e-3, atol=0.0)
    # Exactly one of three, all impossible: H = 3 e^-x, the loss x - log 3, a third of the pull each.
    x = torch.full((1, 5), -1e4, requires_grad=True)
    loss = LogicalModule([Rule("exactly_one", of=("a", "b", "c"))], NAMES).rule_losses(x).sum()
    assert loss.item() == pytest.approx(1e4 - math.log(3), rel=1e-6)
    (grad,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(grad, torch.tensor([[-1 / 3, -1 / 3, -1 / 3, 0.0, 0.0]]), rtol=1e-3, atol=0.0)
    # a or b => c and d, a and b sure, c and d impossible: H = 2 e^-2x, for neither a nor b, or both c and d.
    x = torch.tensor([[40.0, 40.0, -40.0, -40.0, 0.0]], requires_grad=True)
    rule = Rule("implication", ("a", "b"), ("c", "d"), if_joint="any", then_joint="all")
    assert LogicalModule([rule], NAMES).rule_losses(x).item() == pytest.approx(80 - math.log(2), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_finite_everywhere(dtype: torch.dtype) -> None:
    extremes = torch.tensor(list(itertools.product((-1e4, -90.0, 0.0, 90.0, 1e4), repeat=5)), dtype=dtype)
    logits = extremes.requires_grad_()
    losses = LogicalModule(RULES, NAMES).rule_losses(logits)
    losses.sum().backward()
    assert losses.dtype == torch.float32 and bool(torch.isfinite(losses).all()) and bool((losses >= 0).all())
    assert logits.grad is not None and bool(torch.isfinite(logits.grad).all())


def test_float32_under_autocast() -> None:
    logits = torch.randn(4, 5)
    logic = LogicalModule(RULES, NAMES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = logic.rule_losses(logits)
    assert torch.equal(inside, logic.rule_losses(logits))


def test_a_rule_counts_only_where_all_its_attributes_are_known() -> None:
    rules = [
        Rule("implication", ("a",), ("b",), weight=0.5),
        Rule("at_most_one", of=("b", "c", "d"), weight=0.25),
    ]
    logic = LogicalModule(rules, NAMES)
    logits = torch.zeros(4, 5, requires_grad=True)
    labels = torch.tensor([[0, 1, 0, 1, 0], [0, 1, -1, 1, -1], [-1, 1, 0, 0, 0], [-1, -1, 1, 1, 1]], dtype=torch.int8)
    first, second = 0.5 * -math.log(3 / 4), 0.25 * -math.log(4 / 8)
    loss = logic.loss_per_sample(logits, labels)
    torch.testing.assert_close(loss, torch.tensor([(first + second) / 2, first, second, 0.0]))
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert logits.grad is not None
    assert bool((logits.grad[3] == 0).all()) and bool((logits.grad[1, 2:] == 0).all())


def test_hard_violations_agree_with_the_rules_meaning() -> None:
    worlds = list(itertools.product((False, True), repeat=5))
    binary = torch.tensor(worlds, dtype=torch.float32)
    broken = [sum(not holds(r, dict(zip(NAMES, w, strict=True))) for w in worlds) / len(worlds) for r in RULES]
    logic = LogicalModule(RULES, NAMES)
    torch.testing.assert_close(logic.violation_rate(binary), torch.tensor(broken))
    torch.testing.assert_close(logic.violation_rate(binary * 0.2 + 0.4), torch.tensor(broken))
    torch.testing.assert_close(logic.violation_rate(binary.to(torch.int8)), torch.tensor(broken))


def test_no_rules_is_a_zero_loss_in_the_graph() -> None:
    logits = torch.randn(3, 5, requires_grad=True)
    logic = LogicalModule([], NAMES)
    loss = logic.loss_per_sample(logits, torch.ones(3, 5, dtype=torch.int8))
    assert len(logic) == 0 and loss.tolist() == [0.0] * 3
    loss.sum().backward()
    assert logits.grad is not None and bool((logits.grad == 0).all())


def test_copies_length_and_refusals() -> None:
    logic = LogicalModule(RULES, NAMES)
    logits = torch.randn(2, 5)
    for other in (copy.deepcopy(logic), pickle.loads(pickle.dumps(logic))):
        assert torch.equal(other.rule_losses(logits), logic.rule_losses(logits))
    assert len(logic) == len(RULES)
    with pytest.raises(FaceDataError, match="unknown attribute 'z'"):
        LogicalModule([Rule("implication", ("z",), ("a",))], NAMES)
    with pytest.raises(ValueError, match=r"expected \(B, 5\)"):
        logic.loss_per_sample(torch.zeros(2, 4), torch.zeros(2, 4))


def test_the_loss_can_be_trained_to_zero_violations() -> None:
    """Gradient descent from a state that breaks most of the made rules satisfies them all."""
    rules = load_rules("made")
    names = sorted({name for rule in rules for name in rule.attributes()})
    logic = LogicalModule(rules, names)
    logits = torch.full((1, len(names)), 4.0, requires_grad=True)
    assert float(logic.violation_rate(torch.sigmoid(logits)).sum()) >= 8
    labels = torch.ones(1, len(names), dtype=torch.int8)
    for _ in range(200):
        (grad,) = torch.autograd.grad(logic.loss_per_sample(logits, labels).sum(), logits)
        logits = (logits - 5.0 * grad).detach().requires_grad_()
    assert float(logic.violation_rate(torch.sigmoid(logits)).sum()) == 0
    assert np.isfinite(logits.detach().numpy()).all()
