"""The benchmarks that ``llava-face questions`` can make: a file a family, found by being in this folder.

A file whose name has no leading underscore (and is not ``base``) holds ``BENCHMARKS``, a tuple of ``Benchmark``. Two
that claim one task are refused.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from ...errors import FaceDataError
from ...registry import Registry
from .base import Benchmark, BuildOptions, Source, build

__all__ = ["BENCHMARKS", "Benchmark", "BuildOptions", "Source", "build", "fitting"]

BENCHMARKS: Registry[Benchmark] = Registry("benchmark")

for _module in pkgutil.iter_modules(__path__):
    if not _module.name.startswith("_") and _module.name != "base":
        for _benchmark in importlib.import_module(f"{__name__}.{_module.name}").BENCHMARKS:
            BENCHMARKS.register(_benchmark.task)(_benchmark)


def fitting(manifest: Path | None) -> list[Benchmark]:
    """The benchmarks that are made from this manifest's data set. Raises ``FaceDataError`` where there is none."""
    from ...data.manifest_file import load_manifest

    if manifest is None:
        raise FaceDataError("name tasks (--list shows them), or a --manifest for all tasks that fit it")
    path = manifest / "manifest.parquet" if manifest.is_dir() else manifest
    dataset = load_manifest(path).dataset
    found = [b for b in map(BENCHMARKS.__getitem__, BENCHMARKS) if dataset in b.datasets]
    if not found:
        raise FaceDataError(f"{path}: there is no task on {dataset}")
    return found
