"""The store that is written to: made or checked, locked, and what it already has."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import FaceConfigError, FaceDataError
from ..maps.store import INFO, StoreInfo

PARTS = ("maps", "manifest", "shards", "tmp", "locks")
"""The folders that a store is made of."""


@contextmanager
def writing(store: Path) -> Iterator[None]:
    """Turns what the disk refuses into one ``FaceDataError``."""
    try:
        yield
    except OSError as error:
        where = f" at {error.filename}" if error.filename else ""
        raise FaceDataError(
            f"map store {store}: cannot be written{where} ({error.strerror or error}). What is finished is kept: once "
            f"this is put right, the same command goes on from here",
            "unwritable",
        ) from error


def make_store(store: Path, info: StoreInfo) -> None:
    """Makes a store, or checks that ``store`` is one of this parser and format.

    Several processes may do this at once. Raises ``FaceDataError`` for a folder with other content, and for a store of
    another parser, format or map size.
    """
    with writing(store):
        store.mkdir(parents=True, exist_ok=True)
        if not (store / INFO).exists():
            foreign = sorted(p.name for p in store.iterdir() if not p.name.startswith("."))
            if foreign and not (store / INFO).exists():  # unless another process has just made it
                raise FaceDataError(
                    f"{store}: neither empty nor a map store (it has {foreign[0]!r}): use another --out"
                )
            _write_once(store / INFO, info.to_json())
    found = StoreInfo.read(store)
    for what, is_there, wanted in (
        ("parser", (found.parser, found.digest), (info.parser, info.digest)),
        ("--format", found.format, info.format),
        ("--max-side", found.max_side, info.max_side),
    ):
        if is_there != wanted:
            raise FaceDataError(
                f"map store {store}: made with {what} {_shown(is_there)}, not {_shown(wanted)}; use another --out, or "
                f"--overwrite to delete what is there"
            )


def overwrite_store(store: Path, shard: tuple[int, int]) -> None:
    """Deletes a store's content. Raises an error if it is no store, in use, or to be written in several shards."""
    if not store.exists() or (store.is_dir() and not any(store.iterdir())):
        return
    if shard != (1, 1):
        raise FaceConfigError(
            "--overwrite deletes what other shards have done: use it without --shard, or delete the store beforehand"
        )
    StoreInfo.read(store)
    with writing(store):
        for path in (store / "locks").glob("*.lock"):
            with path.open("a") as file:
                _flock(file.fileno(), path)
        for part in PARTS:
            if (store / part).is_dir():
                shutil.rmtree(store / part)
        (store / INFO).unlink()


@contextmanager
def locked(store: Path, shard: tuple[int, int]) -> Iterator[str]:
    """Holds the lock of one shard, ``i-of-n``. Raises ``FaceDataError`` if another process has it.

    The lock goes with the process, however that ends.
    """
    name = f"{shard[0]}-of-{shard[1]}"
    path = store / "locks" / f"{name}.lock"
    with writing(store):
        path.parent.mkdir(exist_ok=True)
        file = path.open("a")
    with file:
        _flock(file.fileno(), path)
        yield name


def _flock(file: int, path: Path) -> None:
    import fcntl  # not on Windows

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FaceDataError(
            f"map store {path.parents[1]}: another `llava-face segment` is at work on shard {path.stem}; wait "
            f"for it, or stop it first",
            "locked",
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        warnings.warn(f"{path}: this file system has no locks; see to it that no shard runs twice", stacklevel=2)


def _write_once(path: Path, text: str) -> None:
    """Makes a whole file, unless there is one."""
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    try:
        os.link(temporary, path)
        temporary.unlink()
    except FileExistsError:
        temporary.unlink()
    except OSError:  # a file system without hard links; another process writes the same text
        os.replace(temporary, path)


def _shown(value: object) -> str:
    return f"{value[0]} ({value[1][:12]}...)" if isinstance(value, tuple) else str(value)
