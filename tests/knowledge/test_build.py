"""Knowledge from manifests and from other knowledge files; the commands of ``llava-face knowledge``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from llava_face_plugin.cli.main import app
from llava_face_plugin.data.datasets import fairface
from llava_face_plugin.data.knowledge_source import read_source
from llava_face_plugin.data.manifest import Manifest
from llava_face_plugin.data.manifest_file import load_manifest, save_manifest
from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.knowledge import Knowledge, Rule, count, violations
from llava_face_plugin.knowledge.build import build as build_from
from llava_face_plugin.knowledge.summary import summary
from llava_face_plugin.rulebook import builtin_rules, dump_rules

pytest.importorskip("pyarrow")

OURS = ("Male", "Bald", "Young", "Mouth_Slightly_Open")
THEIRS = ("Bald", "Senior", "Male", "Mouth_Closed", "Odd")
MAPPING = {"maadface": {"Senior": "not Young", "Mouth_Closed": "not Mouth_Slightly_Open"}}


def manifest(dataset: str, vocabulary: tuple[str, ...], rows: int, seed: int, path: Path) -> np.ndarray:
    """Write one with the rows of train (2 of 3), val and test in turn; returns its train labels."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([-1, 0, 1], dtype=np.int8), (rows, len(vocabulary)), p=[0.1, 0.5, 0.4])
    bald, male = vocabulary.index("Bald"), vocabulary.index("Male")
    labels[(labels[:, male] == 0) & (rng.random(rows) < 0.7), bald] = 0  # mostly Bald => Male
    split = np.tile(np.array([0, 0, 0, 0, 1, 2], dtype=np.int8), rows // 6 + 1)[:rows]
    images = np.array([f"{dataset}/{i}.jpg" for i in range(rows)])
    made = Manifest(dataset, images, split, vocabulary, labels, sources=[{"name": "a.txt", "sha256": "00", "rows": 9}])
    save_manifest(made, path)
    return labels[split == 0]


def build(inputs: Sequence[Path], split: str = "train", **options: Any) -> tuple[Knowledge, list[str]]:
    """As the command does."""
    return build_from([read_source(path, split) for path in inputs], split=split, **options)


def rule_file(path: Path, *rules: Rule) -> str:
    path.write_text(dump_rules(rules))
    return str(path)


BALD = Rule("implication", ("Bald",), ("Male",), group="gender", source="test")
EITHER = Rule("exactly_one", of=("Male", "Bald", "Young"), group="odd")


def test_a_manifest(tmp_path: Path) -> None:
    train = manifest("celeba", OURS, 600, 0, tmp_path / "m.parquet")
    rules = [rule_file(tmp_path / "r.yaml", BALD, EITHER)]
    knowledge, notes = build([tmp_path / "m.parquet"], rules=rules, max_rate=0.4)
    expected = count(OURS, [train])
    for part in ("joint", "support", "both", "rows", "vocabulary"):
        np.testing.assert_array_equal(getattr(knowledge.cooccurrence, part), getattr(expected, part))
    first, second = knowledge.meta["rule_report"]
    assert (first["violated"], first["applicable"]) == violations(BALD, train, OURS)
    assert (second["violated"], second["applicable"]) == violations(EITHER, train, OURS)
    assert first["kept"] and not second["kept"] and len(knowledge.rules) == 1
    assert knowledge.rules[0].weight == pytest.approx(1 - first["rate"]) and knowledge.rules[0].source == "test"
    assert (knowledge.meta["dataset"], knowledge.meta["split"], knowledge.meta["rows"]) == ("celeba", "train", 400)
    assert knowledge.meta["sources"][0]["sources"] == [{"name": "a.txt", "sha256": "00", "rows": 9}]
    assert notes == []


def test_people_who_are_also_in_a_later_split_are_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    manifest("celeba", OURS, 60, 0, path)
    made = load_manifest(path)
    identity = np.arange(60)
    identity[0] = identity[5]  # a train row and a test row of one person
    save_manifest(dataclasses.replace(made, identity=identity), path)
    whole, fewer = made.attributes[made.split == 0], made.attributes[(made.split == 0) & (np.arange(60) != 0)]
    knowledge, _ = build([path], rules=[])
    assert knowledge.cooccurrence.rows == len(fewer) == len(whole) - 1
    np.testing.assert_array_equal(knowledge.cooccurrence.joint, count(OURS, [fewer]).joint)


def test_splits_groups_and_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    manifest("mine", OURS, 60, 0, path)
    rules = [rule_file(tmp_path / "r.yaml", BALD, EITHER)]
    assert [build([path], split=s)[0].cooccurrence.rows for s in ("train", "val", "test", "all")] == [40, 10, 10, 60]
    without, _ = build([path], rules=rules, without=["gender"], max_rate=1.0)
    assert [rule.group for rule in without.rules] == ["odd"] and without.meta["without"] == ["gender"]
    with pytest.raises(FaceDataError, match="unknown rule group 'gander'; did you mean 'gender'"):
        build([path], rules=rules, without=["gander"])
    with pytest.raises(FaceDataError, match="unknown split 'trian'; did you mean 'train'"):
        build([path], split="trian")
    with pytest.raises(FaceDataError, match="unknown attribute 'Black_Hair'"):
        build([path], rules=["celeba"])
    with pytest.raises(FaceDataError, match="unknown data set 'celebb'"):
        build([path], mappings={"celebb": {}})
    bare = Manifest("bare", np.array(["a.jpg"]), np.zeros(1, dtype=np.int8))
    save_manifest(bare, tmp_path / "bare.parquet")
    with pytest.raises(FaceDataError, match="no attributes and no closed-set labels"):
        build([tmp_path / "bare.parquet"])
    with pytest.raises(FaceDataError, match="has no rows of split 'val'"):
        manifest("one", OURS, 3, 0, tmp_path / "one.parquet")
        build([tmp_path / "one.parquet"], split="val")


def test_closed_sets_are_counted_and_have_their_rules(tmp_path: Path) -> None:
    values = ("neutral", "happy", "sad")
    label = np.array([0, 1, 2, -1, 1, 1] * 50, dtype=np.int16)
    images = np.array([f"{i}.jpg" for i in range(300)])
    made = Manifest(
        "faces", images, np.zeros(300, np.int8), classes={"expression": values}, labels={"expression": label}
    )
    save_manifest(made, tmp_path / "m.parquet")
    knowledge, _ = build([tmp_path / "m.parquet"])
    assert knowledge.vocabulary == tuple(f"expression:{v}" for v in values)
    assert knowledge.cooccurrence.known.tolist() == [250] * 3
    assert knowledge.cooccurrence.joint.diagonal().tolist() == [50, 150, 50]
    assert {rule.group for rule in knowledge.rules} == {"expression"} and knowledge.prompts["expression:sad"]
    assert all(entry["violated"] == 0 for entry in knowledge.meta["rule_report"])


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path, np.ndarray, np.ndarray]:
    ours, theirs = tmp_path / "ours.parquet", tmp_path / "theirs.parquet"
    return ours, theirs, manifest("celeba", OURS, 600, 0, ours), manifest("maadface", THEIRS, 300, 1, theirs)


def by_hand(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Both in our names: Male, Bald, Young, Mouth_Slightly_Open."""
    flipped = np.where(second >= 0, 1 - second, -1)
    return np.vstack([first, np.stack([second[:, 2], second[:, 0], flipped[:, 1], flipped[:, 3]], axis=1)])


def test_two_vocabularies_become_one(pair: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    ours, theirs, first, second = pair
    rules = [rule_file(tmp_path / "r.yaml", BALD, EITHER)]
    knowledge, notes = build([ours, theirs], rules=rules, mappings=MAPPING, max_rate=1.0)
    whole = by_hand(first, second)
    expected = count(OURS, [whole])
    for part in ("joint", "support", "both", "rows", "vocabulary"):
        np.testing.assert_array_equal(getattr(knowledge.cooccurrence, part), getattr(expected, part))
    for rule, entry in zip((BALD, EITHER), knowledge.meta["rule_report"], strict=True):
        assert (entry["violated"], entry["applicable"]) == violations(rule, whole, OURS)
    assert notes == ["maadface: 1 attributes have no name of ours and are dropped: Odd"]
    assert knowledge.meta["dataset"] == "celeba+maadface"
    assert knowledge.meta["sources"][1]["dropped"] == ["Odd"]
    assert knowledge.meta["sources"][1]["mapped"]["Senior"] == "not Young"


def test_files_merge_as_their_manifests_do(pair: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    ours, theirs, *_ = pair
    rules = [rule_file(tmp_path / "r.yaml", BALD, EITHER)]
    at_once, _ = build([ours, theirs], rules=rules, mappings=MAPPING, max_rate=1.0)
    own = Rule("exactly_one", of=("Male", "Bald", "not Senior"))
    for path, chosen in ((ours, rules), (theirs, [rule_file(tmp_path / "t.yaml", BALD, own)])):
        build([path], rules=chosen, max_rate=1.0)[0].save(path.with_suffix(".safetensors"))
    inputs = [path.with_suffix(".safetensors") for path in (ours, theirs)]
    for rules_now in ((), rules):
        merged, notes = build(inputs, rules=rules_now, mappings=MAPPING, max_rate=1.0)
        for part in ("joint", "support", "both", "rows"):
            np.testing.assert_array_equal(getattr(merged.cooccurrence, part), getattr(at_once.cooccurrence, part))
        counts = [(e["rule"], e["violated"], e["applicable"]) for e in merged.meta["rule_report"]]
        assert counts == [(e["rule"], e["violated"], e["applicable"]) for e in at_once.meta["rule_report"]]
        assert [rule.weight for rule in merged.rules] == [rule.weight for rule in at_once.rules]
        assert notes == ["maadface: 1 attributes have no name of ours and are dropped: Odd"]
    with pytest.raises(FaceDataError, match="counted from split 'train', not 'val'"):
        build(inputs, split="val")


def test_what_a_file_cannot_count_is_said(pair: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    ours, *_ = pair
    path = tmp_path / "k.safetensors"
    build([ours], rules=[rule_file(tmp_path / "r.yaml", BALD)])[0].save(path)
    pairs_too = Rule("implication", ("not Young",), ("Bald",))
    triple = Rule("at_least_one", of=("Male", "Bald", "Young"))
    again, notes = build([path], rules=[rule_file(tmp_path / "r.yaml", pairs_too, triple)], max_rate=1.0)
    assert len(notes) == 1 and "holds no count of 'at least one of {Male, Bald, Young}'" in notes[0]
    entry = again.meta["rule_report"][0]
    assert (entry["violated"], entry["applicable"]) == violations(pairs_too, pair[2], OURS)


def test_dropped_rules_come_back_with_more_data(
    pair: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    ours, *_ = pair
    path = tmp_path / "k.safetensors"
    build([ours], rules=[rule_file(tmp_path / "r.yaml", BALD, EITHER)], max_rate=0.0)[0].save(path)
    assert Knowledge.load(path).rules == []
    again, _ = build([path], max_rate=1.0)
    assert [rule.text() for rule in again.rules] == [BALD.text(), EITHER.text()]


def test_rules_of_format_1_get_their_old_weight_back(tmp_path: Path) -> None:
    train = np.abs(manifest("celeba", OURS, 600, 0, tmp_path / "m.parquet"))
    rules = [dataclasses.replace(BALD, weight=0.5), EITHER]
    new = Knowledge.build(OURS, [train], rules, 0.4, {"dataset": "celeba", "split": "train"})
    report = [{k: e[k] for k in ("rule", "group", "violated", "applicable", "rate", "kept")}
              for e in new.meta["rule_report"]]  # fmt: skip
    header = {
        "format": 1, "vocabulary": OURS, "rows": 400, "rules": [rule.to_dict() for rule in new.rules],
        "prompts": new.prompts, "meta": {**new.meta, "rule_report": report},
    }  # fmt: skip
    counts = new.cooccurrence
    tensors = {"joint": counts.joint, "support": counts.support, "known": np.ascontiguousarray(counts.known)}
    save_file(tensors, tmp_path / "old.safetensors", {"face_knowledge": json.dumps(header)})
    again, _ = build([tmp_path / "old.safetensors"], max_rate=0.4)
    assert [rule.text() for rule in again.rules] == [BALD.text()]
    assert again.rules[0].weight == pytest.approx(new.rules[0].weight)


def test_built_in_rules_are_taken_once(tmp_path: Path) -> None:
    """FairFace's own set and the rules of its closed-set labels say the same."""
    rows = {column: np.arange(90, dtype=np.int16) % len(values) for column, values in fairface.CLASSES.items()}
    images = np.array([f"{i}.jpg" for i in range(90)])
    made = Manifest("fairface", images, np.zeros(90, dtype=np.int8), classes=fairface.CLASSES, labels=rows)
    save_manifest(made, tmp_path / "m.parquet")
    knowledge, notes = build([tmp_path / "m.parquet"])
    assert [rule.kind for rule in knowledge.rules] == ["exactly_one"] * 3 and notes == []
    without, _ = build([tmp_path / "m.parquet"], without=["gender", "race"])
    assert [rule.group for rule in without.rules] == ["age_group"]


def run(*args: object) -> str:
    result = CliRunner().invoke(app, ["knowledge", *map(str, args)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_commands(pair: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    ours, theirs, *_ = pair
    (tmp_path / "map.yaml").write_text(json.dumps(MAPPING))
    rules = rule_file(tmp_path / "r.yaml", BALD, EITHER, Rule("exclusion", of=("Male", "not Young")))
    k = tmp_path / "deep" / "k.safetensors"
    text = run(
        "build", ours, theirs, "--out", k, "--rules", rules, "--mapping", tmp_path / "map.yaml", "--max-rate", 0.5
    )
    assert "600 rows of celeba+maadface (train), 4 attributes" in text and "are dropped: Odd" in text
    assert "dropped: exactly one of {Male, Bald, Young}" in text and "--max-rate 0.5" in text
    found = json.loads(run("inspect", k, "--json", "--tau", 0.3, "--top", 3))
    assert found == json.loads(json.dumps(summary(Knowledge.load(k), 0.3, 3)))
    assert len(found["pairs"]) == 3 and found["pairs"][0]["p"] >= found["pairs"][1]["p"]
    low, high = found["pairs"][0]["interval"]
    assert low < found["pairs"][0]["p"] < high and len(found["attributes"]) == 4
    counts = Knowledge.load(k).cooccurrence
    for part in ("joint", "support", "both"):
        np.testing.assert_array_equal(found[part], getattr(counts, part))
    np.testing.assert_array_equal(found["p"], counts.conditional())
    assert found["attributes"][0].keys() == {"name", "prompt", "n", "known", "prior"}
    assert [entry["kept"] for entry in found["rules"]].count(False) >= 1
    text = run("inspect", k)
    assert "Bald => Male" in text and "dropped" in text and "graph:" in text
    text = run("check", k)
    assert "rules can all hold" in text and "checksum fit together" in text
    options = ["--max-rate", 0.5, "--max-of-chance", 1, "--min-support", 10]
    run("build", k, "--rules", rules, "--max-rate", 0, "--out", tmp_path / "bare.safetensors")
    run("mine", tmp_path / "bare.safetensors", "--out", tmp_path / "mined.yaml", *options)
    run("check", tmp_path / "mined.yaml", k)
    run("build", k, "--rules", tmp_path / "mined.yaml", "--out", tmp_path / "k2.safetensors", "--max-rate", 1)
    assert Knowledge.load(tmp_path / "k2.safetensors").rules[0].source.startswith("mined from celeba+maadface train")


def test_a_contradiction_is_exit_code_1(tmp_path: Path) -> None:
    path = rule_file(
        tmp_path / "r.yaml", Rule("implication", ("A",), ("B",)), Rule("at_least_one", of=("A",)),
        Rule("at_least_one", of=("not B",)), Rule("at_least_one", of=("C",)),
    )  # fmt: skip
    result = CliRunner().invoke(app, ["knowledge", "check", path])
    assert result.exit_code == 1
    assert (
        "each of these 3 rules is needed for it: A => B; at least one of {A}; at least one of {not B}" in result.output
    )
    as_json = CliRunner().invoke(app, ["knowledge", "check", path, "--json"])
    assert as_json.exit_code == 1 and json.loads(as_json.output)["core"] == ["A => B", "at least one of {A}",
                                                                             "at least one of {not B}"]  # fmt: skip


def test_every_builtin_set_can_hold() -> None:
    for name in builtin_rules():
        run("check", name)
