from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from llava_face_plugin import __version__
from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.knowledge import Knowledge, Rule, count

NAMES = ("Bald", "Wearing_Hat", "Male")
RULES = [Rule("implication", ("Bald",), ("Male",), group="gender"), Rule("implication", ("Male",), ("Bald",))]
LABELS = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0], [0, -1, 1]] * 10, dtype=np.int8)


def built(labels: np.ndarray = LABELS, **kwargs: object) -> Knowledge:
    meta = {"dataset": "drawn", "split": "train", "sha256": "00"}
    return Knowledge.build(NAMES, iter([labels[:7], labels[7:]]), RULES, 0.02, meta, **kwargs)  # type: ignore[arg-type]


def test_build() -> None:
    knowledge = built(prompts={"Male": "a man"})
    np.testing.assert_array_equal(knowledge.cooccurrence.joint, count(NAMES, [LABELS]).joint)
    np.testing.assert_array_equal(knowledge.cooccurrence.support, count(NAMES, [LABELS]).support)
    assert [rule.text() for rule in knowledge.rules] == ["Bald => Male"]
    assert knowledge.prompts == {"Bald": "bald", "Wearing_Hat": "wearing hat", "Male": "a man"}
    assert knowledge.vocabulary == NAMES and knowledge.cooccurrence.rows == 40
    assert knowledge.meta["rows"] == 40 and knowledge.meta["dataset"] == "drawn"
    assert knowledge.meta["created_by"] == f"llava_face_plugin {__version__}"
    assert [entry["kept"] for entry in knowledge.meta["rule_report"]] == [True, False]


def test_round_trip(tmp_path: Path) -> None:
    knowledge, path = built(), tmp_path / "k.safetensors"
    knowledge.save(path)
    again = Knowledge.load(str(path))
    for part in ("joint", "support", "both"):
        np.testing.assert_array_equal(getattr(again.cooccurrence, part), getattr(knowledge.cooccurrence, part))
        assert getattr(again.cooccurrence, part).dtype == np.int64
    assert again.vocabulary == NAMES and again.cooccurrence.rows == 40
    assert (again.rules, again.prompts, again.meta) == (knowledge.rules, knowledge.prompts, knowledge.meta)
    first = path.read_bytes()
    again.save(path)
    assert path.read_bytes() == first  # the same knowledge is the same file
    with open(path, "rb") as reader:
        again.meta["split"] = "other"
        again.save(path)
        assert reader.read() == first != path.read_bytes()  # a reader keeps the whole old file
    assert os.listdir(tmp_path) == ["k.safetensors"]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    knowledge, path = built(), tmp_path / "k.safetensors"
    knowledge.save(path)
    before = path.read_bytes()
    knowledge.meta["split"] = "other"

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        knowledge.save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["k.safetensors"]


def rewritten(path: Path, **changes: object) -> None:
    """Save a knowledge file with keys of its header replaced, or (None) removed."""
    knowledge = built(labels=np.maximum(LABELS, 0))
    counts = knowledge.cooccurrence
    header = {
        "format": 1, "created_by": "llava_face_plugin 9.9", "vocabulary": list(NAMES), "rows": 40,
        "rules": [rule.to_dict() for rule in knowledge.rules], "prompts": knowledge.prompts, "meta": {},
    } | changes  # fmt: skip
    header = {key: value for key, value in header.items() if value is not None}
    tensors = {"joint": counts.joint, "support": counts.support, "known": np.ascontiguousarray(counts.known)}
    save_file(tensors, path, {"face_knowledge": json.dumps(header)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 3}, "format 3 .written by llava_face_plugin 9.9.; this version reads formats 1 and 2"),
        ({"format": 2}, "lacks 'checksum'"),
        ({"format": 2, "checksum": "00", "rows": 7}, "lacks 'both'"),
        ({"rows": -3}, "not a valid knowledge file"),
        ({"rows": "40"}, "not a valid knowledge file"),
        ({"vocabulary": ["Bald", "not Bald", "Male"]}, "'not Bald' in the vocabulary is a literal"),
        ({"vocabulary": ["Bald", 3, "Male"]}, "3 is not an attribute name"),
        ({"prompts": {"Bald": "", "Wearing_Hat": "h", "Male": "m"}}, "the prompt of 'Bald' is ''"),
        ({"meta": 3}, "meta is 3"),
        ({"vocabulary": None}, "lacks 'vocabulary'"),
        ({"vocabulary": ["Bald", "Male"]}, r"joint is int64 \(3, 3\); expected int64 \(2, 2\)"),
        ({"vocabulary": ["Bald", "Male", "Male"]}, "names an attribute twice"),
        ({"rules": [{"if": "Bold", "then": "Male"}]}, "unknown attribute 'Bold'; did you mean 'Bald'"),
        ({"rules": [{"if": "Bald"}]}, "needs 'if' and 'then'"),
        ({"prompts": {"Bald": "bald"}}, "prompts: none for Wearing_Hat, Male"),
        ({"rules": 3}, "not a valid knowledge file"),
    ],
)
def test_wrong_headers(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "k.safetensors"
    rewritten(path)
    assert Knowledge.load(path).vocabulary == NAMES
    rewritten(path, **changes)
    with pytest.raises(FaceDataError, match=message) as error:
        Knowledge.load(path)
    assert str(error.value).startswith(f"{path}: ")


def test_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "k.safetensors"
    with pytest.raises(FaceDataError, match="no such knowledge file"):
        Knowledge.load(path)
    built().save(path)
    whole = path.read_bytes()
    for size in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(FaceDataError, match="not a knowledge file, or cut off"):
            Knowledge.load(path)
    path.write_text('{"joint": []}')
    with pytest.raises(FaceDataError, match="not a knowledge file, or cut off"):
        Knowledge.load(path)
    save_file({"joint": np.zeros(3)}, path, {"format": "pt"})
    with pytest.raises(FaceDataError, match="its metadata has no 'face_knowledge'"):
        Knowledge.load(path)
    save_file({"joint": np.zeros(3)}, path, {"face_knowledge": "{"})
    with pytest.raises(FaceDataError, match="is not JSON"):
        Knowledge.load(path)
    save_file({"known": np.zeros(3, dtype=np.int64)}, path, {"face_knowledge": '{"format": 1}'})
    with pytest.raises(FaceDataError, match="lacks 'rows'"):
        Knowledge.load(path)


def test_build_refuses_what_does_not_fit() -> None:
    with pytest.raises(FaceDataError, match="unknown attribute 'Mael'; did you mean 'Male'"):
        built(prompts={"Mael": "a man"})
    with pytest.raises(FaceDataError, match="expected -1"):
        Knowledge.build(NAMES, [LABELS * 3], RULES, 0.02, {})
    with pytest.raises(FaceDataError, match="hold no 0"):  # CelebA's own -1/1 coding, not mapped to 0/1
        Knowledge.build(NAMES, [np.where(LABELS == 0, -1, LABELS)], RULES, 0.02, {})


def test_format_1_is_read_where_it_says_enough(tmp_path: Path) -> None:
    path = tmp_path / "k.safetensors"
    rewritten(path)
    old = Knowledge.load(path)
    new = count(NAMES, [np.maximum(LABELS, 0)])
    for part in ("joint", "support", "both", "known"):
        np.testing.assert_array_equal(getattr(old.cooccurrence, part), getattr(new, part))
    labels = LABELS.copy()
    labels[:5, 2] = -1  # now two attributes are unknown in some rows, and in which together is not in format 1
    counts = count(NAMES, [labels])
    tensors = {"joint": counts.joint, "support": counts.support, "known": np.ascontiguousarray(counts.known)}
    header = {"format": 1, "vocabulary": NAMES, "rows": 40, "rules": [], "prompts": built().prompts, "meta": {}}
    save_file(tensors, path, {"face_knowledge": json.dumps(header)})
    with pytest.raises(FaceDataError, match="format 1 does not say .* build it again"):
        Knowledge.load(path)


def test_an_edited_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "k.safetensors"
    built().save(path)
    whole = path.read_bytes()
    for old, new in ((b"drawn", b"other"), (b"wearing hat", b"wearing hut"), (b"Bald =>", b"Cald =>")):
        assert old in whole
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(FaceDataError, match="checksum"):
            Knowledge.load(path)
    path.write_bytes(whole[:-8] + b"\x01" + whole[-7:])
    with pytest.raises(FaceDataError, match="checksum"):
        Knowledge.load(path)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("joint", -1, "joint is below 0"),
        ("joint", 41, "support is below joint"),
        ("support", 39, "support is above the rows with y_i"),
        ("both", 1, "both is below"),
        ("both", 41, "both is above"),
    ],
)
def test_impossible_counts_are_refused(part: str, value: int, message: str) -> None:
    counts = count(NAMES, [LABELS])
    array = getattr(counts, part).copy()
    array[0, 2] = array[2, 0] = value
    with pytest.raises(FaceDataError, match=message):
        dataclasses.replace(counts, **{part: array}).check()
    counts.check()
