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

_NOT_DECIDING = {"device", "batch_size"}
"""Settings of a parser that its maps do not depend on."""


@contextmanager
def writing(store: Path, *, started: bool = False) -> Iterator[None]:
    """Turns what the disk refuses into one ``FaceDataError``; ``started``: there may be finished work."""
    try:
        yield
    except OSError as error:
        where = f" at {error.filename}" if error.filename else ""
        kept = ". What is finished is kept: once this is put right, the same command goes on from here"
        told = f"map store {store}: cannot be written{where} ({error.strerror or error}){kept if started else ''}"
        raise FaceDataError(told, "unwritable") from error


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
    differences = []
    if (found.parser, found.digest) != (info.parser, info.digest):
        differences.append(f"another parser ({_parser_difference(found, info)})")
    if found.format != info.format:
        differences.append(f"--format {found.format}, not {info.format}")
    if found.max_side != info.max_side:
        differences.append(f"--max-side {found.max_side}, not {info.max_side}")
    if differences:
        raise FaceDataError(
            f"map store {store}: made with {' and '.join(differences)}; use another --out, or --overwrite to delete "
            f"what is there"
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
    """Holds the lock of one shard, ``i-of-n``. Raises ``FaceDataError`` if another process has it, or one of another n.

    The lock goes with the process, however that ends. Blocks of another n overlap with this one, so that images would
    be done twice. Of two processes of different n that start in the same moment both may be refused.
    """
    name = f"{shard[0]}-of-{shard[1]}"
    path = store / "locks" / f"{name}.lock"
    with writing(store):
        path.parent.mkdir(exist_ok=True)
        file = path.open("a")
    with file:
        _flock(file.fileno(), path)
        for other in path.parent.glob("*.lock"):  # after one's own is held: of two, at least one sees the other
            if not other.stem.endswith(f"-of-{shard[1]}"):
                with other.open("a") as theirs:
                    _flock(theirs.fileno(), other, shared=True)  # others of this n look at once
        yield name


def _flock(file: int, path: Path, *, shared: bool = False) -> None:
    import fcntl  # not on Windows

    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
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


def _parser_difference(found: StoreInfo, info: StoreInfo) -> str:
    """What the store was made with -> what is asked for now."""
    if found.parser != info.parser:
        return f"{found.parser} -> {info.parser}"
    keys = sorted({*found.settings, *info.settings} - _NOT_DECIDING)
    changed = [(key, found.settings.get(key), info.settings.get(key)) for key in keys]
    told = ", ".join(f"{key}: {before} -> {now}" for key, before, now in changed if before != now)
    return told or f"{found.parser} with the same settings and other weights or another version of this package"
