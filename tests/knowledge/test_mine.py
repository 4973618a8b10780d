from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.knowledge import Knowledge, Rule, count, load_rules, violations
from llava_face_plugin.knowledge.cooccurrence import wilson
from llava_face_plugin.knowledge.mine import Mined, Proposal, mine, mine_file

pytest.importorskip("pysat")
EITHER = "at least one of {k, h}"  # without k are fewer than without h


def planted(rows: int = 20_000, seed: int = 0) -> tuple[tuple[str, ...], np.ndarray]:
    """a => b => c (so a => c), d and e never together, x => not y (x is rare, y is not), always is (nearly) everyone,
    Male alone has g, who has not h has k, and noise in noise."""
    rng = np.random.default_rng(seed)

    def draw(p: float) -> np.ndarray:
        return rng.random(rows) < p

    c = draw(0.5)
    b = c & draw(0.5)
    a = b & draw(0.5)
    a[rng.integers(0, rows, 4)] = True  # a few violations of a => b
    d = draw(0.3)
    e = ~d & draw(0.4)
    y = draw(0.6)
    x = ~y & draw(0.03)
    male, h = draw(0.5), draw(0.4)
    k = ~h | draw(0.7)
    columns = {
        "a": a, "b": b, "c": c, "d": d, "e": e, "x": x, "y": y, "always": draw(0.999), "Male": male,
        "g": male & draw(0.5), "h": h, "k": k, "noise": draw(0.3), "tiny": male & draw(0.002),
    }  # fmt: skip
    return tuple(columns), np.stack(list(columns.values()), axis=1).astype(np.int8)


def found(mined: Mined) -> dict[str, Proposal]:
    return {proposal.rule.text(): proposal for proposal in mined.kept}


def test_what_is_planted_is_found_and_nothing_else() -> None:
    names, labels = planted()
    mined = mine(count(names, [labels]))
    assert set(found(mined)) == {"a => b", "b => c", "not both e and d", "not both x and y", "g => Male", EITHER}
    assert mined.folded == 1  # a => c
    for proposal in mined.kept:
        assert (proposal.violated, proposal.support) == violations(proposal.rule, labels, names)  # as build counts
        assert proposal.interval == tuple(map(float, wilson(proposal.violated, proposal.support)))
        assert proposal.interval[0] <= proposal.rate <= proposal.interval[1] <= 0.02 < proposal.chance
    assert {p.rule.group for p in mined.kept if "Male" in p.rule.attributes()} == {"gender"}
    renamed = tuple("gender:Female" if name == "Male" else name for name in names)
    assert found(mine(count(renamed, [labels])))["g => gender:Female"].rule.group == "gender"


def test_support_rate_and_chance_are_limits() -> None:
    names, labels = planted()
    counts = count(names, [labels])
    assert "not both x and y" not in found(mine(counts, min_support=2000))
    assert "y => not x" in found(mine(counts, min_support=2000))  # y is not rare
    without_h = (labels[:, names.index("h")] == 0).sum()
    assert EITHER not in found(mine(counts, min_support=4000)) and without_h > 8000
    assert "not h => k" in found(mine(counts, min_support=4000))
    assert "tiny => Male" not in found(mine(counts, min_support=5))  # ~20 rows of 20 could be luck
    assert "tiny => Male" in found(mine(counts, min_support=5, max_rate=0.3, max_of_chance=0.5))
    strict = mine(counts, max_rate=0.0001)
    assert strict.kept == ()  # even the exact ones are not known to be that good
    assert "a => b" not in found(mine(counts, max_of_chance=0.001))


def test_unknown_labels_are_not_counted() -> None:
    names, labels = planted()
    labels[::2, names.index("b")] = -1
    proposal = {p.rule.text(): p for p in mine(count(names, [labels])).kept}["a => b"]
    assert (proposal.violated, proposal.support) == violations(proposal.rule, labels, names)


def test_equivalent_attributes_keep_both_directions() -> None:
    half = (np.random.default_rng(0).random(5000) < 0.5).astype(np.int8)
    mined = mine(count(("p", "q"), [np.stack([half, half], axis=1)]))
    assert set(found(mined)) == {"p => q", "q => p"} and mined.folded == 0


def test_the_file_is_read_back_and_weighed(tmp_path: Path) -> None:
    names, labels = planted()
    knowledge = Knowledge.build(names, [labels], [], 0.02, {"dataset": "planted", "split": "train"})
    mined, text = mine_file(knowledge, "k.safetensors")
    path = tmp_path / "mined.yaml"
    path.write_text(text)
    rules = load_rules(path)
    assert [rule.text() for rule in rules] == [p.rule.text() for p in mined.kept]
    for rule, proposal in zip(rules, mined.kept, strict=True):
        assert rule.source == f"mined from planted train, violations {proposal.violated} of {proposal.support}"
        assert rule.weight == 1.0  # weighed when a knowledge file is built
    again = Knowledge.build(names, [labels], rules, 0.02, {"split": "train"})
    assert len(again.rules) == len(rules) and all(0.98 <= rule.weight <= 1.0 for rule in again.rules)


def test_what_the_files_own_rules_say_is_not_proposed_again() -> None:
    names, labels = planted()
    own = [
        Rule("implication", ("a",), ("b",)),
        Rule("at_most_one", of=("d", "e", "tiny")),
        Rule("implication", ("q",), ("b",)),
    ]
    knowledge = Knowledge.build((*names, "q"), [np.pad(labels, ((0, 0), (0, 1)))], own, 1.0, {"split": "train"})
    mined, text = mine_file(knowledge, "k")
    assert set(found(mined)) == {"b => c", "not both x and y", "g => Male", EITHER} and mined.folded == 3
    assert "3 more follow from these and the file's own rules" in text


@pytest.mark.parametrize("split", ["val", "test", "all", None])
def test_only_the_training_split_is_mined(split: str | None) -> None:
    names, labels = planted(1000)
    knowledge = Knowledge.build(names, [labels], [], 0.02, {"dataset": "planted", "split": split})
    with pytest.raises(FaceDataError, match="k.safetensors: counted from split .* 'train' alone"):
        mine_file(knowledge, "k.safetensors")


def test_nothing_to_propose_is_an_empty_rule_file(tmp_path: Path) -> None:
    labels = (np.random.default_rng(0).random((5000, 3)) < 0.5).astype(np.int8)
    knowledge = Knowledge.build(("a", "b", "c"), [labels], [], 0.02, {"split": "train"})
    (tmp_path / "r.yaml").write_text(mine_file(knowledge, "k")[1])
    assert load_rules(tmp_path / "r.yaml") == []
