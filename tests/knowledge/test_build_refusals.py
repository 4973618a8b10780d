"""What ``knowledge build`` and its sisters refuse, and what they take from their inputs."""

from __future__ import annotations

import gc
import sys
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from llava_face_plugin import switch
from llava_face_plugin.cli.main import app
from llava_face_plugin.data.knowledge_source import read_source
from llava_face_plugin.data.manifest import Manifest
from llava_face_plugin.data.manifest_file import load_manifest, save_manifest
from llava_face_plugin.errors import FaceDataError
from llava_face_plugin.knowledge import Knowledge, Rule
from tests.knowledge.test_build import BALD, MAPPING, OURS, THEIRS, build, manifest, rule_file, run

pytest.importorskip("pyarrow")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two manifests whose attributes MAPPING brings together."""
    ours, theirs = tmp_path / "ours.parquet", tmp_path / "theirs.parquet"
    manifest("celeba", OURS, 600, 0, ours)
    manifest("maadface", THEIRS, 300, 1, theirs)
    return ours, theirs


def error_of(*args: object) -> str:
    """The one message of a command that is refused."""
    result = CliRunner().invoke(app, ["knowledge", *map(str, args)])
    assert isinstance(result.exception, FaceDataError), result.exception
    return str(result.exception)


def test_an_input_is_never_overwritten(tmp_path: Path) -> None:
    path, k = tmp_path / "m.parquet", tmp_path / "k.safetensors"
    manifest("mine", OURS, 60, 0, path)
    run("build", path, "--out", k)
    link = tmp_path / "other.safetensors"
    link.symlink_to(k)
    before = path.read_bytes(), k.read_bytes()
    assert "ends in .safetensors" in error_of("build", path, "--out", path)
    assert "ends in .safetensors" in error_of("build", path, "--out", tmp_path / "k.parquet")
    for out in (k, link):
        assert f"this is the input {k}" in error_of("build", k, "--out", out)
        assert f"this is the input {k}" in error_of("mine", k, "--out", out)
    assert before == (path.read_bytes(), k.read_bytes())


def test_what_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    path, k, file = tmp_path / "m.parquet", tmp_path / "k.safetensors", tmp_path / "file"
    manifest("mine", OURS, 60, 0, path)
    run("build", path, "--out", k)
    file.touch()
    (tmp_path / "folder.safetensors").mkdir()
    assert "this is a folder" in error_of("build", path, "--out", tmp_path / "folder.safetensors")
    assert "this is a folder" in error_of("mine", k, "--out", tmp_path)
    for command in (("build", path), ("mine", k), ("plot", k)):
        out = file / "deep" / "x.safetensors"
        assert f"--out {out}: cannot write" in error_of(*command, "--out", out)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "file", "folder.safetensors", "k.safetensors", "m.parquet", "m.schema.json",
    ]  # fmt: skip


def test_check_and_build_look_at_what_is_in_a_file(tmp_path: Path) -> None:
    manifest("mine", OURS, 60, 0, tmp_path / "m.parquet")
    run("build", tmp_path / "m.parquet", "--out", tmp_path / "k.safetensors")
    odd = (tmp_path / "k.safetensors").rename(tmp_path / "k.kn")
    rules = rule_file(tmp_path / "rules.safetensors", BALD)
    assert "checksum fit together" in run("check", odd, rules)
    again = tmp_path / "again.safetensors"
    run("build", odd, "--out", again)
    assert Knowledge.load(again).cooccurrence.rows == 40


def test_labels_are_counted_once(pair: tuple[Path, Path], tmp_path: Path) -> None:
    ours, theirs = pair
    first, both = tmp_path / "first.safetensors", tmp_path / "both.safetensors"
    build([ours])[0].save(first)
    build([first, theirs], mappings=MAPPING)[0].save(both)
    copied = tmp_path / "copy.parquet"
    copied.write_bytes(ours.read_bytes())
    bare = tmp_path / "bare.parquet"  # which names no label files
    save_manifest(
        Manifest("bare", np.array(["a", "b"]), np.zeros(2, np.int8), ("Bald",), np.array([[0], [1]], np.int8)), bare
    )
    build([bare])[0].save(tmp_path / "bare.safetensors")
    for inputs in ([ours, ours], [ours, copied], [ours, first], [first, first], [first, both], [both, theirs],
                   [bare, bare], [bare, tmp_path / "bare.safetensors"]):  # fmt: skip
        with pytest.raises(FaceDataError, match="count the same labels"):
            build(inputs, mappings=MAPPING if theirs in inputs else None)
    assert build([bare, first])[0].cooccurrence.rows == 402


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    manifest("celeba", OURS, 60, 0, tmp_path / "a.parquet")
    rows = {"expression": np.array([0, 1] * 30, dtype=np.int16)}
    images = np.array([f"{i}.jpg" for i in range(60)])
    made = Manifest("other", images, np.zeros(60, np.int8), classes={"expression": ("sad", "happy")}, labels=rows)
    save_manifest(made, tmp_path / "b.parquet")
    with pytest.raises(FaceDataError, match=r"b.parquet: none of its attributes .*--mapping\) of 'other'"):
        build([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    extended = {"other": {"expression:sad": "Sad"}}  # a name that none of ours has: it becomes one
    assert build([tmp_path / "a.parquet", tmp_path / "b.parquet"], mappings=extended)[0].vocabulary == (*OURS, "Sad")


def test_rules_that_contradict_each_other_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pysat")
    manifest("celeba", OURS, 60, 0, tmp_path / "m.parquet")
    rules = rule_file(
        tmp_path / "r.yaml", Rule("at_least_one", of=("Bald",)), Rule("implication", ("Bald",), ("Male",)),
        Rule("implication", ("Bald",), ("not Male",)), Rule("exclusion", of=("Young", "Male")),
    )  # fmt: skip
    out = tmp_path / "k.safetensors"
    message = error_of("build", tmp_path / "m.parquet", "--rules", rules, "--max-rate", 1, "--out", out)
    assert "contradict each other: at least one of {Bald}; Bald => Male; Bald => not Male." in message
    assert not out.exists()
    run("build", tmp_path / "m.parquet", "--rules", rules, "--out", out)  # those that are dropped contradict nobody
    monkeypatch.setitem(sys.modules, "pysat.solvers", None)
    assert "note: whether the rules contradict each other was not checked" in run(
        "build", tmp_path / "m.parquet", "--rules", rules, "--max-rate", 1, "--out", out
    )


def test_groups_that_an_input_left_out_stay_out(pair: tuple[Path, Path], tmp_path: Path) -> None:
    ours, theirs = pair
    nog = tmp_path / "nog.safetensors"
    build([ours], without=["gender"], max_rate=1.0)[0].save(nog)
    again, notes = build([nog, theirs], mappings=MAPPING, max_rate=1.0)
    assert "gender" not in {rule.group for rule in again.rules}
    assert again.meta["without"] == ["gender"] and f"'gender' stay out, as in {nog}" in notes[-1]
    chosen, _ = build([nog, theirs], rules=[rule_file(tmp_path / "r.yaml", BALD)], mappings=MAPPING, max_rate=1.0)
    assert [rule.group for rule in chosen.rules] == ["gender"]


def test_one_data_set_at_a_time(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Manifest]] = []

    def watched(path: Path) -> Manifest:
        gc.collect()
        assert not [manifest for manifest in alive if manifest() is not None]
        found = load_manifest(path)
        alive.append(weakref.ref(found))
        return found

    monkeypatch.setattr("llava_face_plugin.data.knowledge_source.load_manifest", watched)
    sources = [read_source(path, "train") for path in pair]
    assert all(callable(source.content) for source in sources)  # no labels are held
    monkeypatch.setattr("llava_face_plugin.knowledge.build._CHUNK", 7)
    knowledge, _ = build(list(pair), mappings=MAPPING)
    assert knowledge.cooccurrence.rows == 600 and len(alive) == 6


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is at hand: a prompt is one token."""
    monkeypatch.setattr(switch, "prompt_token_ids", lambda _, prompts: [[1] for _ in prompts])


def test_enabling_on_held_out_labels_is_warned_of(tmp_path: Path, tokens: None) -> None:
    manifest("mine", OURS, 60, 0, tmp_path / "m.parquet")
    for split in ("train", "val", "all"):
        path = tmp_path / f"{split}.safetensors"
        build([tmp_path / "m.parquet"], split=split)[0].save(path)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            switch.resolve_knowledge(tmp_path, path, 0.4)
        said = [str(warning.message) for warning in caught]
        assert len(said) == (split != "train") and all(f"{path}: counted from split '{split}'" in text for text in said)


def test_enabling_contradictory_rules_is_refused(tmp_path: Path, tokens: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pysat")
    rules = [Rule("at_least_one", of=("a",), group="odd"), Rule("at_least_one", of=("not a",))]
    labels = np.array([[0, 1], [1, 0]], dtype=np.int8)
    path = tmp_path / "k.safetensors"
    Knowledge.build(("a", "b"), [labels], rules, 1.0, {"split": "train"}).save(path)
    with pytest.raises(FaceDataError, match=r"contradict each other: at least one of \{a\}; at least one of \{not a\}"):
        switch.resolve_knowledge(tmp_path, path, 0.4)
    assert len(switch.resolve_knowledge(tmp_path, path, 0.4, ["odd"])["rules"]) == 1
    monkeypatch.setitem(sys.modules, "pysat.solvers", None)
    assert len(switch.resolve_knowledge(tmp_path, path, 0.4)["rules"]) == 2
