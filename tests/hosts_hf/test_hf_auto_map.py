"""``enable --auto-map``: who trusts a directory's code loads it without importing the plugin."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from typer.testing import CliRunner

from llava_face_plugin.cli.main import app
from llava_face_plugin.errors import FaceConfigError
from llava_face_plugin.hosts.hf.carried import brings_code
from llava_face_plugin.model_files import CODE
from llava_face_plugin.switch import disable, enable
from tests.core.standin import FUSION_BLOCKS, encoder_blocks

from .tiny_hf import FAMILIES, VIDEO_FAMILIES, batch, build, load, switched_on

pytestmark = pytest.mark.contract

LOAD = """
import json, sys, torch
from pathlib import Path
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor
trust, names = {"trust_remote_code": True}, []
for folder in map(Path, sys.argv[1:]):
    config = AutoConfig.from_pretrained(folder, **trust)
    model = AutoModelForImageTextToText.from_pretrained(folder, **trust).eval()
    loaded = [config, model, AutoModel.from_pretrained(folder, **trust)]
    if (folder / "processor_config.json").exists():
        loaded.append(AutoProcessor.from_pretrained(folder, **trust))
    out = folder.with_name(folder.name + "-saved")
    for one in loaded[1::2]:
        one.save_pretrained(out)
    with torch.no_grad():
        torch.save(model(**torch.load(folder.with_suffix(".batch"))).logits, folder.with_suffix(".logits"))
    names.append([type(one).__name__ for one in loaded])
print(json.dumps(names))
"""


def in_a_fresh_process(code: str, cache: Path, *folders: Path) -> subprocess.CompletedProcess[str]:
    """Nothing of ours is imported there unless a directory does it. ``cache``: where transformers keeps such code."""
    environment = {**os.environ, "LLAVA_FACE": "0", "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, folders)], capture_output=True, text=True, timeout=200,
        env={**environment, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip


def brought(family: str, root: Path, out: Path, encoder: str = "part-embedding", fusion: str = "gated_add") -> Path:
    """The linked copy of ``switched_on`` once more, with ``auto_map``."""
    settings = {**encoder_blocks(encoder, width=16), "fusion": FUSION_BLOCKS[fusion], "knowledge": {"hidden": 16}}
    enable(build(family, root / family), knowledge="made", out=out, auto_map=True, settings=settings)
    return out


def test_trusted_code_loads_what_an_import_loads(root: Path, tmp_path: Path) -> None:
    """And what is saved then brings its code, too, and none of the plugin's sources, which transformers would copy."""
    which = [*((family, "part-embedding", "gated_add") for family in FAMILIES), ("llava", "facial", "moe")]
    folders = [brought(family, root, tmp_path / "-".join([family, *of]), *of) for family, *of in which]
    for source in (folders, [folder.with_name(f"{folder.name}-saved") for folder in folders]):
        for (family, *_), folder in zip(which, source, strict=True):
            torch.save(batch(family), folder.with_suffix(".batch"))
        result = in_a_fresh_process(LOAD, tmp_path / "cache", *source)
        assert result.returncode == 0, result.stderr[-3000:]
        assert json.loads(result.stdout.splitlines()[-1]) == [class_names(family) for family, *_ in which]
        for (family, *of), folder in zip(which, source, strict=True):
            with torch.no_grad():
                expected = load(switched_on(family, root, *of))(**batch(family)).logits
            assert torch.equal(torch.load(folder.with_suffix(".logits")), expected)
            assert [path.name for path in folder.glob("*.py")] == [f"{CODE}.py"]
    for file in ("config.json", "processor_config.json"):
        saved = folders[0].with_name(f"{folders[0].name}-saved")
        written = [json.loads((folder / file).read_text()) for folder in (folders[0], saved)]
        assert written[0]["auto_map"] == written[1]["auto_map"]


def class_names(family: str) -> list[str]:
    """In the order of ``LOAD``."""
    name = "Face" + "".join(part.capitalize() for part in family.split("_"))
    kinds = ["Config", "ForConditionalGeneration", "Model"]
    return [name + kind for kind in kinds + ["Processor"] * (family not in VIDEO_FAMILIES)]  # theirs need torchvision


def test_a_processor_saved_alone_brings_its_code(root: Path, tmp_path: Path) -> None:
    processor = AutoProcessor.from_pretrained(brought("llava", root, tmp_path / "face"))
    processor.save_pretrained(tmp_path / "alone")
    saved = json.loads((tmp_path / "alone" / "processor_config.json").read_text())
    assert saved["auto_map"] == {"AutoProcessor": f"{CODE}.FaceLlavaProcessor"}
    assert (tmp_path / "alone" / f"{CODE}.py").is_file()


def test_without_trust_it_is_refused_by_name(root: Path, tmp_path: Path) -> None:
    source = brought("llava", root, tmp_path / "face")
    code = "import sys, transformers; transformers.AutoModelForImageTextToText.from_pretrained(sys.argv[1])"
    result = in_a_fresh_process(code, tmp_path / "cache", source)
    assert result.returncode != 0 and "trust_remote_code=True" in result.stderr


def test_with_the_plugin_imported_nothing_is_asked(root: Path, tmp_path: Path) -> None:
    """We pass no trust_remote_code anywhere, and need none: the registered class comes first."""
    source = brought("llava", root, tmp_path / "face")
    model = AutoModelForImageTextToText.from_pretrained(source)
    assert type(model).__module__ == "llava_face_plugin.hosts.hf.model"
    assert type(AutoProcessor.from_pretrained(source)).__module__ == "llava_face_plugin.hosts.hf.processing"


@pytest.mark.parametrize("family", FAMILIES)
def test_disable_takes_it_off(root: Path, tmp_path: Path, family: str) -> None:
    folder = Path(shutil.copytree(build(family, root / family), tmp_path / family))
    before = [path.name for path in sorted(folder.iterdir())], json.loads((folder / "config.json").read_text())
    result = CliRunner().invoke(app, ["enable", str(folder), "--auto-map"])
    assert result.exit_code == 0, result.output
    assert (folder / f"{CODE}.py").is_file()
    config = json.loads((folder / "config.json").read_text())
    assert set(config["auto_map"]) == {"AutoConfig", "AutoModel", "AutoModelForImageTextToText", "AutoProcessor"}
    assert disable(folder) is True
    after = [path.name for path in sorted(folder.iterdir())], json.loads((folder / "config.json").read_text())
    assert after == before


def test_enabling_again_without_the_option_takes_it_off(root: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(build("llava", root / "llava"), tmp_path / "llava"))
    enable(folder)
    once = read(folder)
    enable(folder, auto_map=True)
    assert read(folder) != once
    enable(folder)
    assert read(folder) == once


def read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.suffix in (".json", ".py")}


def test_entries_of_others_stay(root: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(build("llava", root / "llava"), tmp_path / "llava"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModelForVision2Seq": "own.Class"}}))
    enable(folder, auto_map=True)
    assert json.loads((folder / "config.json").read_text())["auto_map"]["AutoModelForVision2Seq"] == "own.Class"
    disable(folder)
    assert json.loads((folder / "config.json").read_text())["auto_map"] == {"AutoModelForVision2Seq": "own.Class"}


def test_a_linked_copy_leaves_the_original_alone(root: Path, tmp_path: Path) -> None:
    before = read(build("llava", root / "llava"))
    brought("llava", root, tmp_path / "face")
    assert read(root / "llava") == before


def test_llavas_own_package_has_no_such_option(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava_llama", "mm_projector_type": "mlp2x_gelu"}))
    with pytest.raises(FaceConfigError, match="--auto-map"):
        enable(tmp_path, auto_map=True)


def test_where_transformers_names_the_hub(root: Path) -> None:
    assert brings_code({"auto_map": {"AutoModel": f"someone/face--{CODE}.FaceLlavaModel"}})
    assert not brings_code({"auto_map": {"AutoModel": "other.Model"}}) and not brings_code({})
