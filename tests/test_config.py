"""The face block: defaults, round trip, off forms, and one clear error for everything that is wrong."""

from __future__ import annotations

import json
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest

from llava_face_plugin.config import PRESETS, FaceConfig, merged
from llava_face_plugin.encoders import ENCODERS, READERS
from llava_face_plugin.errors import FaceConfigError
from llava_face_plugin.fusion import FUSIONS

KNOWLEDGE: dict[str, Any] = {
    "file": "celeba.safetensors",
    "sha256": "0" * 64,
    "attributes": [
        {"name": "Bald", "prompt": "bald", "tokens": [3], "prior": 0.1},
        {"name": "Bangs", "prompt": "bangs", "tokens": [4, 5], "prior": 1},
        {"name": "Smiling", "prompt": "smiling", "tokens": [6]},
    ],
    "graph": {"Bald": {"Smiling": 0.6}},
    "rules": [
        {"kind": "implication", "if": ["Bald"], "then": ["not Bangs"], "group": "hair", "weight": 0.5},
        {"kind": "at_most_one", "of": ["Bald", "!Bangs", "Smiling"]},
    ],
    "without": ["gender"],
}
FULL: dict[str, Any] = {
    "enabled": True,
    "version": 1,
    "preset": "faceinsight",
    "segmentation": {"encoder": "vit-palette", "vision_tower": "some/clip", "vision_width": 32},
    "fusion": {"type": "append", "pool": 2},
    "knowledge": KNOWLEDGE,
}


def with_value(path: str, value: Any) -> dict[str, Any]:
    """``FULL`` with one value replaced or added; a number in the path indexes a list."""
    block = deepcopy(FULL)
    place: Any = block
    *parents, last = path.split(".")
    for key in parents:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[int(last) if isinstance(place, list) else last] = value
    return block


@pytest.mark.parametrize("block", [{}, {"enabled": True}, {"preset": "light"}])
def test_an_almost_empty_block_is_the_light_preset(block: dict[str, Any]) -> None:
    face = FaceConfig.parse(block)
    assert (face.enabled, face.version, face.preset) == (True, 1, "light")
    assert (face.segmentation.encoder, face.fusion.type) == ("part-embedding", "gated_add")
    assert face.knowledge is None


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_name_registered_parts(preset: str) -> None:
    parts = {"facial": {"path": "farl.pth"}} if "facial" in PRESETS[preset] else {}
    face = FaceConfig.parse({"preset": preset, "knowledge": KNOWLEDGE, **parts})
    assert face.fusion.type in FUSIONS
    assert face.segmentation.encoder in ENCODERS or face.segmentation.encoder is None
    assert face.facial is None or face.facial.encoder in READERS


def test_what_is_written_is_laid_over_the_preset() -> None:
    block = {"preset": "faceinsight", "knowledge": KNOWLEDGE, "segmentation": {"width": 99}}
    face = FaceConfig.parse(block)
    assert (face.segmentation.encoder, face.segmentation.width) == ("vit-palette", 99)


@pytest.mark.parametrize("block", [{}, FULL, {"knowledge": KNOWLEDGE, "fusion": {"type": "channel"}}])
def test_round_trip_through_json(block: dict[str, Any]) -> None:
    face = FaceConfig.parse(block)
    written = json.loads(json.dumps(face.to_dict()))
    again = FaceConfig.parse(written)
    assert again == face and again.to_dict() == written


def test_written_block_keeps_every_value_given() -> None:
    def contains(whole: Any, part: Any) -> bool:
        if isinstance(part, dict):
            return all(key in whole and contains(whole[key], value) for key, value in part.items())
        if isinstance(part, list):
            return len(whole) == len(part) and all(map(contains, whole, part))
        return bool(whole == part)

    assert contains(FaceConfig.parse(FULL).to_dict(), FULL)


def test_parsing_leaves_its_input_alone() -> None:
    block = deepcopy(FULL)
    FaceConfig.parse(block)
    assert block == FULL
    assert PRESETS["light"] == {
        "segmentation": {"encoder": "part-embedding"},
        "fusion": {"type": "gated_add"},
    }


@pytest.mark.parametrize("config", [{}, {"face": None}, {"face": False}, {"face": {"enabled": False}}])
def test_off_forms(config: dict[str, Any]) -> None:
    assert FaceConfig.of(config) is None
    assert FaceConfig.of(SimpleNamespace(**config)) is None


def test_off_is_off_even_where_the_rest_is_wrong() -> None:
    assert FaceConfig.of({"face": {"enabled": False, "version": 99, "nonsense": 1}}) is None


def test_of_reads_dicts_and_objects() -> None:
    assert FaceConfig.of({"face": FULL}) == FaceConfig.of(SimpleNamespace(face=FULL)) == FaceConfig.parse(FULL)


def test_of_names_the_file_or_the_model() -> None:
    with pytest.raises(FaceConfigError, match=r"^/models/x: face.fusion"):
        FaceConfig.of(SimpleNamespace(face={"fusion": 3}, _name_or_path="/models/x"))
    with pytest.raises(FaceConfigError, match=r"^here.json: face.fusion"):
        FaceConfig.of({"face": {"fusion": 3}}, "here.json")
    with pytest.raises(FaceConfigError, match=r"^config.json: face.fusion"):
        FaceConfig.of({"face": {"fusion": 3}})


@pytest.mark.parametrize("block", [True, 1, "on", [], ["face"]])
def test_a_block_that_is_no_object(block: Any) -> None:
    with pytest.raises(FaceConfigError, match="face must be an object such as"):
        FaceConfig.of({"face": block})


WRONG: list[tuple[str, Any, str]] = [
    # broken types: nothing is converted
    ("enabled", "yes", "face.enabled: "),
    ("preset", ["light"], "face.preset: "),
    ("segmentation", "vit-palette", "face.segmentation: "),
    ("segmentation", None, "face.segmentation: "),
    ("segmentation.width", "256", "face.segmentation.width: Input should be a valid integer, not '256'"),
    ("segmentation.width", 2.5, "face.segmentation.width: "),
    ("segmentation.width", True, "face.segmentation.width: "),
    ("segmentation.encoder", None, "face.segmentation: vision_tower is for encoder 'vit-palette', not None"),
    ("knowledge", [], "face.knowledge: "),
    ("knowledge.attributes", "Bald", "face.knowledge.attributes: "),
    ("knowledge.attributes.1.tokens", ["a"], "face.knowledge.attributes.1.tokens.0: "),
    ("knowledge.graph", {"Bald": ["Smiling"]}, "face.knowledge.graph.Bald: "),
    ("knowledge.binarize", 1, "face.knowledge.binarize: "),
    # values out of range
    ("version", 2, "face.version: Input should be 1, not 2"),
    ("preset", "lite", "face.preset: unknown preset 'lite'; did you mean 'light'?"),
    ("segmentation.width", 0, "face.segmentation.width: "),
    ("segmentation.cells", 9, "face.segmentation.cells: "),
    ("segmentation.bad_map", "skip",
     "face.segmentation.bad_map: Input should be 'error' or 'no-map', not 'skip'"),
    ("segmentation.parser", "facer", "face.segmentation.parser: "),
    ("fusion.pool", 3, "face.fusion.pool: Input should be 1 or 2, not 3"),
    ("knowledge.tau", 1.5, "face.knowledge.tau: "),
    ("knowledge.omega", -0.1, "face.knowledge.omega: "),
    ("knowledge.temperature", 0, "face.knowledge.temperature: "),
    ("knowledge.temperature", float("inf"), "face.knowledge.temperature: "),
    ("knowledge.bce_weight", float("nan"), "face.knowledge.bce_weight: "),
    ("knowledge.logic_weight", -1, "face.knowledge.logic_weight: "),
    ("knowledge.layers", 0, "face.knowledge.layers: "),
    ("knowledge.graph.Bald.Smiling", 1.5, "face.knowledge.graph.Bald.Smiling: "),
    ("knowledge.attributes.0.prior", -0.5, "face.knowledge.attributes.0.prior: "),
    ("knowledge.attributes.0.tokens", [], "face.knowledge.attributes.0.tokens: "),
    ("knowledge.rules.0.weight", 2, "face.knowledge.rules.0.weight: "),
    ("knowledge.rules.0.kind", "imply", "face.knowledge.rules.0.kind: "),
    # unknown keys
    ("segmentatoin", {}, "face.segmentatoin: unknown key 'segmentatoin'; did you mean 'segmentation'?"),
    ("segmentation.encodr", "x", "face.segmentation.encodr: unknown key 'encodr'; did you mean 'encoder'?"),
    ("fusion.pol", 2, "face.fusion.pol: unknown key 'pol'; did you mean 'pool'?"),
    ("knowledge.taau", 0.4, "face.knowledge.taau: unknown key 'taau'; did you mean 'tau'?"),
    ("knowledge.attributes.2.pryor", 0.4,
     "face.knowledge.attributes.2.pryor: unknown key 'pryor'; did you mean 'prior'?"),
    ("knowledge.rules.1.if_", ["Bald"], "face.knowledge.rules.1.if_: unknown key 'if_'; did you mean 'if'?"),
    # impossible combinations
    ("segmentation.parser", {"type": "precomputed"},
     "face.segmentation.parser: parser type 'precomputed' needs a path"),
    ("segmentation.parser", {"type": "facr"}, "face.segmentation.parser.type: "),
    ("segmentation.parser", {"type": "facer", "detector": "assume_cropped"},
     "face.segmentation.parser: parser type 'facer' aligns by five points"),
    ("segmentation.parser", {"type": "compact", "path": "x", "detector": "yunet"},
     "face.segmentation.parser: detector 'yunet' needs detector_path"),
    ("segmentation.parser", {"type": "compact", "path": "x", "align": "celeba-hq"},
     "face.segmentation.parser: align 'celeba-hq' needs a detector's points"),
    ("segmentation.parser", {"type": "torchscript", "path": "x"},
     "face.segmentation.parser: parser type 'torchscript' needs size"),
    ("segmentation.parser", {"type": "compact", "path": "x", "vocabulary": "bisenet"},
     "face.segmentation.parser: vocabulary is for parser types torchscript and precomputed; 'compact' knows its own"),
    ("segmentation.parser", {"type": "facer", "size": 448},
     "face.segmentation.parser: size is for parser types torchscript and segformer; 'facer' knows its own"),
    ("segmentation.parser", "compact", "face.segmentation.parser: "),
    ("segmentation.parser", {"type": "torchscript", "path": "x", "sha256": "abc"},
     "face.segmentation.parser.sha256: "),
    ("segmentation.parser", {"type": "facer", "modle": "farl/lapa/448"},
     "face.segmentation.parser.modle: unknown key 'modle'; did you mean 'model'?"),
    ("segmentation.encoder", "part-embedding",
     "face.segmentation: vision_tower is for encoder 'vit-palette'"),
    ("fusion.type", "gated_add", "face.fusion: pool is for fusion 'append', not 'gated_add'"),
    ("knowledge", None, "face: preset 'faceinsight' needs its knowledge block"),
    ("knowledge.attributes", KNOWLEDGE["attributes"][:1], "face.knowledge.attributes: "),
    ("knowledge.attributes.1.name", "Bald", "face.knowledge: attributes are not unique"),
    ("knowledge.rules.0.then", [], "face.knowledge.rules.0: an implication needs 'if' and 'then'"),
    ("knowledge.rules.1.of", ["Bald"], "face.knowledge.rules.1: at_most_one needs 'of' with at least two"),
    ("knowledge.rules.1.of", ["Bald", "not Bald"], "face.knowledge.rules.1: an attribute occurs twice"),
    ("knowledge.without", ["hair"],
     "face.knowledge: rules.0: its group 'hair' is one that 'without' leaves out"),
    # unknown attributes
    ("knowledge.graph.Hat", {"Bald": 0.5}, "face.knowledge: graph.Hat: unknown attribute 'Hat'"),
    ("knowledge.graph.Bald.Bang", 0.5,
     "face.knowledge: graph.Bald: unknown attribute 'Bang'; did you mean 'Bangs'?"),
    ("knowledge.graph.Bald.Bald", 0.5,
     "face.knowledge: graph.Bald: an attribute cannot be its own neighbour"),
    ("knowledge.rules.0.then", ["not Bang"],
     "face.knowledge: rules.0: unknown attribute 'Bang'; did you mean 'Bangs'?"),
    ("knowledge.rules.1.of", ["Bald", "Smile"], "face.knowledge: rules.1: unknown attribute 'Smile'"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=[f"{p}={str(v)[:20]}" for p, v, _ in WRONG])
def test_one_error_naming_the_key(path: str, value: Any, message: str) -> None:
    with pytest.raises(FaceConfigError) as caught:
        FaceConfig.parse(with_value(path, value), "config.json")
    lines = str(caught.value).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"config.json: {message}")


def test_missing_keys_are_named() -> None:
    with pytest.raises(FaceConfigError, match=r"face\.knowledge\.attributes: Field required"):
        FaceConfig.parse({"knowledge": {"file": "x"}})


def test_every_wrong_key_is_named_at_once() -> None:
    with pytest.raises(FaceConfigError) as caught:
        FaceConfig.parse({"segmentation": {"width": 0, "x": 1}, "fusion": {"pool": 7}}, "f.json")
    places = [line.split(": ")[1] for line in str(caught.value).splitlines()]
    assert sorted(places) == ["face.fusion.pool", "face.segmentation.width", "face.segmentation.x"]


def test_merged_lays_objects_key_by_key_and_copies() -> None:
    base = {"a": {"b": 1, "c": [1]}, "d": 2}
    over = {"a": {"c": [2]}, "e": {"f": 3}}
    out = merged(base, over)
    assert out == {"a": {"b": 1, "c": [2]}, "d": 2, "e": {"f": 3}}
    out["a"]["c"].append(9)
    assert base == {"a": {"b": 1, "c": [1]}, "d": 2} and over["a"] == {"c": [2]}
