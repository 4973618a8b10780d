"""``llava-face attributes``: a model directory and pictures in, attributes out."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from llava_face_plugin.cli.main import app
from llava_face_plugin.errors import FaceConfigError, FaceDataError, FaceError, FaceHostError
from llava_face_plugin.hosts import attributes as face_attributes
from llava_face_plugin.hosts.attributes import FaceModel, has_map
from llava_face_plugin.hosts.llava import causal_lm
from llava_face_plugin.knowledge.decode import decode
from llava_face_plugin.maps.files import open_image
from llava_face_plugin.model_files import read_config, write_config
from llava_face_plugin.parsing.precomputed import PrecomputedParser
from llava_face_plugin.switch import disable, enable

from . import upstream

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def source(base: Path, root: Path) -> Path:
    out = root / "base-attributes"
    enable(base, knowledge="made", out=out)
    return out


@pytest.fixture(scope="module")
def trained(source: Path, base: Path, faces: Path, root: Path) -> Path:
    """A face checkpoint in a directory whose name says nothing to LLaVA's loader."""
    out = root / "trained-for-attributes"
    upstream.train(upstream.flags(source, base / "clip", faces, out, max_steps=1))
    return out


@pytest.fixture(scope="module")
def model(trained: Path) -> FaceModel:
    return FaceModel.load(trained)


@pytest.fixture(scope="module")
def pictures(faces: Path) -> list[Path]:
    return sorted((faces / "images").iterdir())[:5]


def ask(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["attributes", *map(str, arguments)])


def told(*arguments: Any) -> dict[str, Any]:
    result = ask(*arguments, "--json")
    assert result.exit_code in (0, 1), result.output
    return {**json.loads(result.stdout), "exit_code": result.exit_code}


def table(result: dict[str, Any]) -> np.ndarray:
    return np.array([[a["probability"] for a in image["attributes"].values()] for image in result["images"]])


def test_json_says_what_the_model_and_the_rules_say(model: FaceModel, trained: Path, pictures: list[Path]) -> None:
    pytest.importorskip("pysat", reason="needs the extra knowledge")
    result = told(*pictures, "--model", trained, "--threshold", "0.03")  # so low that rules are broken
    assert result["exit_code"] == 0 and result["trained"] and result["rules"] == 15 and not result["failed"]
    assert "no-map state" in result["maps"] and "annotators" in result["note"]
    rules = [item.rule for item in model.knowledge.rules]
    names = model.knowledge.vocabulary
    changes = 0
    for path, answer in zip(pictures, result["images"], strict=True):
        assert answer["image"] == str(path) and answer["map"] is False
        (row,) = model.probabilities([model.prepare(open_image(path))])
        expected = decode(row, rules, names, 0.03)
        found = answer["attributes"]
        assert tuple(found) == names
        np.testing.assert_allclose([a["probability"] for a in found.values()], row, atol=1e-6)
        assert [a["present"] for a in found.values()] == expected.present.tolist()
        assert answer["changed"] == [n for n, a in found.items() if a["changed"]] == list(expected.changed)
        assert answer["rules_broken_before"] == [rule.text() for rule in expected.broken]
        changes += len(answer["changed"])
    assert changes > 0
    plain = told(*pictures, "--model", trained, "--threshold", "0.03", "--no-rules")
    assert plain["rules"] == 0 and not any(answer["changed"] for answer in plain["images"])
    assert all(
        a["present"] == (a["probability"] >= 0.03) for answer in plain["images"] for a in answer["attributes"].values()
    )


def test_a_batch_is_its_single_images(trained: Path, pictures: list[Path], model: FaceModel) -> None:
    """LLaVA loads in half precision, and its results do not depend on what is asked along with an image."""
    together = table(told(*pictures, "--model", trained, "--no-rules"))
    by_two = table(told(*pictures, "--model", trained, "--no-rules", "--batch-size", "2"))
    single = np.stack([model.probabilities([model.prepare(open_image(path))])[0] for path in pictures])
    np.testing.assert_allclose(by_two, together, atol=2e-6)
    np.testing.assert_allclose(single, together, atol=2e-6)
    assert np.ptp(together, axis=0).max() > 1e-3  # the pictures do differ


def test_bad_images_are_counted_and_the_rest_is_answered(trained: Path, pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "half.jpg").write_bytes(pictures[0].read_bytes()[:900])
    (tmp_path / "text.jpg").write_text("no picture")
    Image.new("L", (30, 50)).save(tmp_path / "gray.png")
    bad = [tmp_path / name for name in ("empty.jpg", "half.jpg", "text.jpg", "nowhere.jpg")]
    given = [bad[0], pictures[0], *bad[1:], tmp_path / "gray.png"]
    result = told(*given, "--model", trained, "--no-rules")
    assert result["exit_code"] == 1
    assert [answer["image"] for answer in result["images"]] == [str(pictures[0]), str(tmp_path / "gray.png")]
    assert [failure["image"] for failure in result["failed"]] == list(map(str, bad))
    assert all(failure["image"] in failure["error"] for failure in result["failed"])
    shown = ask(*given, "--model", trained, "--no-rules")
    assert shown.exit_code == 1 and "4 images failed" in shown.stdout and "2 images:" in shown.stdout
    nothing = told(*bad, "--model", trained)
    assert nothing["exit_code"] == 1 and nothing["images"] == []


def test_the_table_for_people(trained: Path, pictures: list[Path]) -> None:
    pytest.importorskip("pysat", reason="needs the extra knowledge")
    shown = ask(pictures[0], "--model", trained, "--threshold", "0.03")
    assert shown.exit_code == 0
    answer = told(pictures[0], "--model", trained, "--threshold", "0.03")["images"][0]
    lines = shown.stdout.splitlines()
    for name, found in answer["attributes"].items():
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        words = ["yes" if found["present"] else "no", *(["changed"] if found["changed"] else [])]
        assert line.split()[1:] == [f"{found['probability']:.3f}", *words]
    number = len(answer["changed"])
    assert f"1 images: the rules changed {number} attributes, in {int(number > 0)} of them" in lines
    assert lines[-1].startswith("An attribute is a label") and "no-map state" in lines[1]


def test_rule_groups_are_left_out(trained: Path, pictures: list[Path]) -> None:
    result = told(pictures[0], "--model", trained, "--without", "gender")
    assert result["rules"] == 12
    assert told(pictures[0], "--model", trained, "--without", "gender", "--without", "hair")["rules"] == 5
    with pytest.raises(FaceConfigError, match="unknown rule group 'gendre'; did you mean 'gender'"):
        raise ask(pictures[0], "--model", trained, "--without", "gendre").exception


def test_without_the_solver_the_extra_is_named(
    trained: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pysat.examples.rc2", None)
    low = [pictures[0], "--model", trained, "--threshold", "0.03"]
    with pytest.raises(FaceHostError, match=r"llava-face-plugin\[knowledge\].*--no-rules"):
        raise ask(*low).exception
    assert ask(*low, "--no-rules").exit_code == 0
    assert ask(pictures[0], "--model", trained).exit_code == 0  # no rule is broken: no solver is asked


def test_maps_come_from_a_store_or_the_models_parser(
    trained: Path, faces: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def build(config: Any) -> Any:
        parser = config.segmentation.parser
        return None if parser is None else PrecomputedParser(parser.path)

    for module in (face_attributes, causal_lm):
        monkeypatch.setattr(module, "build_parser", build)
    Image.new("RGB", (40, 30), (9, 9, 9)).save(tmp_path / "stranger.png")
    given = [*pictures, tmp_path / "stranger.png"]
    stored = told(*given, "--model", trained, "--maps", faces)
    assert stored["maps"] == f"parser precomputed, {faces}"
    assert [answer["map"] for answer in stored["images"]] == [True] * len(pictures) + [False]
    configured = tmp_path / "llava-parser"
    parser = {"parser": {"type": "precomputed", "path": str(faces / "index.json")}}
    enable(trained, knowledge="made", out=configured, settings={"segmentation": parser})
    np.testing.assert_array_equal(table(told(*given, "--model", configured)), table(stored))
    nowhere = ask(*given, "--model", trained, "--maps", tmp_path / "nowhere")  # one error, not one an image
    with pytest.raises(FaceDataError, match="nowhere: no such file or folder"):
        raise nowhere.exception


def test_the_map_changes_the_answer_once_the_gate_is_open(trained: Path, pictures: list[Path]) -> None:
    model = FaceModel.load(trained)
    torch.nn.init.constant_(model.model.get_model().mm_projector.face.fusion.gate, 1.0)
    plain = model.prepare(open_image(pictures[0]))
    mapped = plain.clone()
    mapped[3] = 13  # all hair
    assert has_map(mapped) and not has_map(plain)
    first, second = model.probabilities([plain, mapped])
    assert np.abs(first - second).max() > 1e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threshold", "1.0"], "--threshold is 1.0"),
        (["--device", "gpu"], "--device 'gpu' is no torch device"),
        (["--device", "cuda"], "torch finds no CUDA device"),
    ],
)
def test_wrong_options_are_named(trained: Path, pictures: list[Path], arguments: list[str], message: str) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(FaceError, match=message):
        raise ask(pictures[0], "--model", trained, *arguments).exception


def test_a_model_without_knowledge_is_one_error(checkpoint: Path, pictures: list[Path], tmp_path: Path) -> None:
    with pytest.raises(FaceConfigError, match="face mode is off"):
        raise ask(*pictures, "--model", checkpoint).exception
    out = tmp_path / "llava-light"
    enable(checkpoint, out=out)
    with pytest.raises(FaceConfigError, match="no knowledge.*--knowledge FILE"):
        raise ask(*pictures, "--model", out).exception
    disable(out)
    with pytest.raises(FaceConfigError, match="face mode is off"):
        raise ask(*pictures, "--model", out).exception
    with pytest.raises(FaceError, match="nowhere"):
        raise ask(*pictures, "--model", tmp_path / "nowhere").exception


def test_a_model_that_was_never_trained_says_so(checkpoint: Path, pictures: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "llava-untrained"
    enable(checkpoint, knowledge="made", out=out)
    shown = ask(pictures[0], "--model", out)
    assert shown.exit_code == 0 and "no trained face weights" in shown.stdout
    assert told(pictures[0], "--model", out)["trained"] is False


def test_a_base_that_training_has_not_seen_is_one_error(source: Path, pictures: list[Path]) -> None:
    """Enabled, but without a vision tower: LLaVA's loader fails on it with an AttributeError."""
    with pytest.raises(FaceConfigError, match="not trained yet .*no mm_vision_tower"):
        raise ask(pictures[0], "--model", source).exception


def test_a_damaged_model_is_one_error(trained: Path, pictures: list[Path], tmp_path: Path) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "damaged"))
    (out / "model.safetensors").write_bytes((trained / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(FaceHostError, match="damaged: LLaVA cannot load it"):
        raise ask(pictures[0], "--model", out).exception


def test_tiles_are_refused(trained: Path, pictures: list[Path], tmp_path: Path) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "anyres"))
    config = read_config(out)
    write_config(out, config | {"image_aspect_ratio": "anyres", "image_grid_pinpoints": [[56, 112], [112, 56]]})
    with pytest.raises(FaceHostError, match="anyres"):
        raise ask(pictures[0], "--model", out).exception


def test_an_adapter_is_loaded_on_its_base(
    source: Path, base: Path, faces: Path, root: Path, pictures: list[Path]
) -> None:
    out = root / "adapter-for-attributes"
    upstream.train(upstream.flags(source, base / "clip", faces, out, "lora", max_steps=1))
    with pytest.raises(FaceConfigError, match="--model-base"):
        raise ask(pictures[0], "--model", out).exception
    with pytest.raises(FaceHostError, match="LLaVA cannot load it"):
        raise ask(pictures[0], "--model", out, "--model-base", root / "nowhere").exception
    with pytest.raises(FaceConfigError, match="leave --model-base out"):
        raise ask(pictures[0], "--model", source, "--model-base", base).exception
    result = told(pictures[0], "--model", out, "--model-base", base)
    assert result["trained"] and len(result["images"][0]["attributes"]) == 20


@pytest.mark.parametrize("own", [False, True])
def test_a_vit_that_reads_the_palette(
    own: bool, checkpoint: Path, base: Path, pictures: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "llava-palette"
    tower = {"vision_tower": str(base / "clip")} if own else {}
    enable(checkpoint, preset="faceinsight", knowledge="made", out=out, settings={"segmentation": tower})
    model = FaceModel.load(out)
    images = [model.prepare(open_image(path)) for path in pictures[:2]]
    images[0][3] = 13
    found = model.probabilities(images)
    assert found.shape == (2, 20) and found.dtype == np.float64 and bool(((found > 0) & (found < 1)).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_finite_equal_probabilities(trained: Path, pictures: list[Path], dtype: Any) -> None:
    model = FaceModel.load(trained)
    images = torch.stack([model.prepare(open_image(path)) for path in pictures])
    expected = model.model.attribute_probabilities(images)
    model.model.to(dtype)
    found = model.model.attribute_probabilities(images.to(dtype))
    assert found.dtype == torch.float32 and bool(torch.isfinite(found).all())
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.0)
    assert (found - expected).abs().max() > 0  # it is not the same computation
    wild = model.model.attribute_probabilities(images.to(dtype) * 30)
    assert bool(torch.isfinite(wild).all()) and bool(((wild >= 0) & (wild <= 1)).all())


def test_as_a_process(trained: Path, pictures: list[Path], tmp_path: Path) -> None:
    """Nothing but JSON on stdout, exit codes, and one line for an error."""
    command = [upstream.python(), "-m", "llava_face_plugin.cli.main", "attributes"]
    done = upstream.run([*command, *pictures[:2], "--model", trained, "--json"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [answer["image"] for answer in json.loads(done.stdout)["images"]] == list(map(str, pictures[:2]))
    wrong = upstream.run([*command, pictures[0], "--model", tmp_path], cwd=tmp_path)
    assert wrong.returncode == 1 and wrong.stdout == ""
    assert wrong.stderr.startswith("error: ") and len(wrong.stderr.strip().splitlines()) == 1
