"""The documents say what the code does: keys and defaults, commands, links, examples, and the recipes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from llava_face_plugin.cli.main import app
from llava_face_plugin.config import PRESETS, FaceConfig
from llava_face_plugin.encoders import ENCODERS
from llava_face_plugin.fusion import FUSIONS
from llava_face_plugin.model_files import read_config
from llava_face_plugin.switch import enable

from .hosts import upstream

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "patches" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RECIPES = ROOT / "scripts" / "recipes"
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
named = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of the face block with its default: a JSON value, ``"required"``, or a model for an object."""
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        default = field.get_default(call_default_factory=True)
        yield key, "required" if default is PydanticUndefined else default
        for inner in models_in(field.annotation):
            yield from keys(inner, key + ".")


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in models_in(part)]


def documented_defaults() -> dict[str, str]:
    """``config.md``'s table: key -> its cell of defaults."""
    section = (ROOT / "docs" / "config.md").read_text().partition("## Every key")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([\w.]+)` \|[^|]+\|([^|]*)\|", section, re.MULTILINE)
    return {key: default.strip().strip("`") for key, default in rows}


def test_every_key_is_documented_with_its_default() -> None:
    expected = {}
    for key, default in keys(FaceConfig):
        if isinstance(default, BaseModel):
            expected[key] = ""
        else:
            expected[key] = default if default == "required" else json.dumps(default)
    assert documented_defaults() == expected


def test_config_page_names_every_preset_encoder_and_fusion() -> None:
    text = (ROOT / "docs" / "config.md").read_text()
    assert [name for name in (*PRESETS, *ENCODERS, *FUSIONS) if f"`{name}`" not in text] == []


def test_config_examples_parse() -> None:
    found = []
    for page in PAGES:
        for text in blocks(page, "json"):
            content = json.loads(text)
            if isinstance(content, dict) and "face" in content:
                assert FaceConfig.of(content, page.name) is not None
                found.append((page.name, content["face"]))
    assert {name for name, _ in found} == {"README.md", "config.md"}
    whole = next(block for name, block in found if name == "config.md")
    assert whole["knowledge"].keys() == FaceConfig.parse(whole).to_dict()["knowledge"].keys()
    assert whole["segmentation"].keys() == FaceConfig.parse(whole).to_dict()["segmentation"].keys()


@named
def test_commands_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for command, rest in re.findall(r"llava-face ([a-z][\w-]*)([^`\n|#]*)", text):
        assert command in COMMANDS, f"llava-face {command}"
        called = COMMANDS[command]
        if hasattr(called, "commands"):  # a group: `llava-face maps check`
            called = called.commands[rest.split()[0]]
        options = {name for parameter in called.params for name in parameter.opts + parameter.secondary_opts}
        used = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", rest.partition(":")[0])) - {"--help"}
        assert used <= options, f"llava-face {command}: {sorted(used - options)}"


def slug(heading: str) -> str:
    """The anchor GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@named
def test_links_resolve(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            anchors = {slug(h) for h in re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)}
            assert anchor in anchors, target


@named
def test_python_examples_compile(page: Path) -> None:
    for text in blocks(page, "python"):
        compile(text, str(page), "exec")


@pytest.mark.parametrize("script", sorted(p.name for p in RECIPES.iterdir() if p.suffix in (".sh", ".sbatch")))
def test_recipes_are_valid_bash(script: str) -> None:
    result = subprocess.run(["bash", "-n", RECIPES / script], capture_output=True, text=True)
    assert result.returncode == 0 and not result.stderr


def as_flags(words: list[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=True))


def test_recipes_and_readme_have_the_same_training_flags() -> None:
    command = next(b for b in blocks(ROOT / "README.md", "bash") if b.startswith("deepspeed llava/train/train_mem.py"))
    readme = as_flags(shlex.split(command.replace("\\\n", " "))[2:])
    script = f'source "{RECIPES}/common.sh"; finetune_flags; printf "%s\\n" "${{FLAGS[@]}}"'
    # The variables of the recipes must not be set by whoever runs the tests.
    result = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, env={"PATH": os.defpath}
    )
    recipe = as_flags(result.stdout.split())
    own = {"--data_path", "--image_folder", "--report_to"}
    assert recipe.keys() == readme.keys()
    assert {f: v for f, v in recipe.items() if f not in own} == {f: v for f, v in readme.items() if f not in own}


def recipe(script: str, cwd: Path, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A recipe as a user starts it, with the python and the llava-face of this environment."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    return upstream.run(["bash", RECIPES / script, *flags], cwd, PATH=path, **variables)


@pytest.fixture
def paths(tiny_base: Path, tmp_path: Path) -> dict[str, str]:
    """The recipes' variables for eight drawn faces and the tiny base."""
    llava = pytest.importorskip("llava", reason="needs the host package: llava-torch==1.2.2.post1")
    from llava_face_plugin.data.made import make

    make(tmp_path / "faces", 8, 0, seed=0)
    return {
        "VISION_TOWER": str(tiny_base / "clip"), "DATA_PATH": str(tmp_path / "faces" / "train.json"),
        "IMAGE_FOLDER": str(tmp_path / "faces"), "OUT": str(tmp_path / "llava-out"), "ADAPTER": "",
        "TRAIN": str(Path(llava.__path__[0]) / "train" / "train_mem.py"), "BATCH": "4", "ACCUMULATION": "1",
    }  # fmt: skip


@pytest.mark.launch
def test_the_single_gpu_recipe_checks_trains_and_checks(paths: dict[str, str], tiny_base: Path, tmp_path: Path) -> None:
    enable(tiny_base, preset="faceinsight", out=tmp_path / "base")
    cpu = "--bf16 False --tf32 False --use_cpu True --dataloader_num_workers 0 --max_steps 2 --save_strategy no"
    result = recipe("single_gpu.sh", tmp_path, *cpu.split(), MODEL_DIR=str(tmp_path / "base"), **paths)
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    assert read_config(Path(paths["OUT"]))["architectures"] == ["LlavaFaceLlamaForCausalLM"]
    assert result.stdout.count("healthy") == 2, "the check before or after the run is missing"
    assert len(upstream.logs(Path(paths["OUT"]))) == 2


@pytest.mark.launch
def test_a_recipe_stops_before_training_without_face_mode(
    paths: dict[str, str], tiny_base: Path, tmp_path: Path
) -> None:
    result = recipe("single_gpu.sh", tmp_path, MODEL_DIR=str(tiny_base), **paths)
    assert result.returncode == 1
    assert "off (no face block)" in result.stdout
    assert not Path(paths["OUT"]).exists()
