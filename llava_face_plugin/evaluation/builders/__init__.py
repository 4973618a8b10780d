"""The benchmarks that ``llava-face questions`` can make: a file a family, found by being in this folder.

A file whose name has no leading underscore (and is not ``base``) holds ``BENCHMARKS``, a tuple of ``Benchmark``. Two
that claim one task are refused.
"""

from __future__ import annotations

import importlib
import pkgutil

from ...registry import Registry
from .base import Benchmark, BuildOptions, Source, build

__all__ = ["BENCHMARKS", "Benchmark", "BuildOptions", "Source", "build"]

BENCHMARKS: Registry[Benchmark] = Registry("benchmark")

for _module in pkgutil.iter_modules(__path__):
    if not _module.name.startswith("_") and _module.name != "base":
        for _benchmark in importlib.import_module(f"{__name__}.{_module.name}").BENCHMARKS:
            BENCHMARKS.register(_benchmark.task)(_benchmark)
