"""MATLAB 7.3 files as MATLAB writes them, LFWA in that form, and a fast stand-in for the process that reads them."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sample_parts import TEST, TRAIN, Truth, touch

from llava_face_plugin.data.mat import extract
from llava_face_plugin.labels import CELEBA_ATTRIBUTES


def write_mat(path: Path, cells: dict[str, list[str]], numbers: dict[str, np.ndarray]) -> None:
    """Columns first, text as UTF-16 code units behind references, 512 bytes of text before the HDF5 part."""
    import h5py

    with h5py.File(path, "w", userblock_size=512, libver="earliest") as file:
        for name, values in numbers.items():
            options = {"compression": "gzip", "chunks": True} if values.size > 100 else {}
            file.create_dataset(name, data=values.T.astype(np.float64), **options).attrs["MATLAB_class"] = b"double"
        for name, words in cells.items():
            references = np.empty((1, len(words)), dtype=h5py.ref_dtype)
            for i, word in enumerate(words):
                units = np.frombuffer(word.encode("utf-16-le"), dtype="<u2")[:, None]
                text = file.create_dataset(f"#refs#/{name}{i}", data=units)
                text.attrs["MATLAB_class"] = b"char"
                references[0, i] = text.ref
            file.create_dataset(name, data=references, dtype=h5py.ref_dtype).attrs["MATLAB_class"] = b"cell"
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan  5 12:00:00 2015 HDF5 schema 1.00 ."
    with open(path, "r+b") as stream:
        stream.write(header.ljust(124) + b"\x00\x02IM")


def lfwa(root: Path, rng: np.random.Generator) -> Truth:
    people = [f"Person_{chr(65 + i // 3)}" for i in range(36)]
    names = [f"{p}\\{p}_{1 + i % 3:04d}.jpg" for i, p in enumerate(people)]
    values = rng.integers(0, 2, (36, 40))
    write_mat(root / "lfw_att_40.mat", {"AttrName": list(CELEBA_ATTRIBUTES), "name": names}, {"label": values})
    split = [TEST if i // 3 % 2 else TRAIN for i in range(36)]
    numbers = {
        f"indices_img_{name}": 1.0 + np.flatnonzero(np.array(split) == code)[:, None]
        for name, code in (("train", TRAIN), ("test", TEST))
    }
    write_mat(root / "indices_train_test.mat", {}, numbers)
    images = [f"lfw/{n}".replace("\\", "/") for n in names]
    touch(root, images)
    return Truth(images, split, {}, values, annotations=("lfw_att_40.mat", "indices_train_test.mat"), people=people)


def run_forked(data: bytes, wanted: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """As ``mat.run_apart``: a process of its own too, but without the fifth of a second that Python takes to start."""
    with tempfile.TemporaryFile() as out:
        if not (child := os.fork()):
            signal.alarm(30)
            try:
                code = int(not out.write(extract(data, wanted)))
            except Exception as problem:
                code = int(bool(out.write(f"{type(problem).__name__}: {problem}".encode())))
            out.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        said = out.read()
    return subprocess.CompletedProcess(list(wanted), code, b"" if code else said, said if code else b"")
