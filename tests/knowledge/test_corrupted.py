"""Generated corruptions of knowledge files and rule files: each is one clear error, or loads as something valid."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.knowledge import Knowledge, Rule, check_rules, load_rules
from llava_face_plugin.knowledge import file as knowledge_file
from llava_face_plugin.knowledge.build import build, knowledge_source
from llava_face_plugin.knowledge.summary import summary
from llava_face_plugin.rulebook import builtin_rules, dump_rules

NAMES = ("Bald", "Wearing_Hat", "Male", "Bangs")
LABELS = np.random.default_rng(0).integers(-1, 2, (300, 4)).astype(np.int8)
RULES = [Rule("implication", ("Bald",), ("Male",), group="gender"), Rule("exactly_one", of=("Bald", "Bangs", "Male"))]
JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 3, 10**30, 0.5, float("nan"), "", "x", "not", "not x", "\0", "é" * 3, [], [1], ["x"], ["x"] * 3,
    [[]], {}, {"x": 1}, {"any": ["x"]}, {"if": "Bald", "then": "Male"}, {"kind": 3}, "A" * 10_000, [["x"]] * 1000,
)  # fmt: skip


def built(labels: np.ndarray = LABELS) -> Knowledge:
    return Knowledge.build(NAMES, [labels], RULES, 1.0, {"dataset": "drawn", "split": "train"})


def loads_or_says_why(load: Callable[[], Any], path: Path) -> str:
    """The error's message, or "" for a valid load; any other exception fails the test."""
    try:
        load()
    except FaceDataError as error:
        text = str(error)
        assert text.startswith(str(path)) and len(text) < 1500, text[:2000]
        return text
    return ""


def bytes_changed(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    what = rng.randrange(5)
    at = rng.randrange(len(changed))
    if what == 0:
        changed[at] ^= 1 << rng.randrange(8)
    elif what == 1:
        del changed[at:]
    elif what == 2:
        del changed[at : at + rng.randint(1, 40)]
    elif what == 3:
        changed[at:at] = rng.randbytes(rng.randint(1, 40))
    else:
        other = rng.randrange(len(changed))
        changed[at : at + 8], changed[other : other + 8] = changed[other : other + 8], changed[at : at + 8]
    return bytes(changed)


def test_250_damaged_knowledge_files(tmp_path: Path) -> None:
    """Damaged bytes are noticed by the checksum, whatever they hit."""
    path, knowledge = tmp_path / "k.safetensors", built()
    knowledge.save(path)
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(250):
        path.write_bytes(data := bytes_changed(rng, whole))
        message = loads_or_says_why(lambda: Knowledge.load(path), path)
        assert message or data == whole or same(Knowledge.load(path), knowledge)


def same(a: Knowledge, b: Knowledge) -> bool:
    parts = ("joint", "support", "both")
    equal = all(np.array_equal(getattr(a.cooccurrence, p), getattr(b.cooccurrence, p)) for p in parts)
    return equal and (a.vocabulary, a.rules, a.prompts, a.meta) == (b.vocabulary, b.rules, b.prompts, b.meta)


def replaced(rng: random.Random, value: Any) -> Any:
    """``value`` with one of its parts, at any depth, replaced by junk, removed or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        changed = dict(value)
        if rng.random() < 0.15:
            del changed[key]
        elif rng.random() < 0.15:
            changed[rng.choice(("x", "", "wieght"))] = changed.pop(key)
        else:
            changed[key] = replaced(rng, value[key])
        return changed
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        end = [replaced(rng, value[at])] if rng.random() < 0.8 else [value[at]] * rng.choice((0, 2))
        return value[:at] + end + value[at + 1 :]
    return rng.choice(JUNK)


@pytest.mark.parametrize("version", [1, 2])
def test_500_wrong_knowledge_headers_and_counts(version: int, tmp_path: Path) -> None:
    """With a right checksum (format 1 has none), so that every check behind it is met."""
    path, rng = tmp_path / "k.safetensors", random.Random(version)
    knowledge = built(np.abs(LABELS) if version == 1 else LABELS)  # format 1: nothing is unknown
    counts, refused = knowledge.cooccurrence, 0
    for _ in range(250):
        header: Any = {
            "format": version, "created_by": "x", "vocabulary": list(NAMES), "rows": counts.rows,
            "rules": [rule.to_dict() for rule in knowledge.rules], "prompts": knowledge.prompts,
            "meta": knowledge.meta,
        }  # fmt: skip
        tensors = {"joint": counts.joint.copy(), "support": counts.support.copy(), "both": counts.both.copy()}
        if rng.random() < 0.7:
            header = json.loads(json.dumps(replaced(rng, header)))
        else:
            name = rng.choice(list(tensors))
            array = tensors[name]
            array[rng.randrange(4), rng.randrange(4)] = rng.choice((-1, 0, 1, 300, 301, 2**62))
            tensors[name] = rng.choice((array, array, array[:2], array.astype(np.float64), array.T.copy()))
        if version == 1:
            tensors["known"] = np.ascontiguousarray(tensors.pop("both").diagonal())
        elif isinstance(header, dict):
            header["checksum"] = knowledge_file._checksum(header, tensors)
        save_file(tensors, path, {"face_knowledge": json.dumps(header)})
        message = loads_or_says_why(lambda: Knowledge.load(path), path)
        refused += bool(message)
        if not message:
            loaded = Knowledge.load(path)
            loaded.cooccurrence.check()
            check_rules(loaded.rules, loaded.vocabulary)
            json.dumps(summary(loaded))
            split = str(loaded.meta.get("split", "unknown"))
            build([knowledge_source(path, split)], split=split, max_rate=1.0)
    assert refused > 120


def test_500_wrong_rule_files(tmp_path: Path) -> None:
    path, rng, refused = tmp_path / "r.yaml", random.Random(3), 0
    texts = [file.read_bytes() for file in builtin_rules().values()] + [dump_rules(RULES).encode()]
    for number in range(500):
        if number % 2:
            whole = {"description": "d", "source": "s", "rules": [rule.to_dict() for rule in RULES]}
            path.write_text(json.dumps(replaced(rng, whole)))  # JSON is YAML
        else:
            path.write_bytes(bytes_changed(rng, rng.choice(texts)))
        message = loads_or_says_why(lambda: load_rules(path), path)
        refused += bool(message)
        if not message:
            for rule in load_rules(path):
                assert Rule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule
                assert rule.clauses() and rule.text()
    assert refused > 200


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        "rules: [{if: 2001-13-45, then: B}]", "rules: [{if: !!int x, then: B}]", "rules: !!bool x",
        "rules: [{if: A, then: !!timestamp x}]", "[" * 5000, "{" * 5000, "rules: [{if: A, then: &x [*x]}]",
        BOMB + "rules: *i\n", BOMB + "rules: [{if: *i, then: B}]\n", "rules: [{if: A, then: B, weight: 1e400}]",
        "rules: [{if: A, then: B, weight: " + "9" * 5000 + "}]", "? {a: b}\n: c", "rules:\n\t- x", "\ufeffrules: 3",
        "--- a\n--- b\n", "rules: [{[a]: b}]", "%YAML 3.0\n---\nrules: []\nx: 1", "rules: [{<<: 3}]",
    ],
)  # fmt: skip
def test_hostile_yaml(text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    assert loads_or_says_why(lambda: load_rules(path), path)
