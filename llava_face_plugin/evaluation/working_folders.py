"""The folder in which a task is run: hidden, named by machine and process, and moved into place when all is well."""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def working_folder(out: Path, name: str) -> Iterator[Path]:
    """A new folder in ``out`` for one run of the task ``name``, gone afterwards unless ``swap`` has moved it."""
    work = Path(tempfile.mkdtemp(dir=out, prefix=f".{name}.{host()}-{os.getpid()}."))
    work.chmod(0o755)  # mkdtemp makes private folders; this one becomes the result
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def host() -> str:
    """This machine, as its working folders name it."""
    return re.sub(r"\W", "_", platform.node())  # lmms-eval cannot take every path


def clear_stale(out: Path, names: Sequence[str]) -> None:
    """Removes the working folders that a killed run left. Not another machine's, nor those of a run that goes on."""
    for name in names:
        start = f".{name}.{host()}-"
        for left in list(out.glob(f"{start}*.*")):
            process = int(left.name.removeprefix(start).partition(".")[0])
            if process == os.getpid() or not _lives(process):
                shutil.rmtree(left, ignore_errors=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def swap(work: Path, folder: Path) -> None:
    """``work`` becomes ``folder``; what was there goes."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    work.replace(folder)
    shutil.rmtree(old, ignore_errors=True)
