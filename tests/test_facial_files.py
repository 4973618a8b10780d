"""The facial encoder's weights as ``enable`` meets them: where they lie, what is no such file, and what it says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from llava_face_plugin import summary
from llava_face_plugin.cli.main import app
from llava_face_plugin.config import FaceConfig
from llava_face_plugin.errors import FaceError
from llava_face_plugin.evaluation.lmms_process import Model
from llava_face_plugin.switch import disable, enable

from .core.standin import farl_state, tiny_farl
from .model_folders import LLAVA, LLM, model, read

HF: dict[str, Any] = {
    "model_type": "llava_onevision", "architectures": ["LlavaOnevisionForConditionalGeneration"],
    "text_config": {"model_type": "qwen2"}, "vision_config": {"model_type": "siglip_vision_model"},
}  # fmt: skip
TAPS = "facial.taps=[0, 2]"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 345\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, which is home as well, with ``farl.pth``."""
    shutil.copyfile(tiny_farl(), tmp_path / "farl.pth")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("given", ["farl.pth", "./farl.pth", "~/farl.pth", "{here}/farl.pth"])
def test_the_path_is_written_whole(here: Path, given: str) -> None:
    face = enable(model(here / "m", LLM), preset="favchat", settings=[f"facial.path={given.format(here=here)}", TAPS])
    assert face.facial is not None and face.facial.path == str(here / "farl.pth")


@pytest.mark.parametrize("preset", ["favchat", "favchat-v6"])
@pytest.mark.parametrize("config", [LLM, LLAVA, HF], ids=["llm", "llava", "hf"])
def test_enable_says_what_is_on_and_disable_undoes_it(here: Path, preset: str, config: dict[str, Any]) -> None:
    folder = model(here / "m", config)
    more = ["--auto-map"] if config is HF else []
    told = CliRunner().invoke(
        app, ["enable", str(folder), "--preset", preset, "--set", "facial.path=farl.pth", "--set", TAPS, *more]
    )
    assert told.exit_code == 0, told.output
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in told.stdout.splitlines()}
    assert lines["segmentation"] == "none: label maps are not read"
    assert lines["facial"] == f"farl, frozen, read from {here}/farl.pth; taps 0, 2 at 16 px"
    moe = "moe, 2 of 4 experts a patch, dense dispatch"
    assert lines["fusion"] == (moe if preset == "favchat" else "text-query, reads the prompt")
    assert FaceConfig.of(read(folder)) is not None
    assert disable(folder)
    assert read(folder) == config and not (folder / "face_classes.py").exists()


def test_an_evaluation_knows_the_weights_as_a_source(here: Path) -> None:
    folder = model(here / "m", LLM)
    enable(folder, preset="favchat", settings=["facial.path=farl.pth", TAPS])
    assert (here / "farl.pth").resolve() in Model(path=folder).sources()


def test_both_papers_parts_are_named() -> None:
    block = {"facial": {"path": "/x", "trained": True}, "segmentation": {"encoder": "vit-palette"}}
    face = FaceConfig.parse(block)
    assert summary.sources(face) == "vit-palette and facial encoder farl"
    assert summary.facial(face.facial) == "farl, trained and saved with the branch, from /x; taps 3, 5, 7, 11 at 224 px"
    assert summary.sources(FaceConfig.parse({"preset": "favchat", "facial": None})) == "no face (a control)"
    assert summary.facial(None) == "none"


def cut(path: Path) -> None:
    path.write_bytes(Path(tiny_farl()).read_bytes()[:20_000])


def without(name: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        torch.save({"state_dict": {n: t for n, t in farl_state().items() if n != name}}, path)

    return write


def lfs_directory(path: Path) -> None:
    path.mkdir()
    (path / "model.safetensors").write_text(LFS)


BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("x.pth", lambda p: None, "x.pth: no such file (docs/method.md says where FaRL's are)"),
    "pointer": ("x.pth", lambda p: p.write_text(LFS), "x.pth: a pointer of Git LFS, not the file: run `git lfs pull`"),
    "cut off": ("x.pth", cut, "x.pth: damaged, cut off or another kind of file"),
    "web page": ("x.pth", lambda p: p.write_text("<html>"), "x.pth: damaged, cut off or another kind of file"),
    "empty": ("x.pth", lambda p: p.touch(), "x.pth: damaged, cut off or another kind of file"),
    "safetensors": ("x.safetensors", cut, "x.safetensors: damaged, cut off or another kind of file"),
    "list": ("x.pth", lambda p: torch.save([1], p), "x.pth: expected a dict of tensors by name"),
    "text tower": ("x.pth", lambda p: torch.save({"a": torch.ones(1)}, p), "x.pth: no image tower in the format of"),
    "a weight": ("x.pth", without("visual.ln_pre.bias"), "x.pth: 1 weights are missing: norm.bias"),
    "directory": ("x", lambda p: p.mkdir(), "x: a directory; encoder 'farl' reads a file"),
    "file": ("transformers:farl.pth", lambda p: None, "a file; encoder 'transformers' reads a directory"),
    "its pointer": ("transformers:x", lfs_directory, "model.safetensors: a pointer of Git LFS"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_weights_file_is_refused_in_one_line(here: Path, case: str) -> None:
    name, write, message = BAD[case]
    encoder, _, name = name.rpartition(":")
    write(here / name)
    folder = model(here / "m", LLM)
    settings = [f"facial.path={name}", TAPS, f"facial.encoder={encoder or 'farl'}"]
    with pytest.raises(FaceError) as caught:
        enable(folder, preset="favchat", settings=settings, out=here / "out")
    text = str(caught.value)
    assert message in text and str(here) in text and "\n" not in text and len(text) < 400
    assert read(folder) == LLM and not (here / "out").exists()


@pytest.mark.contract
def test_a_message_of_pages_is_cut(here: Path) -> None:
    pytest.importorskip("transformers")
    (here / "x").mkdir()
    (here / "x" / "config.json").write_text("{}")
    with pytest.raises(FaceError) as caught:
        enable(model(here / "m", LLM), preset="favchat", settings=["facial.encoder=transformers", "facial.path=x"])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 320


def test_a_safetensors_file_will_do(here: Path) -> None:
    save_file(farl_state(), here / "x.safetensors")
    face = enable(model(here / "m", LLM), preset="favchat-v6", settings=["facial.path=x.safetensors", TAPS])
    assert face.facial is not None and face.facial.vit.width == 64
