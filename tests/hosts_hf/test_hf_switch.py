"""``llava-face enable | disable | doctor`` on directories of transformers' own Llava classes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from llava_face_plugin import guard
from llava_face_plugin.config import FaceConfig
from llava_face_plugin.hosts.doctor import examine
from llava_face_plugin.switch import disable, enable

from .tiny_hf import FAMILIES, VIDEO_FAMILIES, build, load, open_gates, switched_on

pytestmark = pytest.mark.contract


def contents(folder: Path) -> dict[str, Any]:
    files = sorted(folder.iterdir())
    return {f.name: json.loads(f.read_text()) if f.suffix == ".json" else f.stat().st_size for f in files}


@pytest.mark.parametrize("family", FAMILIES)
def test_enable_and_disable_restore_every_file(root: Path, tmp_path: Path, family: str) -> None:
    folder = Path(shutil.copytree(build(family, root / family), tmp_path / family))
    before = contents(folder)
    face = enable(folder, knowledge="made", settings=["fusion.type=channel"])
    written = contents(folder)
    assert FaceConfig.of(written["config.json"]) == face
    assert written["config.json"]["model_type"] == f"face_{family}"
    assert written["config.json"]["architectures"] == [f"Face{before['config.json']['architectures'][0]}"]
    changed = {name for name in written if written[name] != before.get(name)}
    assert changed == {"config.json"} | ({"processor_config.json"} if family not in VIDEO_FAMILIES else set())
    enable(folder)  # once more, with other settings: marks are not doubled
    assert contents(folder)["config.json"]["model_type"] == f"face_{family}"
    assert disable(folder) is True
    assert contents(folder) == before
    assert disable(folder) is False


def test_a_linked_copy_leaves_the_processor_of_the_original_alone(root: Path) -> None:
    out = switched_on("llava", root)
    assert json.loads((out / "processor_config.json").read_text())["processor_class"] == "FaceLlavaProcessor"
    plain = json.loads((root / "llava" / "processor_config.json").read_text())
    assert plain["processor_class"] == "LlavaProcessor"


def test_prompts_are_in_the_models_own_tokens(root: Path) -> None:
    face = FaceConfig.of(json.loads((switched_on("llava", root) / "config.json").read_text()))
    assert face is not None and face.knowledge is not None
    tokenizer = AutoTokenizer.from_pretrained(root / "llava")
    for attribute in face.knowledge.attributes:
        assert attribute.tokens == tokenizer(attribute.prompt, add_special_tokens=False).input_ids


def test_transformers_without_the_plugin_refuses_the_directory(root: Path) -> None:
    code = (
        "import sys\nfrom transformers import AutoModelForImageTextToText\nfor folder in sys.argv[1:]:\n"
        "    try: AutoModelForImageTextToText.from_pretrained(folder)\n    except ValueError as error: print(error)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *(switched_on(family, root) for family in FAMILIES)], capture_output=True,
        text=True, timeout=120, env={**os.environ, "LLAVA_FACE": "0"},
    )  # fmt: skip
    for family in FAMILIES:
        assert f"`face_{family}`" in result.stdout, result.stderr[-2000:]


def test_doctor_knows_the_host(root: Path, tmp_path: Path) -> None:
    source = switched_on("llava", root)
    report = examine(source, on=True)
    told = {finding.what: finding for finding in report.findings}
    assert report.healthy, report.findings
    assert told["host"].detail.startswith("transformers ") and "face_llava" in told["guard"].detail
    assert "llava" not in told and told["face weights"].detail.startswith("none yet")
    assert not examine(source, trained=True).healthy
    model = load(source)
    open_gates(model)
    model.save_pretrained(tmp_path / "trained")
    trained = examine(tmp_path / "trained", on=True, trained=True)
    assert trained.healthy and "tensors" in next(f.detail for f in trained.findings if f.what == "face weights")
    assert not examine(root / "llava", on=True).healthy and examine(root / "llava").healthy


def test_the_family_is_read_off_the_config() -> None:
    assert guard.transformers_family({"model_type": "face_llava_next", "text_config": {}}) == "llava_next"
    assert guard.transformers_family({"model_type": "llava", "mm_vision_tower": "clip"}) is None  # LLaVA 1.5's own
    assert guard.transformers_family({"model_type": "llama", "text_config": {}}) is None
