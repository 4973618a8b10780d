"""A room imports only from rooms on floors above it (shared design, section 1): read off the sources."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "llava_face_plugin"
FLOORS = (
    ("errors", "labels", "constants"),
    ("registry",),
    ("explain",),
    ("rulebook", "parser_config", "facial_config"),
    ("config", "guard"),
    ("maps",),
    ("reports",),
    ("parsing",),
    ("segment",),
    ("video",),
    ("encoders",),
    ("fusion",),
    ("knowledge",),
    ("branch",),
    ("data",),
    ("model_files", "facial_files", "summary"),
    ("switch",),
    ("hosts",),
    ("stages",),
    ("checkpoints",),
    ("planning",),
    ("evaluation",),
    ("tiny", "launch"),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
CORE = ("errors", "registry", "explain", "labels", "constants", "rulebook", "parser_config", "facial_config",
        "config", "guard", "encoders", "fusion", "knowledge", "branch")  # fmt: skip
SOURCES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, wherever in it."""
    package = ["llava_face_plugin", *path.relative_to(PACKAGE).parts[:-1]]
    out: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            out.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            stem = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*stem, *([node.module] if node.module else [])])
            out.update([name, *(f"{name}.{alias.name}" for alias in node.names)])
    return out


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_imports_upwards(path: Path) -> None:
    room = room_of(path)
    rooms = {n.split(".")[1] for n in imported(path) if n.startswith("llava_face_plugin.")} & set(LEVEL)
    assert room in LEVEL, f"{room} has no floor: add it to FLOORS"
    assert [other for other in sorted(rooms - {room}) if LEVEL[other] >= LEVEL[room]] == []


@pytest.mark.parametrize("path", [p for p in SOURCES if room_of(p) in CORE], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_core_imports_no_host(path: Path) -> None:
    hosts = {name.split(".")[0] for name in imported(path)} & {
        "llava",
        "transformers",
        "lmms_eval",
        "peft",
        "deepspeed",
    }
    assert not hosts or path.name == "backbones.py", f"{path.name} imports {hosts}"
