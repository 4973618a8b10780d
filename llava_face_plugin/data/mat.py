"""MATLAB 7.3 files, which are HDF5: read by h5py in a process of its own.

Why its own process: HDF5's C library can crash on a damaged file, and would take the user's program with it. The
process is this file: ``python -m llava_face_plugin.data.mat``.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FaceDataError, FaceHostError
from ..maps.extras import install_hint
from .files import read_bytes

MOST = 20_000_000
"""Values of one variable (LFWA's labels are 0.5 million): a damaged size must not fill the memory (our default)."""
SECONDS = 300
"""For one file (one of LFWA's size takes 2): a damaged file must not be read for ever (our default)."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_PLACES = (0, 512, 1024, 2048)  # where HDF5 looks for it; MATLAB writes it at 512, after a text header


def read_mat(path: Path, member: str, numbers: Sequence[str], cells: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Variables of a ``.mat`` file, or of the file ``member`` in a ``.zip``.

    ``numbers``: matrices, as MATLAB shows them (rows, columns), float64. ``cells``: cell arrays of text, (N,) str in
    MATLAB's order. Raises ``FaceDataError`` naming the file, ``FaceHostError`` without h5py.
    """
    data = read_bytes(path, member)
    if data.startswith(b"MATLAB 5.0"):
        convert = f"x = load('{member}'); save('{member}', '-struct', 'x', '-v7.3')"
        raise FaceDataError(f"{path}: an older MATLAB file; MATLAB converts it: {convert}", "format")
    if not any(data.startswith(_SIGNATURE, place) for place in _PLACES):
        raise FaceDataError(f"{path}: not a MATLAB 7.3 file (it has no HDF5 signature)", "format")
    try:
        import h5py  # noqa: F401 (that it is there is said here and not by the other process)
    except ImportError as error:
        raise FaceHostError(f"{path}: MATLAB files need h5py: {install_hint('mat')} ({error})") from error
    wanted = [*(f"numbers:{name}" for name in numbers), *(f"cells:{name}" for name in cells)]
    try:
        done = run_apart(data, wanted)
    except subprocess.TimeoutExpired as error:
        raise FaceDataError(f"{path}: damaged (not read after {SECONDS} s)", "damaged") from error
    if done.returncode:
        said = " ".join(done.stderr.decode("utf-8", "replace").split())[-400:]
        why = said if done.returncode > 0 else f"HDF5 crashed on it, signal {-done.returncode}"
        raise FaceDataError(f"{path}: cannot be read ({why})", "damaged")
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as found:
        return {name: found[name] for name in (*numbers, *cells)}


def run_apart(data: bytes, wanted: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """``extract`` in another process: return code 0 and the ``.npz`` on stdout, or what is wrong on stderr."""
    command = [sys.executable, "-m", __name__, *wanted]
    return subprocess.run(command, input=data, capture_output=True, timeout=SECONDS)


def extract(data: bytes, wanted: Sequence[str]) -> bytes:
    """The variables ``kind:name`` of an HDF5 file's bytes as those of an ``.npz``. May crash the process."""
    import h5py

    with h5py.File(io.BytesIO(data), "r") as file:
        found: dict[str, Any] = {}
        for kind, _, name in (item.partition(":") for item in wanted):
            if name not in file:
                raise ValueError(f"it has no variable {name}")
            values = _values(name, file[name])
            if kind == "cells":
                found[name] = np.array([_text(name, file[reference]) for reference in values.T.flat], dtype=np.str_)
            elif values.dtype.kind in "biuf":
                found[name] = values.T.astype(np.float64)  # MATLAB stores columns first
            else:
                raise ValueError(f"{name}: expected numbers, found {values.dtype}")
    out = io.BytesIO()
    np.savez(out, **found)
    return out.getvalue()


def _values(name: str, item: Any) -> np.ndarray:
    if not hasattr(item, "dtype") or item.size is None:
        raise ValueError(f"{name}: expected an array, found {item!r}")
    if item.size > MOST:
        raise ValueError(f"{name}: it claims to hold {item.size:,} values")
    return np.asarray(item[()])


def _text(name: str, item: Any) -> str:
    """A char array: UTF-16 code units."""
    values = _values(name, item)
    if values.dtype != np.uint16:
        raise ValueError(f"{name}: expected text in every cell, found {values.dtype}")
    return values.T.tobytes().decode("utf-16-le")


if __name__ == "__main__":
    try:
        sys.stdout.buffer.write(extract(sys.stdin.buffer.read(), sys.argv[1:]))
    except Exception as problem:  # h5py raises OSError, RuntimeError, KeyError, ValueError, TypeError ... by turns
        sys.exit(f"{type(problem).__name__}: {problem}")
