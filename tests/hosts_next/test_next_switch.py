"""Directories of LLaVA-NeXT: enable, the guard, the doctor, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from llava_face_plugin.errors import FaceHostError
from llava_face_plugin.hosts.doctor import Report, examine
from llava_face_plugin.hosts.doctor_data import check_data
from llava_face_plugin.model_files import read_config, write_config
from llava_face_plugin.switch import disable, enable
from tests.hosts_next import next_models, next_run
from tests.hosts_next.conftest import Assets

pytestmark = pytest.mark.contract

PIN = transformers.__version__.startswith("4.40.")
KINDS = ("qwen2", "vicuna", "llava_qwen", "qwen2-trained", "llava")
"""Two plain language models, and checkpoints that call themselves by three names."""


@pytest.fixture
def directory(assets: Assets, tmp_path: Path) -> Callable[[str], Path]:
    """A directory of one of the ``KINDS``, the test's own."""

    def make(kind: str) -> Path:
        trained = kind in ("llava_qwen", "qwen2-trained", "llava")
        source = next_models.plain(assets) if trained else getattr(assets, kind.removesuffix("2"))
        out = Path(shutil.copytree(source, tmp_path / f"{'llava-' * trained}{kind.replace('llava_', '')}"))
        if kind in ("llava_qwen", "llava"):
            write_config(out, {**read_config(out), "model_type": kind})
        return out

    return make


def problems(report: Report) -> dict[str, str]:
    return {f.what: f.detail for f in report.findings if f.level == "problem"}


@pytest.mark.parametrize("kind", KINDS)
def test_enable_and_disable_leave_a_directory_as_it_was(directory: Callable[[str], Path], kind: str) -> None:
    path = directory(kind)
    before = read_config(path)
    enable(path, knowledge="made")
    found = examine(path, on=True)
    assert problems(found) == {}, kind
    host = next(f.detail for f in found.findings if f.what == "llava")
    assert host.startswith("LLaVA-NeXT in ") and transformers.__version__ in host
    assert disable(path) and read_config(path) == before and problems(examine(path)) == {}


REFUSED = """
import sys
import llava.model
from llava.model import LlavaQwenForCausalLM, LlavaLlamaForCausalLM
for path in sys.argv[1:]:
    cls = LlavaLlamaForCausalLM if "vicuna" in path else LlavaQwenForCausalLM
    try:
        cls.from_pretrained(path)
        print("LOADED")
    except Exception as error:
        print(type(error).__name__, str(error).replace("\\n", " "))
"""


@pytest.mark.skipif(not PIN, reason="without the plugin's mends LLaVA-NeXT does not import on this transformers")
def test_plain_upstream_refuses_each_by_name(directory: Callable[[str], Path], tmp_path: Path) -> None:
    paths = [directory(kind) for kind in KINDS]
    for path in paths:
        enable(path, knowledge="made")
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, *map(str, paths)], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env=next_run.environment(None, LLAVA_FACE="0", LLAVA_FACE_CPU_DRY_RUN=None),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = [line for line in done.stdout.splitlines() if "Error" in line or "LOADED" in line]
    assert [word in line for word, line in zip(
        ("llava_face_plugin is not active", "llava_face_plugin is not active", "face+mlp2x_gelu", "face+mlp2x_gelu",
         "face+mlp2x_gelu"), told, strict=True,
    )] == [True] * 5, told  # fmt: skip


@pytest.mark.parametrize(
    ("upstream", "model_type"),
    [
        ("LlavaMistralForCausalLM", "mistral"),
        ("LlavaMixtralForCausalLM", "mixtral"),
        ("LlavaGemmaForCausalLM", "gemma"),
        ("LlavaQwenForCausalLM", "qwen2_moe"),
        ("LlavaMistralForCausalLM", "llava"),
    ],
)
def test_other_language_models_are_refused(directory: Callable[[str], Path], upstream: str, model_type: str) -> None:
    import llava.model as models

    if not hasattr(models, upstream):
        pytest.skip(f"upstream could not import {upstream} here")
    path = directory("qwen2")
    enable(path)
    write_config(path, {**read_config(path), "model_type": model_type})
    with pytest.raises(FaceHostError, match="supports LlavaQwenForCausalLM"):
        getattr(models, upstream).from_pretrained(str(path))


def test_a_published_checkpoint_is_told_what_to_change(directory: Callable[[str], Path]) -> None:
    """train.py reads the config by AutoConfig: "llava" is transformers' own class, which upstream cannot build from."""
    from llava.model import LlavaQwenForCausalLM
    from transformers import AutoConfig

    path = directory("llava")
    enable(path)
    with pytest.raises(FaceHostError, match="write 'qwen2'"):
        LlavaQwenForCausalLM.from_pretrained(str(path), config=AutoConfig.from_pretrained(str(path)))
    assert type(LlavaQwenForCausalLM.from_pretrained(str(path))).__name__ == "LlavaFaceQwenForCausalLM"


def test_a_fusion_that_adds_tokens_is_refused(directory: Callable[[str], Path]) -> None:
    from llava.model import LlavaQwenForCausalLM

    path = directory("qwen2")
    enable(path, settings={"fusion": {"type": "append"}})
    with pytest.raises(FaceHostError, match="gated_add or channel"):
        LlavaQwenForCausalLM.from_pretrained(str(path))


def test_a_transformers_that_was_not_tried_is_refused(
    directory: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from llava.model import LlavaQwenForCausalLM

    from llava_face_plugin.hosts.compat import next_compat

    path = directory("qwen2")
    enable(path)
    monkeypatch.setattr(next_compat, "release_of", lambda name: (5, 1, 0))
    with pytest.raises(FaceHostError, match=r"5\.1\.0.*4\.40\.x.*4\.57\.x"):
        LlavaQwenForCausalLM.from_pretrained(str(path))
    assert "5.1.0" in problems(examine(path))["llava"]


def test_another_commit_is_told_by_its_signatures(
    directory: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import llava.model.llava_arch as arch

    path = directory("qwen2")
    enable(path)
    monkeypatch.setattr(arch.LlavaMetaForCausalLM, "encode_images", lambda self, images, videos: None)
    assert "encode_images" in problems(examine(path))["llava"] and "df17966" in problems(examine(path))["llava"]


def test_the_doctor_reads_samples_of_llava_next(
    assets: Assets, directory: Callable[[str], Path], tmp_path: Path
) -> None:
    path = directory("qwen2")
    enable(path, knowledge="made")
    report = examine(path)
    check_data(report, assets.data / "mixed.json", assets.data, decode=True, show_progress=False)
    assert problems(report) == {}
    # image0-2 and the first of "several" have a map; those four samples, the video and the frames have attributes
    assert report.findings[-1].detail == "8 samples: 4 with a map, 6 with attributes, 1 text only"
    samples: list[dict[str, Any]] = json.loads((assets.data / "mixed.json").read_text())
    samples[0]["face_attributes"] = {"Smilling": 1}
    samples[4]["face_map"] = ["maps/face0.png", "maps/face0.png"]
    samples[5]["video"] = "nowhere.mp4"
    data = tmp_path / "bad.json"
    data.write_text(json.dumps(samples))
    report = examine(path)
    check_data(report, data, assets.data, show_progress=False)
    found = [f.detail for f in report.findings if f.what == "data" and f.level == "problem"]
    assert [f"row {row}" in text for row, text in zip((0, 4, 5), found, strict=True)] == [True] * 3, found
