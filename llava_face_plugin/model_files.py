"""The JSON files of a model directory: read and written whole, and what face mode marks in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import guard
from .errors import FaceConfigError
from .maps.files import atomic_path

_NAME_A_PROCESSOR = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
"""In the order in which transformers' ``AutoProcessor`` looks for ``processor_class``."""

AUTO_MAP = "auto_map"
"""Transformers' key for classes that a directory brings along."""

CODE = "face_classes"
"""Name, without ``.py``, of the module that ``mark_auto_map`` puts into a directory."""


def read_config(model_dir: Path, file: str = "config.json") -> dict[str, Any]:
    """A JSON file of a model directory.

    Raises ``FaceConfigError`` naming the file, and the line where it is broken.
    """
    path = model_dir / file
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise FaceConfigError(f"{path}: no such file; is {model_dir} a model directory?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FaceConfigError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(config, dict):
        raise FaceConfigError(f"{path}: expected an object, found {type(config).__name__}")
    return config


def write_config(model_dir: Path, config: Mapping[str, Any], file: str = "config.json") -> None:
    """Writes a JSON file in one step: never a half file, whatever happens."""
    with atomic_path(model_dir / file) as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def mark_processor(model_dir: Path, *, on: bool) -> None:
    """Has ``AutoProcessor`` take the processor that reads label maps, or the plain one again.

    Where no file names a class it goes by the model type, and nothing is to be done.
    """
    file = _names_the_processor(model_dir)
    if file is not None:
        content = read_config(model_dir, file)
        name = content["processor_class"]
        content["processor_class"] = guard.CLASS_MARK * on + name.removeprefix(guard.CLASS_MARK)
        write_config(model_dir, content, file)


def _names_the_processor(model_dir: Path) -> str | None:
    files = (file for file in _NAME_A_PROCESSOR if (model_dir / file).exists())
    return next((file for file in files if isinstance(read_config(model_dir, file).get("processor_class"), str)), None)


def mark_auto_map(model_dir: Path, *, on: bool) -> None:
    """Has transformers find the face classes by ``trust_remote_code=True``, or no longer.

    Puts a module into the directory that imports them from the plugin (which must be installed), and ``auto_map`` into
    ``config.json`` and the file that names the processor. Entries that are not ours stay.
    """
    config = read_config(model_dir)
    family = str(guard.transformers_family(config))
    prefix = guard.CLASS_MARK + "".join(part.capitalize() for part in family.split("_"))
    parts = {"AutoConfig": "Config", "AutoModel": "Model", "AutoModelForImageTextToText": "ForConditionalGeneration"}
    classes = {auto: prefix + part for auto, part in parts.items()} | {"AutoProcessor": f"{prefix}Processor"}
    _set_auto_map(model_dir, "config.json", classes if on else {})
    mark_code(model_dir, f"{prefix}Processor", on=on)


def mark_code(model_dir: Path, processor: str, *, on: bool) -> None:
    """The part of ``mark_auto_map`` that a saved processor of that class needs."""
    file = _names_the_processor(model_dir)
    if file is not None:
        _set_auto_map(model_dir, file, {"AutoProcessor": processor} if on else {})
    code = model_dir / f"{CODE}.py"
    if not on:
        code.unlink(missing_ok=True)
        return
    with atomic_path(code) as temporary:
        temporary.write_text("from llava_face_plugin.hosts.hf import *  # noqa: F403\n", encoding="utf-8")


def _set_auto_map(model_dir: Path, file: str, classes: Mapping[str, str]) -> None:
    content = read_config(model_dir, file)
    before = content.get(AUTO_MAP, {})
    others = {auto: name for auto, name in before.items() if not is_ours(name)}
    after = others | {auto: f"{CODE}.{name}" for auto, name in classes.items()}
    if after == before:
        return
    content[AUTO_MAP] = after
    if not after:
        del content[AUTO_MAP]
    write_config(model_dir, content, file)


def is_ours(name: Any) -> bool:
    """Whether an entry of ``auto_map`` names one of our classes; transformers puts the hub's repository in front."""
    return str(name).rpartition("--")[2].startswith(f"{CODE}.")
