"""New directories that appear whole or not at all, and files in them that cost no disk where that can be."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import FaceConfigError


@contextmanager
def new_directory(out: Path) -> Iterator[Path]:
    """A directory beside ``out`` to write to; it becomes ``out`` at the end, and vanishes on an error.

    Raises ``FaceConfigError`` if ``out`` is there and not an empty directory.
    """
    check_free(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        yield work
        become(work, out)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def check_free(out: Path) -> None:
    """Raises ``FaceConfigError`` if ``out`` is there and not an empty directory."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FaceConfigError(f"{out} exists and is not an empty directory")


def become(work: Path, out: Path) -> None:
    """Gives a finished directory its name, and the permissions that any new one would have."""
    mask = os.umask(0)
    os.umask(mask)
    work.chmod(0o777 & ~mask)
    if out.exists():
        out.rmdir()
    os.replace(work, out)


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for the same file, or a copy where the file system has no such thing."""
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def copy_tree(source: Path, target: Path, without: Collection[str]) -> None:
    """Copies what lies in a model directory (tokenizer, processor, a tower in a folder), save for ``without``.

    Copies and no links: these files are small, and people edit them.
    """
    for entry in sorted(source.iterdir()):
        if entry.name in without:
            continue
        if entry.is_dir():
            shutil.copytree(entry, target / entry.name, copy_function=_cheaply)
        else:
            _cheaply(str(entry), str(target / entry.name))


def _cheaply(source: str, target: str) -> str:
    if Path(source).suffix in (".safetensors", ".bin", ".pt", ".pth", ".onnx"):
        link_or_copy(Path(source), Path(target))
    else:
        shutil.copyfile(source, target)
    return target
